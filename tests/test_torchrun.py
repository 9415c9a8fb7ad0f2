"""Learning to help on two processes of torchrun: the steps of one, one writer, one error line."""

import json

import pytest
import torch

import data
import eval_all
import train_edgenet_async
import train_localnet
import train_rejector
from experiment.parallel import Workers
from experiment.within_epoch import WithinEpoch
from tests import two_processes
from tests.made import SMALL_EDGE, quiet
from tests.shell import torchrun
from tests.test_resume import EVERY_BATCH, assert_same_run, weights

PLAIN = """
from torch import nn

def plain(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(800, classes)
    )
"""
COSTS = ["--costs", "1:0", "1.25:0.25"]


def edge_flags(npz, trained):
    return [
        "--dataset", npz, "--local_path", trained / "tiny-localnet.pth", *COSTS, "--device", "cpu",
        "--lr_rejector", 0.05, "--epochs", 3, "--progress_every", 4,
    ]  # fmt: skip


def adaptive_flags(npz, trained):
    return [
        *edge_flags(npz, trained), "--async_freq", 1, 4, 100, 0, "--adaptive", 0, 0.1,
        "--probe_every", 3, "--outage", "6:11",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(npz, trained, tmp_path_factory):
    """Folders {name}-1 and {name}-2: every run on one process and on two; and steps.pt of two."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "nets.py").write_text(PLAIN)
    edge = ["--edge_net", f"{folder / 'nets.py'}:plain", "--batch_size", 15, "--lr", 0.05]
    local = ["--dataset", npz, "--device", "cpu", "--epochs", 2, "--batch_size", 15, "--lr", 0.01]
    jobs = {
        "local": (train_localnet, local),
        "async": (train_edgenet_async, [*adaptive_flags(npz, trained), *edge]),
        "joint": (train_edgenet_async, [*edge_flags(npz, trained), *edge, "--joint"]),
        "dropout": (train_edgenet_async, [*adaptive_flags(npz, trained), *SMALL_EDGE]),
    }
    listed = []
    for name, (script, flags) in jobs.items():
        quiet(script.main, *flags, "--save_dir", folder / f"{name}-1")
        argv = [*map(str, flags), "--save_dir", str(folder / f"{name}-2")]
        listed.append([script.__name__, argv])
    (folder / "runs.json").write_text(json.dumps(listed))
    torchrun(two_processes.__file__, folder / "runs.json", folder / "steps.pt")
    return folder


def test_two_processes_take_the_steps_of_one(runs):
    """In float64, to rounding: L1 and L2 of each batch, edge, rejectors, copies; all kinds of S."""
    one, two = two_processes.steps(), torch.load(runs / "steps.pt", weights_only=True)
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-10, atol=1e-12)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)
    assert two["refreshes"] == one["refreshes"]
    assert len(set(one["refreshes"].values())) > 3  # the settings do differ


@pytest.mark.parametrize("name", ["local", "async", "joint"])
def test_scripts_train_the_same_on_two_processes(runs, name):
    """In float32: weights, losses, log of val and bytes sent, after steps that round otherwise."""
    one, two = weights(runs / f"{name}-1"), weights(runs / f"{name}-2")
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-5, msg=str(key))
    files = [{p.name for p in (runs / f"{name}-{n}").iterdir()} for n in (1, 2)]
    assert files[0] == files[1]


def test_a_job_that_loses_a_process_starts_again_and_resumes(runs, npz, trained, tmp_path):
    """torchrun --max-restarts, SIGKILL in the second epoch; with dropout, batch norm, an outage.

    It goes on in the middle of that epoch.
    """
    run = tmp_path / "run"
    flags = [*adaptive_flags(npz, trained), *SMALL_EDGE, "--save_dir", run, "--resume"]
    flags += EVERY_BATCH
    done = torchrun(two_processes.__file__, "--kill", 11, *flags, flags=["--max-restarts", "3"])
    assert "epoch 2/3" in done.stdout
    assert done.stdout.count("epoch 1/3") == 1  # one process prints, and the epoch was kept
    assert "steps 11 to 20 after the last start" in done.stdout
    assert_same_run(run, runs / "dropout-2")


def test_an_epoch_goes_on_with_as_many_processes_as_it_began():
    of_two = {"within": {"batch": 3, "processes": [{}, {}]}}
    with pytest.raises(ValueError, match="2 processes saved the state"):
        WithinEpoch(state=of_two)
    assert WithinEpoch(state=of_two, workers=Workers(1, 2)).first == 3


def test_batch_norm_and_dropout_depend_on_the_processes(runs):
    one, two = (weights(runs / f"dropout-{n}") for n in (1, 2))
    key = "tiny-edgenet.pth", "1.running_var"
    assert not torch.allclose(one[key], two[key], rtol=1e-3)


def test_bad_input_ends_all_processes_with_one_line(npz, tmp_path):
    flags = ["--dataset", npz, "--save_dir", tmp_path / "run", "--device", "cpu"]
    done = torchrun("train_localnet.py", *flags, "--batch_size", 3, check=False)
    assert done.returncode != 0
    errors = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert errors == ["error: --batch_size 3: is shared by 2 processes; give 4 or more"]
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("script", [eval_all, train_rejector])
def test_scripts_of_one_process_refuse_torchrun(script, monkeypatch, refused, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(script.main, "--save_dir", tmp_path, telling="start it with python, not torchrun")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit, match="2"):
        script.main(["--save_dir", str(tmp_path)])
    assert capsys.readouterr().err == ""  # the first process of the host has said it


def test_an_exit_is_taken_by_one_process(monkeypatch, refused):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(train_localnet.main, "--local_net", "msdnet:2", telling="start it with python")


def test_each_process_drops_other_units():
    drawn = []
    for rank in range(3):
        torch.manual_seed(5)
        Workers(rank, 3).differ()
        drawn.append(torch.rand(4))
    assert len({tuple(x.tolist()) for x in drawn}) == 3


def test_each_process_has_its_gpu(monkeypatch):
    workers = Workers(3, 4, 1, 2)
    assert workers.pick_device("cpu").type == "cpu"
    for name in ("cuda:0", "mps"):
        with pytest.raises(ValueError, match=f"--device {name}: under torchrun"):
            workers.pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes and 1 GPUs on this host"):
        workers.pick_device("best")


@pytest.mark.parametrize("world", [2, 3])
def test_small_batches_are_not_shared(world):
    """10 samples in batches of 7 on 2 or 3 processes: the last 3 are fewer than 2 a process."""
    part = data.Part(
        torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.arange(10), torch.arange(10)
    )
    for rank in range(world):
        batches = data.Batches(part, 7, "cpu", **Workers(rank, world).sharing(7))
        first, last = (labels.tolist() for *_, labels in batches)
        assert first == [*range(7)][rank::world]
        assert last == [7, 8, 9]
        shares = [batches.share(rows).tolist() for rows in batches.rows(0)]
        assert shares == [first, last]
