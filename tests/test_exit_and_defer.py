"""An exit as the local net of learning to help, and the pipeline of exits and then a server."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import eval_fprint
import experiment
import train_localnet
from deferral import predictions as saved
from early_exit.inference import Inference
from early_exit.inputs import InputFormat, make_batches
from models.cost import exit_multiply_adds
from tests.early_exit.toy import TINY_FLAGS, checkpoint_of, make_net
from tests.made import make_npz, quiet
from tests.shell import commands
from tests.shell import run as run_commands


@pytest.fixture(scope="module")
def exits_run(npz, tmp_path_factory):
    """A run directory of early_exit.train on `npz`, boosted, of 3 exits; and seed-1 below it."""
    run = tmp_path_factory.mktemp("exits")
    for seed, folder in ((0, run), (1, run / "seed-1")):
        folder.mkdir(exist_ok=True)
        torch.save(
            checkpoint_of(npz, method="boosted", t=0.5, seed=seed), folder / "tiny-msdnet.pth"
        )
    return run


def localnet(npz, save_dir, *argv):
    return ["--dataset", npz, "--save_dir", save_dir, "--val_size", 40, *argv]


def test_taking_an_exit(npz, exits_run, tmp_path, capsys):
    """Its accuracy is the exit's; and so are the facts listed with it."""
    argv = localnet(npz, tmp_path, "--local_net", "msdnet:2", "--exits_path", exits_run)
    train_localnet.main([str(a) for a in argv])
    assert "msdnet:2 of 3 exits, " in capsys.readouterr().out
    result = json.loads((tmp_path / "tiny-localnet.json").read_text())
    checkpoint = experiment.load_checkpoint(tmp_path / "tiny-localnet.pth")
    whole = experiment.load_checkpoint(exits_run / "tiny-msdnet.pth")
    dataset = data.load(str(npz), val_size=40)
    given = {key: whole[key] for key in ("size", "mean", "std")}
    for split in ("val", "test"):
        part = getattr(dataset, split)
        inference = Inference(make_net(), torch.device("cpu"), 0.5)
        (logits,) = inference.predict(make_batches(part, 100, "cpu", InputFormat(**given)))
        right = (logits[1].argmax(-1) == part.labels).float().mean().item()
        assert result[f"{split}_accuracy"] == pytest.approx(right)
    image = torch.zeros(1, 3, 32, 32)
    assert result["multiply_adds"] == exit_multiply_adds(make_net(), image)[1]
    assert result["exits_sha256"] == experiment.sha256(exits_run / "tiny-msdnet.pth")
    assert checkpoint["exits_sha256"] == result["exits_sha256"]
    assert result["sha256"] == experiment.sha256(tmp_path / "tiny-localnet.pth")
    told = ("kind", "net", "local_classes", "val_size", "split_seed", "rejector_val_size", "seed")
    assert [checkpoint[k] for k in told] == ["local", "msdnet:2", "all", 40, 0, 0, 0]
    assert checkpoint["data"] == dataset.fingerprint()
    train_localnet.main([str(a) for a in [*argv, "--resume"]])
    assert ": complete" in capsys.readouterr().out


def test_where_the_exits_are(npz, exits_run, tmp_path):
    """A file, a run directory, SAVE_DIR itself, or one run a seed."""

    def net(*argv, below=""):
        quiet(train_localnet.main, *localnet(npz, *argv))
        checkpoint = experiment.load_checkpoint(Path(argv[0]) / below / "tiny-localnet.pth")
        return checkpoint["net"], checkpoint["seed"]

    file = exits_run / "tiny-msdnet.pth"
    last = "--local_net", "msdnet:last"
    assert net(tmp_path / "a", *last, "--exits_path", file) == ("msdnet:3", 0)
    (tmp_path / "b").mkdir()
    os.link(file, tmp_path / "b" / file.name)
    assert net(tmp_path / "b", *last) == ("msdnet:3", 0)
    seeds = net(tmp_path / "c", *last, "--exits_path", exits_run, "--seeds", 1, below="seed-1")
    assert seeds == ("msdnet:3", 1)


REFUSED = {
    "no such exit": ("msdnet:4", {}, [], "exit 4: the network has exits 1 to 3"),
    "another network": ("vit:1", {}, [], "tiny-msdnet.pth: is a msdnet, not the vit of vit:1"),
    "no network": ("vgg:1", {}, [], "'vgg:1' is no exit"),
    "not trained": ("msdnet:1", None, [], "python -m early_exit.train makes it"),
    "another split": ("msdnet:1", {"data": "0"}, [], "--val_size 40 and --split_seed 0"),
    "streamed": ("msdnet:1", {"stream": True}, [], "was trained on streamed images"),
    "a local net": ("msdnet:1", {"kind": "local"}, [], "is of kind 'local'"),
    "epochs": ("msdnet:1", {}, ["--epochs", 3], "--epochs: --local_net msdnet:1 is trained"),
    "lr": ("msdnet:1", {}, ["--lr", 0.1], "--lr: --local_net msdnet:1 is trained already"),
    "classes": ("msdnet:1", {}, ["--local_classes", "0-2"], "--local_classes: --local_net"),
    "for rejectors": ("msdnet:1", {}, ["--rejector_val_size", 0.1], "seen all images but val"),
    "one of seeds": ("msdnet:1", {}, ["--seeds", 1], "with --seeds it is a folder"),
    "no exit asked": ("lenet5", {}, [], "--exits_path goes with an exit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, npz, exits_run, tmp_path, refused):
    """Before anything is written."""
    name, change, flags, telling = REFUSED[case]
    path = tmp_path / "tiny-msdnet.pth"
    if change is not None:
        torch.save(experiment.load_checkpoint(exits_run / "tiny-msdnet.pth") | change, path)
    argv = localnet(npz, tmp_path / "run", "--local_net", name, "--exits_path", path, *flags)
    refused(train_localnet.main, *argv, telling=telling)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("net", "trains"), [("lenet5", True), ("msdnet:2", False)])
def test_the_pipelines_take_an_exit(net, trains):
    """FAST=1 shortens the training of a local net, and an exit has none."""
    extra = {"FAST": "1", "EXTRA_LOCAL": f"--local_net {net}"}
    local, edge = commands("train-conf-score.sh", "a/run", **extra)
    assert local.endswith(f"--local_net {net}")
    assert ("--epochs" in local) == trains
    assert "--epochs" in edge


def test_options_of_the_chain():
    extra = {"DATASETS": "digits a/b.npz", "SEEDS": "3 4", "ARCH": "vit", "COST_FLOPS": "1e-9"}
    lines = commands("runs/exits-and-server.sh", "a/run", **extra)
    assert len(lines) == 2 * 9
    for line in lines:
        name = "b" if "a/run/exits/b" in line or "a/run/server/b" in line else "digits"
        assert "--seeds 3 4" in line or line.startswith(("-m deferral.report", "-m figures."))
        assert "--epochs" not in line
        if line.startswith("-m deferral.join"):
            assert "--cost_flops 1e-9" in line
            assert line.endswith(f"--out a/run/joined/{name} --overwrite")
    assert sum("--local_net vit:last --exits_path a/run/exits/" in line for line in lines) == 2
    assert sum("--arch vit" in line for line in lines) == 2


def test_a_server_that_stays_as_it_is_trains_no_rejectors():
    fixed = "--edge_only --edge_net timm/resnet50 --edge_weights a/net.pth --epochs 0"
    lines = commands("runs/exits-and-server.sh", "a/run", DATASETS="digits", EXTRA=fixed)
    (edge,) = (line for line in lines if line.startswith("train_edgenet_async.py"))
    assert edge.endswith(fixed)
    assert "--costs" not in edge
    assert "--async_freq" not in edge
    assert sum(line.startswith("train_rejector.py") for line in lines) == 1


def test_the_chain(tmp_path, capsys):
    """Exits, a server behind the last of them, its rules, both in one file, and the report."""
    npz, run = make_npz(tmp_path / "tiny.npz", train=80, test=40), tmp_path / "run"
    extra = {"EXTRA_EXITS": f"--method boosted {' '.join(TINY_FLAGS)}", "SEEDS": "4"}
    extra |= {"EXTRA": "--epochs 1 --edge_net tiny", "FAST": "1", "DATASETS": str(npz)}
    run_commands(commands("runs/exits-and-server.sh", run, **extra))
    exits, server, joined = (
        saved.load(run / name / "tiny" / "seed-4" / "tiny-predictions.npz")
        for name in ("exits", "server", "joined")
    )
    assert server.settings["local"] == "msdnet:3"
    np.testing.assert_allclose(server.stage_logits[0], exits.stage_logits[-1], atol=1e-4)
    np.testing.assert_array_equal(joined.stage_logits[:-1], exits.stage_logits)
    np.testing.assert_array_equal(joined.stage_logits[-1], server.stage_logits[-1])
    np.testing.assert_array_equal(joined.scores, server.scores)
    np.testing.assert_array_equal(joined.estimates, server.estimates)
    assert len(joined.scores) == 6
    settings = joined.settings
    assert settings["multiply_adds"][-1] * settings["cost_flops"] == pytest.approx(0.1)
    assert (settings["method"], settings["edge"]) == ("boosted", "tiny")
    report = json.loads((run / "joined" / "tiny-report.json").read_text())
    assert report["data"]["local"] == "msdnet, 3 exits"
    stem = settings["rejectors"][0]["stem"]
    model = run / "server" / "tiny" / "seed-4" / f"{stem}.pth"
    capsys.readouterr()
    eval_fprint.main(["--dataset", str(npz), "--model_path", str(model)])
    right = (server.part("test").correct[0]).mean()
    assert f"local only: {right:.2%} of 40" in capsys.readouterr().out
