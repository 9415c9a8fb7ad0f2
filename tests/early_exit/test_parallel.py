"""Two processes take the steps of one; an interrupted run resumes to the same weights."""

import json

import pytest
import torch
from torch import nn

import data
import experiment
from early_exit import train
from early_exit.inputs import pixel_stats
from early_exit.steps import Base
from experiment.parallel import Workers
from losses.early_exit import exit_losses
from models.exit_nets import EXIT_NETS
from tests.early_exit import several
from tests.early_exit.test_train import ARCHS, TINY, metrics
from tests.made import make_npz, quiet
from tests.shell import torchrun

VIT = ["--arch", "vit", *ARCHS["vit"][:10], "--batch_size", 16, "--lr", 0.05, "--epochs", 2]
RUNS = {
    "base": VIT,
    "boosted": [*VIT, "--method", "boosted"],
    "l2w": [*VIT, "--method", "l2w", "--lr", 0.01],
    "batch-norm": [*TINY, "--epochs", 1],
}


@pytest.fixture(scope="module")
def odd_npz(tmp_path_factory):
    return make_npz(tmp_path_factory.mktemp("odd") / "odd.npz", train=65, test=20)


@pytest.fixture(scope="module")
def runs(odd_npz, tmp_path_factory):
    """Folders {name}-1 and {name}-2: every run on one process and on two."""
    folder = tmp_path_factory.mktemp("runs")
    argvs = {
        n: [
            [*flags, "--dataset", odd_npz, "--device", "cpu", "--save_dir", folder / f"{name}-{n}"]
            for name, flags in RUNS.items()
        ]
        for n in (1, 2)
    }
    for argv in argvs[1]:
        quiet(train.main, *argv)
    listed = folder / "argv.json"
    listed.write_text(json.dumps([[str(a) for a in argv] for argv in argvs[2]]))
    torchrun(several.__file__, listed, folder / "steps.pt")
    return folder


def state(run):
    (path,) = [p for p in run.glob("*.pth") if not p.name.endswith("-state.pth")]
    return experiment.load_checkpoint(path)["state_dict"]


@pytest.mark.parametrize("name", ["base", "boosted", "l2w"])
def test_two_processes_are_one(runs, name):
    """The loss of every epoch and the weights, to rounding, where there is no batch norm."""
    one, two = runs / f"{name}-1", runs / f"{name}-2"
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    first, second = state(one), state(two)
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-3, atol=2e-5, msg=key)


@pytest.mark.parametrize("case", range(len(several.CASES)), ids=lambda k: several.CASES[k][0])
def test_two_processes_take_the_same_l2w_steps(runs, case):
    """In float64 and to rounding: pseudo-step, meta loss, meta-gradient, weights and real steps."""
    two = torch.load(runs / "steps.pt", weights_only=True)[case]
    one = several.steps(Workers(), *several.CASES[case])
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_batch_norm_is_as_documented(runs, odd_npz):
    """Each process normalises by its own rows; statistics that run are those of process 0."""
    dataset = data.load(str(odd_npz))
    mean, std = pixel_stats(dataset.train)
    batches = data.Batches(dataset.train, 16, "cpu", shuffle=True, mean=mean, std=std)
    experiment.seed_everything(0)
    settings = experiment.load_checkpoint(runs / "batch-norm-2" / "odd-msdnet.pth")["settings"]
    net = EXIT_NETS["msdnet"].from_settings(settings, 4, 32).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=1e-4)
    for i, (_, images, labels) in enumerate(batches.epoch(1)):
        share = i / len(batches)
        optimizer.param_groups[0]["lr"] = 0.05 * train.factor("cosine", share)
        total = exit_losses(net(images[0::2]), labels[0::2]).sum()
        kept = {k: b.clone() for k, b in net.named_buffers()}
        total = total + exit_losses(net(images[1::2]), labels[1::2]).sum()
        optimizer.zero_grad()
        (total / len(labels)).backward()
        optimizer.step()
        for key, buffer in net.named_buffers():
            buffer.copy_(kept[key])
    two = state(runs / "batch-norm-2")
    for key, value in net.state_dict().items():
        torch.testing.assert_close(two[key], value, rtol=1e-2, atol=1e-4, msg=key)
    one = state(runs / "batch-norm-1")
    name = next(n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d))
    assert not torch.allclose(one[f"{name}.running_var"], two[f"{name}.running_var"], rtol=1e-4)


EVERY_BATCH = ["--save_every", 1e-9]


def interrupt_and_resume(monkeypatch, step, flags, run, more=()):
    """Train, interrupt a step, counted from 0, and resume; returns how many steps were left.

    more: flags of the part that is interrupted only.
    """
    take, taken = Base.run, []

    def counted(self, *args):
        taken.append(1)
        if len(taken) == step + 1:
            raise KeyboardInterrupt
        return take(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Base, "run", counted)
        with pytest.raises(SystemExit, match="130"):
            quiet(train.main, *flags, "--save_dir", run, *more)
        assert not list(run.glob("*-*.json"))
        quiet(train.main, *flags, "--save_dir", run, "--resume")
    return len(taken) - step - 1


@pytest.mark.parametrize("where", ["after an epoch", "within an epoch"])
@pytest.mark.parametrize("method", ["l2w", "boosted"])
def test_an_interrupted_run_resumes_to_the_same_weights(
    method, where, odd_npz, tmp_path, monkeypatch
):
    """The weight net's gradient every third batch counts on, too."""
    flags = ["--dataset", odd_npz, *TINY, "--method", method, "--epochs", 3]
    flags += ["--augment", "flip_crop", "--device", "cpu"]
    flags += ["--meta_lr", 0.01, "--meta_interval", 3] if method == "l2w" else []
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    quiet(train.main, *flags, "--save_dir", whole)
    if where == "after an epoch":
        assert interrupt_and_resume(monkeypatch, 9, flags, killed) == 4
    else:
        assert interrupt_and_resume(monkeypatch, 6, flags, killed, EVERY_BATCH) == 6
    first, second = state(whole), state(killed)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    rows = [[x["loss"] for x in metrics(run)] for run in (whole, killed)]
    assert rows[0] == rows[1]
    assert {p.name for p in whole.iterdir()} == {p.name for p in killed.iterdir()}


def test_a_folder_streams_and_resumes(tmp_path, folder, monkeypatch):
    """224 px, label smoothing, cosine, random crops: the same weights as without interruption."""
    flags = ["--dataset", folder, "--stream", "--arch", "resnet", "--width", 4, "--exits", "3-4"]
    flags += ["--batch_size", 5, "--epochs", 2, "--label_smoothing", 0.1, "--lr", 0.01]
    flags += ["--val_size", 2, "--workers", 0, "--device", "cpu"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    quiet(train.main, *flags, "--save_dir", whole)
    checkpoint = experiment.load_checkpoint(whole / "pets-resnet.pth")
    assert checkpoint["stream"] is True
    assert checkpoint["size"] == 224
    assert interrupt_and_resume(monkeypatch, 4, flags, killed, EVERY_BATCH) > 0
    first, second = state(whole), state(killed)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
