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
from experiment import load_checkpoint
from learning_to_help.settings import Setting, settings_of
from losses.stage_switching import edge_loss, rejector_loss
from models.checkpoints import predict, rejector_net
from models.edgenet import build_edge
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


@pytest.mark.parametrize("freq", [1, 3, 0])
def test_against_the_algorithm_written_out(freq, npz, trained, tmp_path):
    """A plain loop: edge step; the copy refreshed when it is time; a step of one rejector."""
    found = train(tmp_path / "run", npz, trained, "--async_freq", freq, "--costs", "1.25:0.25")
    dataset = data.load(str(npz))
    local = LeNet5(4)
    local.load_state_dict(load_checkpoint(trained / "tiny-localnet.pth")["state_dict"])
    edge = build_edge("mobilenet_v3_small", 4, 32, 43)
    frozen = build_edge("mobilenet_v3_small", 4, 32, 43).eval()
    rejector = Rejector()
    rejector.load_state_dict(new_rejectors(1, 43).unstack(0))
    edge_sgd = torch.optim.SGD(edge.parameters(), 0.05, 0.9)
    rejector_sgd = torch.optim.SGD(rejector.parameters(), 0.05, 0.9)
    batches = data.Batches(dataset.train, 16, "cpu", shuffle=True, seed=43)
    for epoch in (1, 2):
        torch.manual_seed(43 * 1_000_003 + epoch)
        for i, (_, images, labels) in enumerate(batches.epoch(epoch)):
            edge.train()
            edge_sgd.zero_grad()
            edge_loss(edge(images), labels).backward()
            edge_sgd.step()
            if freq > 0 and i % freq == 0:
                frozen.load_state_dict(edge.state_dict())
            with torch.no_grad():
                edge_wrong = (frozen(images).argmax(-1) != labels)[None]
                local_correct = local(images).argmax(-1) == labels
            costs = torch.tensor([[1.25]]), torch.tensor([[0.25]])
            rejector_sgd.zero_grad()
            rejector_loss(rejector(images)[None], local_correct, edge_wrong, *costs).backward()
            rejector_sgd.step()
        if freq == 0:
            frozen.load_state_dict(edge.state_dict())
    stem = f"tiny-edgenet-async-{freq}-cost_1-1.25-cost_e-0.25"
    for name, value in rejector.state_dict().items():
        assert torch.allclose(found[stem]["state_dict"][name], value, rtol=1e-3, atol=1e-5), name


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
        "args.json", "metrics.jsonl", "tiny-localnet.pth", "tiny-localnet.json",
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
