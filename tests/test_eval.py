"""eval_all.py and eval_fprint.py: the release's layout, the release's files, and predictions."""

import json
import shutil

import numpy as np
import pytest
import torch

import data
import eval_all
import eval_fprint
import experiment
from deferral import predictions as saved
from deferral.calibrate import reject_rate_threshold, risk_threshold
from deferral.risk import costs
from models import checkpoints
from models.edgenet import AlexNet, ViT
from models.inference import predict
from models.localnet import LeNet5
from models.rejector import Rejector
from tests.made import make_npz, of_one_value, quiet

STEM = "tiny-edgenet-async-3-cost_1-1.25-cost_e-0.25"


@pytest.fixture(scope="module")
def result(trained):
    return json.loads((trained / "tiny-eval_all.json").read_text())


def slow_counts(npz, trained, stem, flip):
    """Every test image one by one through the three checkpoints' networks."""
    test = data.load(str(npz)).test
    read = lambda name: experiment.load_checkpoint(trained / f"{name}.pth")  # noqa: E731
    local = checkpoints.local_net(read("tiny-localnet"), 4, "")
    edge = checkpoints.edge_net(read("tiny-edgenet"), 4, "")
    rejector = checkpoints.rejector_net(read(stem), "")
    counts = {"total": 0, "correct": 0, "predict_locally": 0, "predict_remotely": 0}
    labels_map = {}
    for image, label in zip(test.images, test.labels.tolist(), strict=True):
        x = (image[None] / 255 - 0.5) / 0.5
        with torch.no_grad():
            remote = (rejector(x)[0].argmax().item() == 1) != flip
            right = (edge if remote else local)(x).argmax().item() == label
        zero = dict.fromkeys(("local_correct", "local_total", "remote_correct", "remote_total"), 0)
        row = labels_map.setdefault(str(label), zero)
        place = "remote" if remote else "local"
        row[f"{place}_total"] += 1
        row[f"{place}_correct"] += right
        counts["total"] += 1
        counts["correct"] += right
        counts["predict_remotely" if remote else "predict_locally"] += 1
    return counts | {"labels_map": labels_map}


@pytest.mark.parametrize(("key", "flip"), [("both", False), ("both_inverted", True)])
def test_layout_and_counts_of_the_release(key, flip, npz, trained, result):
    assert len(result) == 8
    for stem in (STEM, "tiny-edgenet-async-1-cost_1-1-cost_e-0"):
        assert set(result[stem]) == {"edge", "both", "both_inverted", "settings", "risk"}
        assert result[stem][key] == slow_counts(npz, trained, stem, flip)


def test_edge_counts_settings_and_risk(result):
    edge = result[STEM]["edge"]
    assert set(edge) == {"total", "correct", "labels_map"}
    assert edge["total"] == sum(row["total"] for row in edge["labels_map"].values()) == 60
    assert edge["correct"] == sum(row["correct"] for row in edge["labels_map"].values())
    assert result[STEM]["settings"] == {
        "async_freq": 3, "cost_1": 1.25, "cost_e": 0.25, "surrogate": "stage_switching", "seed": 43,
    }  # fmt: skip
    risk, both = result[STEM]["risk"], result[STEM]["both"]
    kept = [row["local_total"] - row["local_correct"] for row in both["labels_map"].values()]
    sent = [row["remote_total"] - row["remote_correct"] for row in both["labels_map"].values()]
    by_hand = (sum(kept) + 0.25 * both["predict_remotely"] + 1.25 * sum(sent)) / 60
    assert risk["rejector"] == pytest.approx(by_hand)
    assert risk["all_remote"] == pytest.approx(0.25 + 1.25 * (1 - edge["correct"] / 60))
    assert risk["oracle"] <= min(risk.values())


def test_predictions_are_the_networks(npz, trained):
    pred = saved.load(trained / "tiny-predictions.npz")
    dataset = data.load(str(npz))
    rejector = checkpoints.rejector_net(experiment.load_checkpoint(trained / f"{STEM}.pth"), "")
    r = [s["stem"] for s in pred.settings["rejectors"]].index(STEM)
    for split, part in (("val", dataset.val), ("test", dataset.test)):
        rows = pred.part(split)
        assert rows.labels.tolist() == part.labels.tolist()
        assert rows.index.tolist() == part.index.tolist()
        logits = predict(rejector, data.Batches(part, 50, "cpu"))
        assert np.allclose(rows.scores[r], (logits[:, 1] - logits[:, 0]).numpy(), atol=1e-5)


def test_predictions_name_the_classes_that_the_local_net_has_seen(trained):
    pred = saved.load(trained / "tiny-predictions.npz")
    assert pred.settings["local_classes"] == [0, 1, 2]


def test_seen_classes_of_a_checkpoint():
    labels = np.array([0, 1, 3, 3, 1])
    seen = eval_all.seen_classes
    assert seen({"local_classes": "all"}, labels, 5) == [0, 1, 3]  # there are none of 2 and 4
    assert seen({"local_classes": "1-2,3"}, labels, 5) == [1, 3]
    assert seen(None, labels, 5) is None
    assert seen({"conv1.weight": 0}, labels, 5) is None  # a bare state dict of the release
    with pytest.raises(ValueError, match="no class 7"):
        seen({"local_classes": "0-7"}, labels, 5)


def test_examples_are_test_pictures_of_all_classes(npz, trained):
    pred = saved.load(trained / "tiny-predictions.npz")
    test = data.load(str(npz)).test
    rows = pred.example_index - (pred.split == 0).sum()
    assert np.array_equal(pred.example_images, test.images[rows].numpy())
    assert set(pred.labels[pred.example_index]) == {0, 1, 2, 3}


def test_predictions_alone_give_the_layout_of_the_release(trained):
    layout = eval_all.release_layout(saved.load(trained / "tiny-predictions.npz"))
    assert layout == json.loads((trained / "tiny-eval_all.json").read_text())


def test_fprint_agrees_with_eval_all(npz, trained, result, capsys):
    path = trained / f"{STEM}.pth"
    eval_fprint.main(["--dataset", str(npz), "--model_path", str(path), "--max_reject_rate", "0.3"])
    output = capsys.readouterr().out
    both, risk = result[STEM]["both"], result[STEM]["risk"]
    assert f"both: {both['correct'] / 60:.2%} of 60" in output
    assert f"REMOTE {both['predict_remotely']:6} samples" in output
    for name, key in (("rejector ", "rejector"), ("never ", "all_local"), ("oracle", "oracle")):
        line = next(x for x in output.splitlines() if x.strip().startswith(name))
        assert f"{risk[key]:.4f}" in line
    assert "reject rate held to 0.3" in output


def test_fprint_keeps_promises(npz, trained, capsys):
    """The guaranteed thresholds are those of deferral.calibrate on the same val scores."""
    flags = ["--dataset", str(npz), "--model_path", str(trained / f"{STEM}.pth"), "--delta", "0.4"]
    pred = saved.load(trained / "tiny-predictions.npz")
    row = [s["stem"] for s in pred.settings["rejectors"]].index(STEM)
    val, test = pred.part("val"), pred.part("test")
    setting = pred.settings["rejectors"][row]
    eval_fprint.main([*flags, "--max_reject_rate", "0.6", "--max_risk", "1.1", "--seed", "3"])
    output = capsys.readouterr().out
    cut = reject_rate_threshold(val.scores[row], 0.6, 0.4)
    assert np.isfinite(cut)
    line = next(x for x in output.splitlines() if "guaranteed threshold" in x)
    assert f"sends {(test.scores[row] > cut).mean():.1%}" in line
    cost = costs(setting["cost_1"], setting["cost_e"])
    cut = risk_threshold(val.scores[row], val.correct, *cost, 1.1, 0.4, seed=3)
    assert cut is not None
    assert f"threshold {cut:.4f}: " in output
    eval_fprint.main([*flags, "--max_risk", "0.0001"])
    assert "no threshold meets this bound on val" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["localnet", "edgenet"])
def test_fprint_of_one_net(kind, npz, trained, capsys):
    eval_fprint.main(["--dataset", str(npz), "--model", str(trained / f"tiny-{kind}.pth")])
    assert f"{kind.removesuffix('net')} only: " in capsys.readouterr().out


@pytest.fixture(params=["alexnet", "vit"])
def release(request, tmp_path):
    """What the release writes: bare state dicts with its names, here with random weights."""
    torch.manual_seed(0)
    edge = of_one_value(lambda: AlexNet(4) if request.param == "alexnet" else ViT(4))
    if request.param == "vit":
        edge |= {
            "vit.heads.head.weight": torch.ones(1, 768).expand(1000, 768),
            "vit.heads.head.bias": torch.ones(1000),
        }
    state = {f"edge_net.{k}": v for k, v in edge.items()}
    state |= {f"rejector.{k}": v for k, v in Rejector().state_dict().items()}
    names = set(state)
    assert {"rejector.conv1.weight", "rejector.fc3.bias"} <= names
    assert (
        "edge_net.features.10.weight" if request.param == "alexnet" else "edge_net.heads.bias"
    ) in names
    torch.save(state, tmp_path / "release.pth")
    torch.save(LeNet5(4).state_dict(), tmp_path / "local.pth")
    return tmp_path


def test_bare_state_dicts_of_the_release_load(release, capsys):
    few = make_npz(release / "few.npz", train=20, test=1)
    files = ["--model_path", release / "release.pth", "--local_path", release / "local.pth"]
    eval_fprint.main([str(a) for a in ["--dataset", few, *files]])
    output = capsys.readouterr().out
    assert "both: " in output
    assert "--cost_1 and --cost_e give the risks" in output


@pytest.fixture(scope="module")
def release_files(tmp_path_factory):
    """write(folder, bias, *stems): files of the release with one edge net; bias tells edges apart.

    The weights of the large layers repeat one value, of which torch.save writes one.
    """
    torch.manual_seed(0)
    edge = {f"edge_net.{k}": v for k, v in AlexNet(4).state_dict().items()}
    edge["edge_net.classifier.1.weight"] = (torch.randn(4096, 1) / 50).expand(4096, 9216)
    edge["edge_net.classifier.4.weight"] = torch.randn(1, 4096).expand(4096, 4096)
    edge["edge_net.classifier.6.weight"] = torch.randn(4, 1).expand(4, 4096)
    local = LeNet5(4).state_dict()

    def write(folder, bias, *stems):
        torch.save(local, folder / "tiny-localnet.pth")
        torch.save(torch.zeros(3), folder / "tiny-predicted_local.pth")
        for k, stem in enumerate(stems):
            torch.manual_seed(k)
            state = {f"rejector.{k}": v for k, v in Rejector().state_dict().items()}
            state["rejector.fc3.bias"] = torch.zeros(2)
            state |= edge | {"edge_net.classifier.6.bias": torch.tensor(bias)}
            torch.save(state, folder / f"{stem}.pth")

    return write


ASYNC = [f"tiny-edgenet-async-{s}" for s in ("1-cost_1-1.0-cost_e-0.1", "10-cost_1-1.2-cost_e-0.2")]
JOINT, ONLY = "tiny-edgenet-cost_1-1.25-cost_e-0.025", "tiny-edgenet-only"


def counts_by_hand(npz, folder, stem):
    """(edge right, sent, both right) of a file of the release on test, by its networks."""
    state = experiment.load_checkpoint(folder / f"{stem}.pth")
    rejector, edge = checkpoints.release_nets(state, 4, "")
    local = experiment.load_checkpoint(folder / "tiny-localnet.pth")
    test = data.load(str(npz)).test
    nets = rejector, edge, checkpoints.local_net(local, 4, "")
    asks, e, m = (predict(n, data.Batches(test, 60, "cpu")).argmax(-1) for n in nets)
    both = torch.where(asks == 1, e, m) == test.labels
    return (e == test.labels).sum().item(), asks.sum().item(), both.sum().item()


def test_a_directory_of_the_release(npz, release_files, tmp_path, capsys):
    """Each file by its own edge net, to the release's layout; its table reads every name there."""
    release_files(tmp_path, [0.0, 0.0, 0.0, 0.0], *ASYNC)
    release_files(tmp_path, [0.0, 0.0, 9e9, 0.0], JOINT, ONLY)
    eval_all.main(["--dataset", str(npz), "--save_dir", str(tmp_path)])
    output = capsys.readouterr().out
    assert "not written: 4 files hold 2 edge nets" in output
    assert output.count("warning: ") == 1
    assert not (tmp_path / "tiny-predictions.npz").exists()
    result = json.loads((tmp_path / "tiny-eval_all.json").read_text())
    assert set(result) == {*ASYNC, JOINT}
    for stem, row in result.items():
        counts = row["edge"]["correct"], row["both"]["predict_remotely"], row["both"]["correct"]
        if stem != ASYNC[0]:  # of the edge net of ASYNC[1]
            assert counts == counts_by_hand(npz, tmp_path, stem)
        sent = row["both_inverted"]["predict_remotely"]
        assert sent + row["both"]["predict_remotely"] == row["both"]["total"] == 60
    assert result[ASYNC[1]]["settings"] == {
        "async_freq": 10, "cost_1": 1.2, "cost_e": 0.2, "surrogate": "released", "seed": None,
    }  # fmt: skip
    extra = json.loads((tmp_path / "tiny-eval_extra.json").read_text())
    assert extra == {ONLY: {"edge": result[JOINT]["edge"]}}
    assert extra[ONLY]["edge"]["correct"] == 15  # of the third class


def test_one_edge_net_of_the_release_gives_predictions(npz, release_files, tmp_path):
    release_files(tmp_path, [0.0, 0.0, 0.0, 0.0], *ASYNC)
    quiet(eval_all.main, "--dataset", npz, "--save_dir", tmp_path)
    pred = saved.load(tmp_path / "tiny-predictions.npz")
    assert [s["stem"] for s in pred.settings["rejectors"]] == ASYNC
    result = json.loads((tmp_path / "tiny-eval_all.json").read_text())
    assert eval_all.release_layout(pred) == result
    release_files(tmp_path, [0.0, 0.0, 9e9, 0.0], JOINT)
    quiet(eval_all.main, "--dataset", npz, "--save_dir", tmp_path, "--overwrite")
    assert not (tmp_path / "tiny-predictions.npz").exists()  # it would be of other files


def test_an_edge_net_of_the_release_alone(npz, release_files, tmp_path, capsys):
    release_files(tmp_path, [0.0, 0.0, 9e9, 0.0], ONLY)
    (tmp_path / "tiny-localnet.pth").unlink()
    quiet(eval_all.main, "--dataset", npz, "--save_dir", tmp_path)
    result = json.loads((tmp_path / "tiny-eval_all.json").read_text())
    assert result[ONLY]["edge"]["correct"] == 15
    assert saved.load(tmp_path / "tiny-predictions.npz").settings["local"] is None
    model = ["--model_path", f"{ONLY}.pth"]
    eval_fprint.main(["--dataset", str(npz), "--save_dir", str(tmp_path), *model])
    output = capsys.readouterr().out
    assert "edge only: 25.00% of 60" in output
    assert "both" not in output


@pytest.mark.parametrize("place", ["in the folder", "in SAVE_DIR", "by its path"])
def test_fprint_as_the_release_has_it(place, npz, release_files, tmp_path, monkeypatch, capsys):
    """--save_dir holds the local net; the model lies where the user is, or there."""
    release_files(tmp_path, [0.0, 0.0, 0.0, 0.0], ASYNC[1])
    model = f"{ASYNC[1]}.pth"
    if place == "in the folder":
        (tmp_path / "here").mkdir()
        shutil.move(tmp_path / model, tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
    elif place == "by its path":
        monkeypatch.chdir(tmp_path.parent)
        model = f"{tmp_path.name}/{model}"
    argv = ["--dataset", str(npz), "--save_dir", str(tmp_path), "--model_path", model]
    eval_fprint.main(argv)
    output = capsys.readouterr().out
    for line in ("local only: ", "edge only: ", "both: ", "both inverted: "):
        assert line in output
    assert "risk at c_1 1.2, c_e 0.2" in output
    assert output.count("warning: ") == 1
    if place != "in SAVE_DIR":
        return
    eval_fprint.main([*argv, "--cost_1", "2", "--max_risk", "5", "--max_reject_rate", "0.5"])
    output = capsys.readouterr().out
    assert "risk at c_1 2, c_e 0.2" in output
    assert "risk held to 5 with" in output
    assert "reject rate held to 0.5" in output
    assert output.count("warning: ") == 1


def test_bad_files_of_the_release(npz, release_files, tmp_path, refused):
    """One line, and nothing is written, be it the last of the files."""
    release_files(tmp_path, [0.0, 0.0, 0.0, 0.0], ASYNC[0])
    run = ["--dataset", npz, "--save_dir", tmp_path]
    model = tmp_path / "elsewhere.pth"
    shutil.copy(tmp_path / f"{ASYNC[0]}.pth", model)
    fprint = [*run, "--model_path", model]
    refused(eval_fprint.main, *fprint, "--max_risk", 1, telling="does not name its costs")
    refused(eval_fprint.main, *fprint, "--cost_e", 0, telling="give both --cost_1 and --cost_e")
    model.unlink()
    before = {p.name for p in tmp_path.iterdir()}
    for name, content, telling in (
        ("tiny-edgenet-best.pth", {}, "nor is this name one of the release's"),
        (f"{JOINT}.pth", LeNet5(4).state_dict(), "not a state dict of the release"),
        (
            f"{JOINT}.pth",
            {"rejector.x": torch.ones(1)},
            "needs names that start with rejector. and with edge_net.",
        ),
    ):
        torch.save(content, tmp_path / name)
        refused(eval_all.main, *run, telling=telling)
        (tmp_path / name).unlink()
    (tmp_path / "tiny-localnet.pth").unlink()
    refused(eval_all.main, *run, telling="tiny-localnet.pth: No such file")
    assert {p.name for p in tmp_path.iterdir()} == before - {"tiny-localnet.pth"}


def test_states_of_incomplete_runs_are_not_evaluated(npz, run_copy, result):
    for kind in ("rejector", "edgenet"):
        experiment.save_checkpoint(run_copy / f"tiny-{kind}-state.pth", {"epoch": 1})
    quiet(eval_all.main, "--dataset", npz, "--save_dir", run_copy, "--overwrite")
    assert json.loads((run_copy / "tiny-eval_all.json").read_text()) == result


def test_a_run_with_names_of_before(npz, run_copy, result):
    """What a checkpoint is comes from what it holds: other names give the same results."""
    old = {STEM: STEM.replace("0.25", "2.5e-01").replace("async-3", "async-joint")}
    (run_copy / f"{STEM}.pth").rename(run_copy / f"{old[STEM]}.pth")
    losses = dict(np.load(run_copy / "tiny-losses.npz"))
    losses["stems"] = np.array([old.get(stem, stem) for stem in losses["stems"].tolist()])
    np.savez(run_copy / "tiny-losses.npz", **losses)
    quiet(eval_all.main, "--dataset", npz, "--save_dir", run_copy, "--overwrite")
    files = [run_copy / f"tiny-eval_{name}.json" for name in ("all", "extra")]
    new, extra = (json.loads(path.read_text()) for path in files)
    assert list(extra) == [old[STEM]]
    assert {**new, STEM: extra[old[STEM]]} == result


def test_data_parallel_names_load(tmp_path):
    state = {f"module.rejector.{k}": v for k, v in Rejector().state_dict().items()}
    assert set(checkpoints.under(state, "rejector.")) == set(Rejector().state_dict())
