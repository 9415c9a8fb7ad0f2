"""train_rejector.py from a trained pair of nets to the rules of a report."""

import json
import shutil

import numpy as np
import pytest
import torch

import data
import eval_all
import eval_fprint
import experiment
import train_edgenet_async
import train_localnet
import train_rejector
from deferral import predictions as saved
from deferral.decide import decide
from learning_to_help import amortized
from learning_to_help.estimators import build
from losses.surrogates import COST_FREE
from models.checkpoints import edge_net, local_net
from models.inference import predict
from tests.made import SMALL_EDGE, make_npz, quiet

FEW = ["--epochs", 2, "--batch_size", 32]
PAIRS = ["1:0", "1.25:0.25"]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """(data, run): nets that never saw 40 of the images, extra surrogates, all rules."""
    folder = tmp_path_factory.mktemp("held")
    npz = make_npz(folder / "tiny.npz", train=200)
    run = folder / "run"
    common = ["--dataset", npz, "--save_dir", run]
    kept = ["--rejector_val_size", 40, "--val_size", 30]
    quiet(train_localnet.main, *common, *kept, "--epochs", 2, "--lr", 0.01)
    quiet(
        train_edgenet_async.main, *common, *kept, *SMALL_EDGE, "--epochs", 2, "--costs", *PAIRS,
        "--extra_surrogates", "cost_sensitive", *COST_FREE, "--extra_costs", "1.25:0.25",
        "--schedule", "cosine", "--augment", "flip_crop", "--weight_decay", 1e-3,
    )  # fmt: skip
    quiet(
        train_rejector.main, *common, *FEW, "--rejector", "amortized", "per_cost",
        "--rejector_input", "features", "image", "both", "--costs", *PAIRS,
        "--surrogates", "stage_switching", "released",
    )  # fmt: skip
    quiet(eval_all.main, *common)
    return npz, run


def test_all_rules_arrive(held):
    pred = saved.load(held[1] / "tiny-predictions.npz")
    names = {*COST_FREE, "amortized, features", "amortized, image", "amortized, both"}
    assert {e["name"] for e in pred.settings["estimators"]} == names
    assert pred.estimates.shape == (len(names), 2, 90)
    per_cost = {f"{s}, {i}" for s in ("stage_switching", "released") for i in ("features", "image",
                "both")}  # fmt: skip
    found = decide(pred, 1.25, 0.25)
    assert names | per_cost | {"stage_switching", "cost_sensitive", "post_hoc"} <= set(found)
    assert "cost_sensitive" not in decide(pred, 1, 0)
    assert len(pred.settings["rejectors"]) == 2 + 1 + 3 * 2 * 2
    for setting in (*pred.settings["rejectors"], *pred.settings["estimators"]):
        assert setting["parameters"] > 0
        assert setting["multiply_adds"] > 0
    files = [held[1] / f"tiny-eval_{name}.json" for name in ("all", "extra")]
    first, extra = (json.loads(path.read_text()) for path in files)
    assert {*first, *extra} == {r["stem"] for r in pred.settings["rejectors"]}
    costs = ("cost_1-1-cost_e-0", "cost_1-1.25-cost_e-0.25")
    assert set(first) == {f"tiny-edgenet-async-1-{pair}" for pair in costs}


def test_estimates_are_those_of_the_checkpoint(held):
    """Val and test by hand: the net of the file on m's features, image by image order kept."""
    npz, run = held
    dataset = data.load(str(npz), val_size=30, rejector_val_size=40)
    assert [len(p.labels) for p in (dataset.train, dataset.val, dataset.rejector)] == [130, 30, 40]
    checkpoint = experiment.load_checkpoint(run / "tiny-rejector-both.pth")
    local = local_net(experiment.load_checkpoint(run / "tiny-localnet.pth"), 4, "m")
    net = build(checkpoint, "here").eval()
    pred = saved.load(run / "tiny-predictions.npz")
    row = [e["name"] for e in pred.settings["estimators"]].index("amortized, both")
    images = torch.cat([dataset.val.images, dataset.test.images]) / 127.5 - 1
    with torch.no_grad():
        expected = net(images, *local.with_features(images)).sigmoid().T
    wrong = np.abs(pred.estimates[row] - expected.numpy())
    assert wrong.max() < 1e-3, (wrong.max(), (wrong > 1e-4).sum())
    per_cost = [r["stem"] for r in pred.settings["rejectors"]].index(
        "tiny-rejector-both-released-cost_1-1.25-cost_e-0.25"
    )
    with torch.no_grad():
        described = net.describe(net.student(images, local.with_features(images)[1]), local(images))
    score = described @ checkpoint["per_cost_weight"][3] + checkpoint["per_cost_bias"][3]
    assert np.allclose(pred.scores[per_cost], score, atol=1e-3)


def test_the_combiner_is_fitted_on_what_neither_net_saw(held, tmp_path, monkeypatch):
    npz, run = held
    copied = shutil.copytree(run, tmp_path / "run")
    seen = {}
    for name in ("fit_combiner", "calibrate"):
        own = getattr(amortized, name)
        monkeypatch.setattr(
            amortized,
            name,
            lambda net, x, right, own=own, name=name: (
                seen.update({name: right}),
                own(net, x, right),
            ),
        )
    quiet(train_rejector.main, "--dataset", npz, "--save_dir", copied, *FEW, "--overwrite")
    dataset = data.load(str(npz), val_size=30, rejector_val_size=40)
    nets = [
        build_net(experiment.load_checkpoint(run / f"tiny-{kind}net.pth"), 4, kind)
        for build_net, kind in ((local_net, "local"), (edge_net, "edge"))
    ]
    for name, part in (("fit_combiner", dataset.rejector), ("calibrate", dataset.val)):
        batches = data.Batches(part, 50, "cpu")
        expected = amortized.both_right(*(predict(net, batches) for net in nets), part.labels)
        assert torch.equal(seen[name], expected)


def test_without_rejector_images_val_is_used(npz, run_copy):
    quiet(train_rejector.main, "--dataset", npz, "--save_dir", run_copy, *FEW)
    checkpoint = experiment.load_checkpoint(run_copy / "tiny-rejector-features.pth")
    assert checkpoint["fitted_on"] == "12 images of val"
    quiet(eval_all.main, "--dataset", npz, "--save_dir", run_copy, "--overwrite")
    assert decide(saved.load(run_copy / "tiny-predictions.npz"), 7, 0.3)["amortized, features"]


def test_same_seed_same_weights(held, tmp_path):
    npz, run = held
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        copied = shutil.copytree(run, tmp_path / name)
        flags = ["--overwrite", "--seed", seed, "--rejector_input", "image"]
        quiet(train_rejector.main, "--dataset", npz, "--save_dir", copied, *FEW, *flags)
        found.append(experiment.load_checkpoint(copied / "tiny-rejector-image.pth")["state_dict"])
    a, b, c = found
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    assert not torch.equal(a["image_net.fc1.weight"], c["image_net.fc1.weight"])


def test_complete_is_kept_and_a_second_run_refused(held, refused, capsys):
    npz, run = held
    common = "--dataset", npz, "--save_dir", run
    refused(train_rejector.main, *common, *FEW, telling="--overwrite replaces it")
    before = (run / "tiny-rejector.json").read_bytes()
    args = json.loads((run / "args.json").read_text())["tiny-rejector"]["args"]
    again = ["--rejector", *args["rejector"], "--rejector_input", *args["rejector_input"]]
    again += ["--costs", *PAIRS, "--surrogates", *args["surrogates"], "--resume"]
    quiet(train_rejector.main, *common, *FEW, *again)
    assert (run / "tiny-rejector.json").read_bytes() == before


@pytest.fixture(scope="module")
def with_students(held, tmp_path_factory):
    """A copy of the run with rejectors on features and of two networks on the image, evaluated."""
    npz, run = held
    copied = shutil.copytree(run, tmp_path_factory.mktemp("students") / "run")
    common = ["--dataset", npz, "--save_dir", copied, "--overwrite"]
    nets = ["--rejector_input", "features", "both", "--rejector_net", "small", "lenet5"]
    quiet(train_rejector.main, *common, *FEW, *nets)
    quiet(eval_all.main, *common)
    return copied


def test_students_have_names_costs_and_answers_of_their_own(held, with_students):
    npz, _ = held
    pred = saved.load(with_students / "tiny-predictions.npz")
    settings = {e["name"]: e for e in pred.settings["estimators"]}
    names = {"amortized, features", "amortized, both", "amortized, both, small"}
    assert names <= set(settings)
    assert names <= set(decide(pred, 1.25, 0.25))
    counts = [settings[name]["multiply_adds"] for name in sorted(names)]
    assert counts[1] < 220_000 < 651_720 < counts[0]
    assert pred.settings["students"] == ["amortized, both, small"]
    net = build(experiment.load_checkpoint(with_students / "tiny-rejector-both-small.pth"), "here")
    dataset = data.load(str(npz), val_size=30, rejector_val_size=40)
    images = torch.cat([dataset.val.images, dataset.test.images]) / 127.5 - 1
    with torch.no_grad():
        answers = net.eval().student(images, None)[:, :4]
    np.testing.assert_allclose(pred.student_logits[0], answers, atol=1e-3)
    assert pred.part("test").student_logits.shape == (1, 60, 4)


def test_a_killed_run_resumes_to_the_same_weights(held, with_students, tmp_path, monkeypatch):
    npz, run = held
    copied = shutil.copytree(run, tmp_path / "run")
    common = ["--dataset", npz, "--save_dir", copied, *FEW]
    common += ["--rejector_input", "features", "both", "--rejector_net", "small", "lenet5"]

    def killed(net, *args, own=amortized.train_student, **kwargs):
        if net.net == "small":
            raise KeyboardInterrupt
        return own(net, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(amortized, "train_student", killed)
        with pytest.raises(SystemExit):
            quiet(train_rejector.main, *common, "--overwrite")
    features = copied / "tiny-rejector-features.pth"
    before = features.stat().st_mtime_ns
    assert not (copied / "tiny-rejector.json").exists()
    quiet(train_rejector.main, *common, "--resume")
    assert features.stat().st_mtime_ns == before
    for path in sorted(with_students.glob("tiny-rejector-*.pth")):
        weights = [
            experiment.load_checkpoint(folder / path.name)["state_dict"]
            for folder in (with_students, copied)
        ]
        assert all(torch.equal(v, weights[1][k]) for k, v in weights[0].items())
    digests = json.loads((copied / "tiny-rejector.json").read_text())["sha256"]
    assert set(digests) == {path.name for path in copied.glob("tiny-rejector-*.pth")}


def test_an_extra_surrogate_in_eval_fprint(held, capsys):
    npz, run = held
    path = run / "tiny-edgenet-async-1-one_vs_all.pth"
    eval_fprint.main(["--dataset", str(npz), "--model_path", str(path)])
    assert "knows no costs" in capsys.readouterr().out
    path = run / "tiny-edgenet-async-1-cost_1-1.25-cost_e-0.25-cost_sensitive.pth"
    eval_fprint.main(["--dataset", str(npz), "--model_path", str(path)])
    assert "risk at c_1 1.25, c_e 0.25" in capsys.readouterr().out


def test_seeds(npz, tmp_path):
    """--seeds 3 4 is --seed 3 and --seed 4, each in its own folder."""
    common = ["--dataset", npz, "--epochs", 1]
    quiet(train_localnet.main, *common, "--save_dir", tmp_path, "--seeds", 3, 4)
    quiet(train_localnet.main, *common, "--save_dir", tmp_path / "alone", "--seed", 4)
    nets = [
        experiment.load_checkpoint(folder / "tiny-localnet.pth")["state_dict"]
        for folder in (tmp_path / "seed-3", tmp_path / "seed-4", tmp_path / "alone")
    ]
    assert torch.equal(nets[1]["fc3.weight"], nets[2]["fc3.weight"])
    assert not torch.equal(nets[0]["fc3.weight"], nets[2]["fc3.weight"])


def test_bad_input(held, npz, tmp_path, refused):
    made, run = held
    refused(
        train_rejector.main, "--dataset", made, "--save_dir", tmp_path, telling="train_localnet.py"
    )
    assert not list(tmp_path.iterdir())
    refused(
        train_rejector.main, "--dataset", made, "--save_dir", run, "--rejector_net", "small",
        telling="--rejector_net: goes with --rejector_input image or both",
    )  # fmt: skip
    copied = shutil.copytree(run, tmp_path / "run")
    common = ["--save_dir", copied, "--overwrite"]
    refused(train_rejector.main, "--dataset", npz, *common, telling="is not what")
    refused(
        train_edgenet_async.main, "--dataset", made, "--save_dir", tmp_path / "new",
        "--extra_surrogates", "stage_switching", telling="is the --surrogate already",
    )  # fmt: skip
    refused(
        train_localnet.main, "--dataset", made, "--save_dir", tmp_path / "new",
        "--rejector_val_size", 190, telling="leave 1 or more to train on",
    )  # fmt: skip
    other = experiment.load_checkpoint(copied / "tiny-rejector-image.pth") | {"edge_sha256": "0"}
    experiment.save_checkpoint(copied / "tiny-rejector-image.pth", other)
    before = (copied / "tiny-predictions.npz").read_bytes()
    refused(
        eval_all.main,
        "--dataset",
        made,
        *common,
        telling="needs another edge net than the one here",
    )
    (copied / "tiny-rejector-image.pth").write_bytes(b"cut off")
    refused(eval_all.main, "--dataset", made, *common, telling="tiny-rejector-image.pth")
    assert (copied / "tiny-predictions.npz").read_bytes() == before
    assert not (tmp_path / "new").exists()
    few = ["--overwrite", "--rejector_input", "image", *FEW, "--lr", 1e30]
    refused(train_rejector.main, "--dataset", made, "--save_dir", copied, *few, telling="diverged")
    assert not (copied / "tiny-rejector.json").exists()


def test_without_rejectors_beside_the_edge(held, tmp_path):
    """An edge that was trained alone, and an amortized rejector afterwards: both nets are asked."""
    npz, trained = held
    run = shutil.copytree(trained, tmp_path / "run")
    for path in [*run.glob("*-edgenet-async-*.pth"), *run.glob("*-losses.npz")]:
        path.unlink()
    whole = saved.load(trained / "tiny-predictions.npz")
    quiet(eval_all.main, "--dataset", npz, "--save_dir", run, "--overwrite")
    pred = saved.load(run / "tiny-predictions.npz")
    np.testing.assert_array_equal(pred.stage_logits, whole.stage_logits)
    names = {setting["name"] for setting in pred.settings["estimators"]}
    assert names == {"amortized, features", "amortized, image", "amortized, both"}
