"""One pass against single runs, refreshes of the edge's copies, seeds, and the other modes."""

import itertools
import json

import numpy as np
import pytest
import torch

import data
import eval_all
import eval_fprint
import train_edgenet_async as script
import train_localnet
from deferral import predictions, risk, summary
from experiment import load_checkpoint
from learning_to_help.edge_copies import answers, state_bytes
from learning_to_help.flags import settings_of
from learning_to_help.settings import Setting
from learning_to_help.steps import probe_images
from losses.stage_switching import edge_loss, rejector_loss, stage_switching
from models.checkpoints import rejector_net
from models.edgenet import build_edge
from models.inference import predict
from models.localnet import LeNet5
from models.rejector import Rejector, new_rejectors
from tests.made import COSTS, SMALL_EDGE, make_npz, quiet

PAIRS = ["1:0", "1.25:0.25", "0.5:0.1"]


def train(run, npz, trained, *flags, seed=43, epochs=2):
    local = trained / "tiny-localnet.pth"
    quiet(
        script.main, "--dataset", npz, "--save_dir", run, "--local_path", local, *SMALL_EDGE,
        "--epochs", epochs, "--seed", seed, "--lr_rejector", 0.05, *flags,
    )  # fmt: skip
    return {p.stem: load_checkpoint(p) for p in sorted(run.glob("tiny-edgenet*.pth"))}


def same(a, b):
    return all(torch.equal(v, b["state_dict"][k]) for k, v in a["state_dict"].items())


def decisions(checkpoint, npz):
    batches = data.Batches(data.load(str(npz)).test, 60, "cpu")
    logits = predict(rejector_net(checkpoint, "here"), batches)
    return logits[:, 1] > logits[:, 0]


@pytest.mark.parametrize("mode", ["async", "joint"])
def test_one_pass_equals_single_runs(mode, npz, trained, tmp_path):
    """Weights to 1e-4 relative, decisions on 99.9 %: three settings over two S, and joint."""
    freqs = ["joint"] if mode == "joint" else [1, 3]
    flags = ["--joint"] if mode == "joint" else ["--async_freq", *freqs]
    together = train(tmp_path / "all", npz, trained, *flags, "--costs", *PAIRS)
    assert len(together) == 1 + len(PAIRS) * len(freqs)
    for pair, freq in itertools.product(PAIRS, freqs):
        one = ["--joint"] if mode == "joint" else ["--async_freq", freq]
        alone = train(tmp_path / f"{pair}-{freq}", npz, trained, *one, "--costs", pair)
        assert same(alone.pop("tiny-edgenet"), together["tiny-edgenet"])
        ((stem, single),) = alone.items()
        for name, value in single["state_dict"].items():
            error = (together[stem]["state_dict"][name] - value).norm() / value.norm()
            assert error < 1e-4, (stem, name)
        agree = decisions(single, npz) == decisions(together[stem], npz)
        assert agree.float().mean() >= 0.999


@pytest.mark.parametrize(
    ("freq", "outage"),
    [(1, ()), (3, ()), (0, ()), (1, (2, 9)), (0, (6, 8)), ("adaptive-0.2", ())]
    + [("adaptive-0.2", (3, 8))],
)
def test_against_the_algorithm_written_out(freq, outage, npz, trained, tmp_path):
    """A plain loop: edge step; the copy refreshed when it is time; a step of one rejector."""
    flags = ["--costs", "1.25:0.25"]
    flags += ["--outage", f"{outage[0]}:{outage[1]}"] if outage else []
    if freq == "adaptive-0.2":
        flags += ["--adaptive", 0.2, "--probe_every", 2, "--probe_size", 9]
    else:
        flags += ["--async_freq", freq]
    found = train(tmp_path / "run", npz, trained, *flags)
    dataset = data.load(str(npz))
    local = LeNet5(4)
    local.load_state_dict(load_checkpoint(trained / "tiny-localnet.pth")["state_dict"])
    edge = build_edge("tiny", 4, 32, 43)
    frozen = build_edge("tiny", 4, 32, 43).eval()
    rejector = Rejector()
    rejector.load_state_dict(new_rejectors(1, 43).unstack(0))
    edge_sgd = torch.optim.SGD(edge.parameters(), 0.05, 0.9)
    rejector_sgd = torch.optim.SGD(rejector.parameters(), 0.05, 0.9)
    batches = data.Batches(dataset.train, 16, "cpu", shuffle=True, seed=43)
    probe = probe_images(data.Batches(dataset.val, 16, "cpu"), 9, 43)
    step, late, sent = 0, False, 0
    for epoch in (1, 2):
        torch.manual_seed(43 * 1_000_003 + epoch)
        for i, (_, images, labels) in enumerate(batches.epoch(epoch)):
            edge.train()
            edge_sgd.zero_grad()
            edge_loss(edge(images), labels).backward()
            edge_sgd.step()
            if freq == "adaptive-0.2":
                changed = answers(edge, probe) != answers(frozen, probe)
                due = step % 2 == 0 and changed.float().mean() > 0.2
            else:
                due = i == len(batches) - 1 if freq == 0 else i % freq == 0
            down = step in range(*outage) if outage else False
            if (due or late) and not down:
                frozen.load_state_dict(edge.state_dict())
                sent += 1
            late = (due or late) and down
            step += 1
            with torch.no_grad():
                edge_wrong = (frozen(images).argmax(-1) != labels)[None]
                local_correct = local(images).argmax(-1) == labels
            costs = torch.tensor([[1.25]]), torch.tensor([[0.25]])
            rejector_sgd.zero_grad()
            weights = stage_switching(local_correct, edge_wrong, *costs)
            rejector_loss(rejector(images)[None], *weights).backward()
            rejector_sgd.step()
    stem = f"tiny-edgenet-async-{freq}-cost_1-1.25-cost_e-0.25"
    for name, value in rejector.state_dict().items():
        assert torch.allclose(found[stem]["state_dict"][name], value, rtol=1e-3, atol=1e-5), name
    assert sent > 0
    assert found[stem]["refreshes"] == sent
    assert found[stem]["bytes_sent"] == sent * state_bytes(edge)
    assert found[stem]["outages"] == ([list(outage)] if outage else [])


def test_progress_is_that_of_the_cascade_on_val(npz, trained, tmp_path):
    """Its last row is what predictions.npz gives on val; S, bytes and link go through to them."""
    run = tmp_path / "run"
    flags = ["--async_freq", 1, 4, "--adaptive", 0.1, "--costs", *PAIRS, "--outage", "5:6", "8:9"]
    found = train(run, npz, trained, *flags, "--extra_surrogates", "one_vs_all")
    every = np.load(run / "tiny-losses.npz")
    no_costs = np.array(["cost_1" not in stem for stem in every["stems"]])
    assert no_costs.sum() == 3
    assert np.isnan(every["progress_risk"]).all(0).tolist() == no_costs.tolist()
    assert np.isfinite(every["progress_risk"][:, ~no_costs]).all()
    assert np.isfinite(every["progress_accuracy"]).all()
    for stem in every["stems"][no_costs]:
        (run / f"{stem}.pth").unlink()  # its score is no rejector's of one cost pair
    quiet(eval_all.main, "--dataset", npz, "--save_dir", run)

    pred = predictions.load(run / "tiny-predictions.npz")
    val = pred.part("val")
    assert pred.progress_step.tolist() == [7, 14]
    assert 0 < pred.progress_seconds[0] < pred.progress_seconds[1]
    settings = pred.settings["rejectors"]
    assert len(settings) == 9
    for r, setting in enumerate(settings):
        cost = setting["cost_1"], setting["cost_e"]
        stop = (val.scores[r] > 0).astype(int)
        expected = risk.risk(val.correct, stop, *risk.costs(*cost))
        assert pred.progress_risk[-1, r] == pytest.approx(expected), setting
        assert pred.progress_accuracy[-1, r] == pytest.approx(risk.accuracy(val.correct, stop))
        checkpoint = found[setting["stem"]]
        for key in ("refreshes", "bytes_sent", "outages", "async_freq"):
            assert setting[key] == checkpoint[key]
        assert pred.progress_bytes[-1, r] == setting["bytes_sent"]
    assert len(np.unique(pred.progress_risk)) > 1
    names = {summary.setting_name(s["async_freq"]) for s in settings}
    assert names == {"S = 1", "S = 4", "adaptive, 0.1"}
    refreshes = {s["async_freq"]: s["refreshes"] for s in settings}
    assert refreshes[1] == 14 - 2
    assert refreshes[4] == 4


def test_progress_every_so_many_batches(npz, trained, tmp_path):
    """Looking changes no weight; a look at an epoch's end is the same however it came about."""
    flags = ["--adaptive", 0.1, "--costs", *PAIRS]
    runs = {every: tmp_path / str(every) for every in (None, 7, 3, 0)}
    found = {
        every: train(
            run, npz, trained, *flags, *(["--progress_every", every] if every is not None else [])
        )
        for every, run in runs.items()
    }
    losses = {every: np.load(run / "tiny-losses.npz") for every, run in runs.items()}
    for every in (7, 3, 0):
        assert all(same(found[every][stem], found[None][stem]) for stem in found[None])
    assert not [name for name in losses[0] if name.startswith("progress")]
    np.testing.assert_array_equal(losses[3]["progress_step"], [3, 6, 9, 12])
    for name in ("step", "risk", "accuracy", "bytes"):
        ends, expected = (losses[every][f"progress_{name}"] for every in (7, None))
        np.testing.assert_array_equal(ends, expected)
        assert ends.shape == ((2,) if name == "step" else (2, 6))
    sent, size = losses[3]["progress_bytes"], state_bytes(build_edge("tiny", 4, 32))
    np.testing.assert_array_equal(sent[:, 0], losses[3]["progress_step"] * size)
    assert (np.diff(sent, axis=0) >= 0).all()


def test_joint_sends_nothing(npz, trained, tmp_path):
    found = train(tmp_path / "run", npz, trained, "--joint", "--costs", "1:0", epochs=1)
    joint = found["tiny-edgenet-cost_1-1-cost_e-0"]
    assert (joint["refreshes"], joint["bytes_sent"], joint["outages"]) == (0, 0, [])
    assert not np.load(tmp_path / "run/tiny-losses.npz")["progress_bytes"].any()
    quiet(eval_all.main, "--dataset", npz, "--save_dir", tmp_path / "run")
    result = json.loads((tmp_path / "run/tiny-eval_all.json").read_text())
    assert list(result) == ["tiny-edgenet-cost_1-1-cost_e-0"]


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--outage", "400:100"], "END must be above START"),
        (["--outage", "5:5"], "END must be above START"),
        (["--outage", "3:9", "100"], "start:end"),
        (["--outage", "1.5:9"], "'1.5' is not a number (int)"),
        (["--outage", "1:x"], "'x' is not a number (int)"),
        (["--outage=-3:9"], "at least 0"),
        (["--outage", "3:"], "'' is not a number (int)"),
        (["--adaptive", "1.01"], "at most 1"),
        (["--adaptive", "-0.1"], "--adaptive"),
        (["--adaptive", "nan"], "--adaptive"),
        (["--probe_size", "0"], "--probe_size"),
        (["--probe_every", "0"], "--probe_every"),
        (["--progress_every", "-1"], "--progress_every"),
    ],
)
def test_impossible_links(flags, telling, npz, tmp_path, refused):
    common = ["--dataset", npz, "--save_dir", tmp_path / "run", *SMALL_EDGE]
    refused(script.main, *common, *flags, telling=telling)
    assert not (tmp_path / "run").exists()


def test_the_probe_depends_on_the_seed_and_is_at_most_val(npz):
    val = data.Batches(data.load(str(npz)).val, 16, "cpu")
    assert torch.equal(probe_images(val, 5, 1), probe_images(val, 5, 1))
    assert not torch.equal(probe_images(val, 5, 1), probe_images(val, 5, 2))
    everything = probe_images(val, 1000, 1)
    assert len(everything) == len(val.labels)
    plain = val.plain(torch.arange(len(val.labels)))
    assert torch.equal(everything.flatten(1).sum(1).sort()[0], plain.flatten(1).sum(1).sort()[0])


def test_settings_differ_from_each_other(trained):
    """Costs and S reach the rejectors: no two of the eight ended with the same weights."""
    found = [load_checkpoint(p) for p in trained.glob("tiny-edgenet-async-*.pth")]
    assert len(found) == 8
    for a, b in itertools.combinations(found, 2):
        assert not same(a, b)


def test_same_seed_same_weights_and_another_seed_another(npz, trained, tmp_path):
    a, b, c = (
        train(tmp_path / name, npz, trained, "--costs", "1.25:0.25", seed=seed, epochs=1)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert a.keys() == c.keys()
    for stem in a:
        assert same(a[stem], b[stem])
        assert not same(a[stem], c[stem])


def test_what_is_written(trained):
    stems = [f"tiny-edgenet-async-{s}-cost_1-{c1}-cost_e-{ce}"
             for s in (1, 3) for c1 in ("1", "1.25") for ce in ("0", "0.25")]  # fmt: skip
    assert {p.name for p in trained.iterdir()} == {
        ".lock", "args.json", "metrics.jsonl", "tiny-localnet.pth", "tiny-localnet.json",
        "tiny-edgenet.pth", "tiny-edgenet.json", "tiny-losses.npz", "tiny-predictions.npz",
        "tiny-eval_all.json", *(f"{s}.pth" for s in stems),
    }  # fmt: skip
    args = json.loads((trained / "args.json").read_text())
    assert set(args) == {"tiny-localnet", "tiny-edgenet", "tiny-eval_all"}
    assert args["tiny-edgenet"]["args"]["seed"] == 43
    assert {"commit", "dirty", "torch", "hardware", "command"} <= set(args["tiny-edgenet"])
    lines = [json.loads(x) for x in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(x["run"], x["epoch"]) for x in lines] == [
        ("tiny-localnet", 1), ("tiny-localnet", 2), ("tiny-edgenet", 1), ("tiny-edgenet", 2),
    ]  # fmt: skip
    losses = np.load(trained / "tiny-losses.npz")
    assert losses["loss_rejector"].shape == (len(losses["loss_step"]), 8)
    assert losses["loss_edge"][-3:].mean() < losses["loss_edge"][:3].mean()


def test_local_classes_are_the_only_ones_learnt(trained):
    pred = np.load(trained / "tiny-predictions.npz")
    assert 3 in pred["labels"]
    assert 3 not in pred["stage_logits"][0].argmax(-1)


def test_edge_only(npz, tmp_path):
    run = tmp_path / "run"
    quiet(
        script.main, "--dataset", npz, "--save_dir", run, *SMALL_EDGE, "--epochs", 1, "--edge_only"
    )
    quiet(eval_all.main, "--dataset", npz, "--save_dir", run)
    result = json.loads((run / "tiny-eval_all.json").read_text())
    assert list(result) == ["tiny-edgenet"]
    assert result["tiny-edgenet"]["edge"]["total"] == 60
    assert predictions.load(run / "tiny-predictions.npz").settings["local"] is None


def test_surrogates_are_used(npz, trained, tmp_path):
    found = [
        train(tmp_path / s, npz, trained, "--surrogate", s, "--costs", "1.25:0.25", epochs=1)
        for s in ("stage_switching", "cost_sensitive", "released")
    ]
    for a, b in itertools.combinations(found, 2):
        stem = next(s for s in a if "async" in s)
        assert not same(a[stem], b[stem])


def test_settings_are_the_product_and_the_pairs_each_once():
    args = script.parse_args([*COSTS, "--costs", "1:0", "2:0.1", "--async_freq", "1", "0"])
    settings = settings_of(args)
    assert len(settings) == len(set(settings)) == 2 * 5
    assert settings[0].stem("d") == "d-edgenet-async-1-cost_1-1-cost_e-0"
    assert settings_of(script.parse_args([])) == [Setting(1, 1.25, 0.25)]
    found = settings_of(script.parse_args(["--adaptive", "0.10", "0.1", "0", "--costs", "1:0"]))
    assert [s.stem("d") for s in found] == [
        f"d-edgenet-async-{s}-cost_1-1-cost_e-0" for s in ("1", "adaptive-0.1", "adaptive-0")
    ]
    assert settings_of(script.parse_args(["--edge_only"])) == []


@pytest.mark.parametrize(("size", "channels", "classes"), [(20, 3, 4), (28, 1, 3), (32, 3, 100)])
def test_other_sizes_grey_and_many_classes(size, channels, classes, tmp_path):
    path = make_npz(tmp_path / "x.npz", classes, 2 * classes + 20, classes, size, channels)
    common = ["--dataset", path, "--save_dir", tmp_path / "run"]
    few = ["--epochs", 1, "--val_size", 10]
    quiet(train_localnet.main, *common, *few)
    quiet(script.main, *common, *few, *SMALL_EDGE, "--costs", "1:0.1")
    quiet(eval_all.main, *common)
    model = tmp_path / "run/x-edgenet-async-1-cost_1-1-cost_e-0.1.pth"
    quiet(eval_fprint.main, "--dataset", path, "--model_path", model)


def test_the_edge_is_written_once_and_no_rejector_holds_it(npz, trained, tmp_path):
    """A run of six settings over three S holds one file with the edge's weights."""
    flags = ["--async_freq", 1, 3, 0, "--costs", "1:0.25", "1.25:0.25"]
    made = train(tmp_path, npz, trained, *flags, epochs=1)
    edge = made.pop("tiny-edgenet")
    assert len(made) == 6
    own = Rejector().state_dict()
    for checkpoint in made.values():
        assert checkpoint["state_dict"].keys() == own.keys()
        assert all(v.shape == own[k].shape for k, v in checkpoint["state_dict"].items())
        rest = [v for k, v in checkpoint.items() if k != "state_dict"]
        assert not any(isinstance(v, torch.Tensor | dict) for v in rest)
        assert checkpoint["edge_file"] == "tiny-edgenet.pth"
    weight = edge["state_dict"]["0.weight"].numpy().tobytes()
    assert [p.name for p in tmp_path.iterdir() if weight in p.read_bytes()] == ["tiny-edgenet.pth"]
