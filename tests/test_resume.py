"""A killed run resumes to the same weights; no finished run is overwritten without a flag."""

import json
import os
import resource
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import eval_all
import experiment
import train_edgenet_async
import train_localnet
from learning_to_help.edge_copies import EdgeCopies
from models.localnet import LeNet5
from tests.made import SMALL_EDGE, make_npz, quiet

EPOCHS = 3


def local_flags(npz, run):
    return ["--dataset", npz, "--save_dir", run, "--epochs", EPOCHS, "--batch_size", 4]


def edge_flags(npz, run, trained):
    return [
        "--dataset", npz, "--save_dir", run, "--local_path", trained / "tiny-localnet.pth",
        *SMALL_EDGE, "--epochs", EPOCHS, "--batch_size", 12, "--costs", "1:0", "1.25:0.25",
        "--async_freq", 1, 4, 0, "--adaptive", 0, 0.1, "--probe_every", 3,
        "--outage", "6:11", "16:21",  # over the ends of epochs, 9 steps each: a state has late ones
        "--progress_every", 4,
    ]  # fmt: skip


def weights(run):
    """Tensors of all checkpoints of a finished run, bytes sent, and arrays of its npz files."""
    values = {}
    for path in sorted(run.glob("*.pth")):
        checkpoint = experiment.load_checkpoint(path)
        values |= {(path.name, k): v for k, v in checkpoint["state_dict"].items()}
        sent = [checkpoint.get(k, 0) for k in ("refreshes", "bytes_sent")]
        values[path.name, "sent"] = torch.tensor(sent)
    for path in sorted(run.glob("*.npz")):
        arrays = {k: v for k, v in np.load(path).items() if v.dtype.kind in "if"}
        assert (np.diff(arrays.pop("progress_seconds", [])) > 0).all()  # never two runs' the same
        values |= {(path.name, k): torch.from_numpy(v) for k, v in arrays.items()}
    return values


def assert_same_run(a, b):
    wa, wb = weights(a), weights(b)
    assert wa.keys() == wb.keys()
    assert all(torch.equal(v, wb[k]) for k, v in wa.items())
    lines = []
    for run in (a, b):
        rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        lines.append([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    assert lines[0] == lines[1]
    assert {p.name for p in a.iterdir()} == {p.name for p in b.iterdir()}


KILLED = """
import os, signal, sys
import tests.made  # registers the edge net of SMALL_EDGE
import train_edgenet_async
from learning_to_help.edge_copies import EdgeCopies

answers = EdgeCopies.answers

def killed(self, *args):
    if self.step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return answers(self, *args)

EdgeCopies.answers = killed
train_edgenet_async.main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def whole(npz, trained, tmp_path_factory):
    """The runs that nothing interrupts."""
    run = tmp_path_factory.mktemp("whole")
    quiet(train_localnet.main, *local_flags(npz, run / "local"))
    quiet(train_edgenet_async.main, *edge_flags(npz, run / "edge", trained))
    return run


def test_edge_training_killed_and_resumed(python, npz, trained, whole, tmp_path):
    """SIGKILL in the second epoch, in an outage."""
    run = tmp_path / "run"
    flags = [str(flag) for flag in edge_flags(npz, run, trained)]
    done = subprocess.run([python, "-c", KILLED, "13", *flags], cwd=experiment.ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not list(run.glob("*net.json"))
    quiet(train_edgenet_async.main, *flags, "--resume")
    assert_same_run(run, whole / "edge")


class Stop(Exception):
    pass


EVERY_BATCH = ["--save_every", 1e-9]


def stop_at(call, monkeypatch, owner, name):
    """Raise Stop in the given call of a method, counted from 0; returns the list of its calls."""
    calls, method = [], getattr(owner, name)

    def stopping(*args):
        if len(calls) == call:
            raise Stop
        calls.append(args)
        return method(*args)

    monkeypatch.setattr(owner, name, stopping)
    return calls


HOW = {
    "images": [],
    "augmented": ["--augment", "flip_crop", "--schedule", "cosine", "--lr_trunk", 0.005],
    "head": ["--train_head_only", "--schedule", "cosine"],
}


@pytest.mark.parametrize(
    ("how", "step"),
    [("images", 4), ("images", 13), ("images", 17), ("augmented", 13), ("head", 17)],
)
def test_edge_training_resumed_in_the_middle_of_an_epoch(
    how, step, whole, npz, trained, tmp_path, monkeypatch
):
    """Of 9 batches: in the first epoch, in the second, and before the last batch of that."""
    run, uninterrupted = tmp_path / "run", whole / "edge"
    flags = [*edge_flags(npz, run, trained), *HOW[how]]
    if HOW[how]:
        uninterrupted = tmp_path / "uninterrupted"
        quiet(train_edgenet_async.main, *edge_flags(npz, uninterrupted, trained), *HOW[how])
    stop_at(step, monkeypatch, EdgeCopies, "answers")
    with pytest.raises(Stop):
        quiet(train_edgenet_async.main, *flags, *EVERY_BATCH)
    monkeypatch.undo()
    state = experiment.load_checkpoint(run / "tiny-edgenet-state.pth")
    assert (state["epoch"], state["within"]["batch"]) == divmod(step, 9)
    calls = stop_at(None, monkeypatch, EdgeCopies, "answers")
    quiet(train_edgenet_async.main, *flags, "--resume")
    assert len(calls) == 27 - step  # each batch once
    assert_same_run(run, uninterrupted)


def test_local_training_resumed_in_the_middle_of_an_epoch(npz, whole, tmp_path, monkeypatch):
    """Twice; 27 batches an epoch."""
    run = tmp_path / "run"
    for call, more in ((5, []), (40, ["--resume"])):
        with monkeypatch.context() as patch:
            stop_at(call, patch, LeNet5, "forward")
            with pytest.raises(Stop):
                quiet(train_localnet.main, *local_flags(npz, run), *EVERY_BATCH, *more)
    quiet(train_localnet.main, *local_flags(npz, run), "--resume")
    assert_same_run(run, whole / "local")


def test_the_state_is_written_as_often_as_asked(npz, tmp_path, monkeypatch):
    """Not within an epoch without --save_every, nor with more minutes than it takes."""
    for more, saves in (([], 1), (["--save_every", 60], 1), (EVERY_BATCH, 27)):
        run = tmp_path / str(len(more)) / str(saves)
        with monkeypatch.context() as patch:
            calls = stop_at(None, patch, experiment.Run, "save_state")
            quiet(train_localnet.main, *local_flags(npz, run), "--epochs", 1, *more)
        assert len(calls) == saves


def test_minutes_are_above_0(npz, tmp_path, refused):
    for minutes in (0, -1, "nan", "inf"):
        refused(
            train_localnet.main, *local_flags(npz, tmp_path), "--save_every", minutes,
            telling="--save_every",
        )  # fmt: skip


@pytest.mark.parametrize("owner", [experiment, experiment.Run], ids=["checkpoint", "result"])
@pytest.mark.parametrize("net", ["local", "edge"])
def test_killed_after_the_last_epoch(net, owner, whole, npz, trained, tmp_path, monkeypatch):
    """Before the checkpoint is written, and before the result."""
    main = {"local": train_localnet.main, "edge": train_edgenet_async.main}[net]
    run = tmp_path / "run"
    flags = local_flags(npz, run) if net == "local" else edge_flags(npz, run, trained)
    stop_at(0, monkeypatch, owner, "save_checkpoint" if owner is experiment else "finish")
    with pytest.raises(Stop):
        quiet(main, *flags)
    monkeypatch.undo()
    quiet(main, *flags, "--resume")
    assert_same_run(run, whole / net)
    results = [
        json.loads((run_dir / f"tiny-{net}net.json").read_text()) for run_dir in (run, whole / net)
    ]
    assert results[0] == results[1]


@pytest.mark.parametrize("when", ["before the state is written", "after"])
def test_killed_between_log_and_state(when, npz, whole, tmp_path, monkeypatch):
    """The log may be one line ahead of the state; that line is not there twice after a resume."""
    run = tmp_path / "run"
    save = experiment.save_checkpoint

    def interrupted(path, checkpoint):
        if checkpoint.get("epoch") == 2 and when.startswith("before"):
            raise Stop
        save(path, checkpoint)
        if checkpoint.get("epoch") == 2:
            raise Stop

    monkeypatch.setattr("experiment.run.save_checkpoint", interrupted)
    with pytest.raises(Stop):
        quiet(train_localnet.main, *local_flags(npz, run))
    monkeypatch.undo()
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"run": "tiny-local')  # a line that was being written
    quiet(train_localnet.main, *local_flags(npz, run), "--resume")
    assert_same_run(run, whole / "local")


def test_a_file_that_cannot_grow_loses_nothing(npz, whole, trained, tmp_path, refused):
    """The kernel refuses to write on, as on a full disk: one line, and --resume goes on."""
    run = tmp_path / "run"
    flags = edge_flags(npz, run, trained)
    largest = sum(p.stat().st_size for p in (whole / "edge").glob("tiny-edgenet.pth"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, hard))
    try:
        refused(train_edgenet_async.main, *flags, telling="cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(run.glob("*.part"))
    assert not list(run.glob("tiny-edgenet*.pth"))
    quiet(train_edgenet_async.main, *flags, "--resume")
    assert_same_run(run, whole / "edge")


def test_a_disk_that_fills_late_keeps_the_last_state(npz, whole, tmp_path, refused, monkeypatch):
    run = tmp_path / "run"
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:  # args.json and two epochs' states
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    refused(train_localnet.main, *local_flags(npz, run), telling="No space left on device")
    monkeypatch.undo()
    state = experiment.load_checkpoint(run / "tiny-localnet-state.pth")
    assert state["epoch"] == 2
    quiet(train_localnet.main, *local_flags(npz, run), "--resume")
    assert_same_run(run, whole / "local")


def test_a_finished_run_is_refused_kept_or_replaced(npz, run_copy, refused, capsys):
    flags = ["--dataset", npz, "--save_dir", run_copy, "--epochs", 2, "--lr", 0.01]
    flags += ["--local_classes", "0-2"]
    before = {p.name: p.read_bytes() for p in run_copy.iterdir()}
    refused(train_localnet.main, *flags, telling="a finished run is here")
    refused(train_localnet.main, *flags, "--epochs", 3, "--resume", telling="--epochs")
    train_localnet.main([*map(str, flags), "--resume"])
    assert "complete" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in run_copy.iterdir()} == before
    quiet(train_localnet.main, *flags, "--seed", 1, "--overwrite")
    assert (run_copy / "tiny-localnet.pth").read_bytes() != before["tiny-localnet.pth"]


def test_an_unfinished_run_is_refused(npz, tmp_path, refused):
    state = tmp_path / "tiny-localnet-state.pth"
    state.write_bytes(b"")
    flags = ["--dataset", npz, "--save_dir", tmp_path]
    refused(train_localnet.main, *flags, telling="an unfinished run is here")
    assert list(tmp_path.iterdir()) == [state]


def test_overwriting_the_edge_removes_its_own_files_alone(npz, run_copy, refused):
    """What later steps wrote stays, and they notice that it is of another edge."""
    results = [run_copy / f"tiny-{kind}" for kind in ("eval_all.json", "predictions.npz")]
    before = [path.read_bytes() for path in results]
    flags = ["--dataset", npz, "--save_dir", run_copy]
    quiet(
        train_edgenet_async.main, *flags, *SMALL_EDGE, "--epochs", 1, "--costs", "2:0.5",
        "--overwrite",
    )  # fmt: skip
    assert [path.name for path in run_copy.glob("tiny-edgenet-async-*")] == [
        "tiny-edgenet-async-1-cost_1-2-cost_e-0.5.pth"
    ]
    assert [path.read_bytes() for path in results] == before
    quiet(eval_all.main, *flags, "--resume")
    assert list(json.loads(results[0].read_text())) == ["tiny-edgenet-async-1-cost_1-2-cost_e-0.5"]


def test_two_data_sets_share_a_run_directory(npz, trained, run_copy):
    other = Path(str(npz).replace("tiny.npz", "other.npz"))
    other.write_bytes(npz.read_bytes())
    quiet(train_localnet.main, "--dataset", other, "--save_dir", run_copy, "--epochs", 1)
    assert (run_copy / "other-localnet.json").exists()
    assert "tiny-localnet" in json.loads((run_copy / "args.json").read_text())
    assert '"tiny-localnet"' in (run_copy / "metrics.jsonl").read_text()


def test_resuming_on_other_data_is_refused(npz, tmp_path, refused, monkeypatch):
    path, run = tmp_path / "tiny.npz", tmp_path / "run"
    path.write_bytes(npz.read_bytes())

    def stopped(*args):
        raise Stop

    monkeypatch.setattr("experiment.run.Run.finish", stopped)
    with pytest.raises(Stop):
        quiet(train_localnet.main, *local_flags(path, run))
    make_npz(path, seed=5)
    refused(
        train_localnet.main, *local_flags(path, run), "--resume", telling="made from other data"
    )
