"""A run directory: one process at a time, only its own files, and results of the inputs there."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import eval_all
import experiment
import figures.__main__
import train_edgenet_async
import train_localnet
import train_rejector
from deferral import join
from deferral.report import __main__ as report
from early_exit import eval as exit_eval
from early_exit import infer as exit_infer
from early_exit import train as exit_train
from tests.made import SMALL_EDGE, make_npz, quiet

EDGE = [*SMALL_EDGE, "--epochs", 1]
EXITS = [
    "--n_blocks", 2, "--base", 1, "--step", 1, "--n_channels", 8, "--growth_rate", 4,
    "--epochs", 1, "--lr", 0.05,
]  # fmt: skip


def contents(folder):
    """Bytes of every file below a folder but the lock, by path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def exits(npz, tmp_path_factory):
    """A run directory of a small network with exits, evaluated. Not to be changed."""
    run = tmp_path_factory.mktemp("exits")
    common = ["--dataset", npz, "--save_dir", run]
    quiet(exit_train.main, *common, "--arch", "msdnet", *EXITS)
    quiet(exit_eval.main, *common)
    return run


FOREIGN = {
    "local": (train_localnet.main, ["--epochs", 1], "tiny-localnet.pth"),
    "local's result": (train_localnet.main, ["--epochs", 1, "--overwrite"], "tiny-localnet.json"),
    "edge only": (train_edgenet_async.main, [*EDGE, "--edge_only"], "tiny-edgenet-only.pth"),
    "edge": (train_edgenet_async.main, [*EDGE, "--edge_only", "--overwrite"], "tiny-edgenet.pth"),
    "rejector": (
        train_edgenet_async.main,
        [*EDGE, "--edge_only"],
        "tiny-edgenet-async-10-cost_1-1.25-cost_e-0.25.pth",
    ),
    "exits": (exit_train.main, ["--arch", "msdnet", *EXITS, "--overwrite"], "tiny-msdnet.pth"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_files_of_others_are_neither_replaced_nor_mixed(case, npz, tmp_path, refused):
    """A release's checkpoints, say: one line, whatever the flags, and not a byte changes."""
    main, flags, name = FOREIGN[case]
    (tmp_path / name).write_bytes(b"somebody's weights")
    refused(main, "--dataset", npz, "--save_dir", tmp_path, *flags, telling=name)
    assert contents(tmp_path) == {name: b"somebody's weights"}


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_later_steps_keep_files_of_others(overwrite, npz, run_copy, exits, refused):
    """Predictions that another script wrote, rejectors of nobody here, an args.json of nobody."""
    common = ["--dataset", npz, "--save_dir", run_copy]
    for path in exits.glob("tiny-msdnet.pth"):
        (run_copy / path.name).write_bytes(path.read_bytes())
    (run_copy / "tiny-rejector-mine.pth").write_bytes(b"")
    before = contents(run_copy)
    refused(exit_eval.main, *common, *overwrite, telling="tiny-predictions.npz")
    refused(train_rejector.main, *common, *overwrite, telling="tiny-rejector-mine.pth")
    assert contents(run_copy) == before
    for text in ("[]", '{"tiny-localnet": 1}', "no JSON"):
        (run_copy / "args.json").write_text(text)
        refused(train_localnet.main, *common, "--overwrite", telling="args.json")
        refused(train_edgenet_async.main, *common, *EDGE, "--overwrite", telling="args.json")


# ---- settings added to a finished run


def edge_flags(npz, run, *more):
    return ["--dataset", npz, "--save_dir", run, *SMALL_EDGE, "--epochs", 2, *more]


@pytest.fixture(scope="module")
def added(npz, trained, tmp_path_factory):
    """An edge-only run, then settings added in three calls. Not to be changed."""
    run = tmp_path_factory.mktemp("added")
    (run / "tiny-localnet.pth").write_bytes((trained / "tiny-localnet.pth").read_bytes())
    rate = ["--lr_rejector", 0.05]
    quiet(train_edgenet_async.main, *edge_flags(npz, run, "--edge_only"))
    for costs in (["1:0", "1.25:0"], ["1.25:0", "1:0.25"]):
        before = contents(run)
        quiet(train_edgenet_async.main, *edge_flags(npz, run, *rate, "--costs", *costs))
        after = contents(run)
        kept = before.keys() - {"args.json", "metrics.jsonl"}
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    quiet(
        train_edgenet_async.main,
        *edge_flags(npz, run, *rate, "--async_freq", 1, 3, "--cost_1", 1, 1.25),
        "--cost_e", 0, 0.25,
    )  # fmt: skip
    return run


def test_added_settings_equal_those_of_one_pass(added, trained, npz):
    """The same weights as when all eight were trained at once, and one evaluation of all."""
    names = {path.name for path in trained.glob("tiny-edgenet*.pth")}
    assert {path.name for path in added.glob("tiny-edgenet*.pth")} == names
    assert len(names) == 9
    for name in names:
        one, other = (experiment.load_checkpoint(run / name) for run in (added, trained))
        for key, value in one["state_dict"].items():
            torch.testing.assert_close(value, other["state_dict"][key], rtol=1e-4, atol=1e-6)
    quiet(eval_all.main, "--dataset", npz, "--save_dir", added)
    result = json.loads((added / "tiny-eval_all.json").read_text())
    assert {f"{stem}.pth" for stem in result} == names - {"tiny-edgenet.pth"}
    both = [np.load(run / "tiny-predictions.npz") for run in (added, trained)]
    stems = [
        [s["stem"] for s in json.loads(str(arrays["settings"]))["rejectors"]] for arrays in both
    ]
    assert stems[0] == stems[1]
    for key in ("loss_edge", "loss_rejector", "progress_risk", "progress_bytes"):
        np.testing.assert_allclose(both[0][key], both[1][key], rtol=1e-3, atol=1e-6, err_msg=key)


def test_what_is_there_is_not_trained_again(added, npz, refused, capsys):
    before = contents(added)
    there = edge_flags(npz, added, "--lr_rejector", 0.05, "--costs", "1:0.25", "1:0")
    refused(train_edgenet_async.main, *there, telling="a finished run is here")
    train_edgenet_async.main([str(flag) for flag in (*there, "--resume")])
    assert capsys.readouterr().out.endswith("complete\n")
    assert contents(added) == before


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--lr", 0.04], "other values of --lr"),
        (["--epochs", 3], "other values of --epochs"),
        (["--seed", 1], "other values of --seed"),
        (["--surrogate", "cost_sensitive"], "other values of --surrogate"),
    ],
)
def test_settings_are_added_to_the_same_edge_alone(flags, telling, npz, run_copy, refused):
    before = contents(run_copy)
    more = ["--lr_rejector", 0.05, "--costs", "2:0.1", "--async_freq", 1, *flags]
    refused(train_edgenet_async.main, *edge_flags(npz, run_copy, *more), telling=telling)
    assert contents(run_copy) == before


def test_another_edge_adds_nothing(npz, run_copy, refused, monkeypatch):
    """Training that does not repeat, as on another device: noticed after the first epoch."""
    more = ["--lr_rejector", 0.05, "--costs", "2:0.1", "--async_freq", 1]
    flags = edge_flags(npz, run_copy, *more)
    before = contents(run_copy)
    build = train_edgenet_async.build_edge

    def another(*args, **kwargs):
        edge = build(*args, **kwargs)
        with torch.no_grad():
            next(edge.parameters()).mul_(1.001)
        return edge

    monkeypatch.setattr(train_edgenet_async, "build_edge", another)
    refused(train_edgenet_async.main, *flags, telling="another edge net")
    monkeypatch.undo()
    after = contents(run_copy)
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == ["args.json"]
    other = run_copy / "tiny-localnet.pth"
    experiment.save_checkpoint(other, experiment.load_checkpoint(other) | {"seed": 5})
    refused(train_edgenet_async.main, *flags, telling="made from another tiny-localnet.pth")
    (run_copy / "tiny-edgenet.pth").write_bytes(b"other weights")
    refused(train_edgenet_async.main, *flags, telling="is not the edge net that tiny-edgenet.json")


# ---- one process at once

HOLD = "import sys, experiment; experiment.lock(sys.argv[1]); print('held', flush=True); input()"


@pytest.fixture
def holder():
    """Start a process that holds the lock of a directory until it is killed."""
    started = []

    def hold(directory):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, directory],
            cwd=experiment.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout.readline() == b"held\n"
        started.append(process)
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_in_every_script(npz, run_copy, exits, holder, refused):
    common = ["--dataset", npz, "--save_dir", run_copy]
    scripts = [
        (train_localnet.main, [*common, "--overwrite"]),
        (train_edgenet_async.main, [*common, *EDGE, "--overwrite"]),
        (train_rejector.main, common),
        (eval_all.main, [*common, "--overwrite"]),
        (exit_train.main, [*common, "--arch", "msdnet", *EXITS]),
    ]
    process = holder(run_copy)
    before = contents(run_copy)
    for main, flags in scripts:
        refused(main, *flags, telling="another process is writing to this directory")
    assert contents(run_copy) == before
    process.kill()
    process.wait()
    quiet(
        train_localnet.main, *common, "--overwrite", "--epochs", 1
    )  # a dead process locks nothing


# ---- results of the inputs there are


def test_every_step_of_learning_to_help_notices_another_local_net(npz, run_copy, tmp_path, refused):
    common = ["--dataset", npz, "--save_dir", run_copy]
    quiet(train_rejector.main, *common, "--epochs", 1)
    quiet(eval_all.main, *common, "--resume")
    quiet(train_localnet.main, *common, "--epochs", 1, "--overwrite")
    same = edge_flags(npz, run_copy, "--lr_rejector", 0.05, "--async_freq", 1, 3)
    same += ["--cost_1", 1, 1.25, "--cost_e", 0, 0.25]
    another = "made from another tiny-localnet.pth"
    before = contents(run_copy)
    refused(train_edgenet_async.main, *same, "--resume", telling=another)
    refused(train_rejector.main, *common, "--epochs", 1, "--resume", telling=another)
    refused(eval_all.main, *common, "--resume", telling="needs another local net")
    refused(figures.__main__.main, run_copy, "--out", tmp_path / "figures", telling=another)
    refused(report.main, run_copy, "--out", tmp_path / "page.html", telling=another)
    assert contents(run_copy) == before
    assert not (tmp_path / "figures").exists()


def test_every_step_of_early_exits_notices_another_network(npz, exits, tmp_path, refused, capsys):
    run, common = tmp_path / "run", ["--dataset", npz, "--save_dir", tmp_path / "run"]
    run.mkdir()
    for name, content in contents(exits).items():
        (run / name).write_bytes(content)
    quiet(join.main, run, run, "--out", tmp_path / "joined")
    quiet(exit_infer.main, *common, "--seconds", 0.01)
    capsys.readouterr()
    exit_infer.main([str(flag) for flag in (*common, "--seconds", 0.01, "--resume")])
    assert capsys.readouterr().out.endswith("complete\n")
    quiet(exit_train.main, *common, "--arch", "msdnet", *EXITS, "--seed", 1, "--overwrite")
    another = "made from another tiny-msdnet.pth"
    refused(exit_infer.main, *common, "--seconds", 0.01, "--resume", telling="tiny-msdnet.pth")
    refused(join.main, run, run, "--out", tmp_path / "again", telling=another)
    refused(report.main, run, "--out", tmp_path / "page.html", telling=another)
    quiet(exit_eval.main, *common, "--resume")  # made again
    refused(report.main, tmp_path / "joined", telling="tiny-predictions.npz than is there now")
    exit_infer.main([str(flag) for flag in (*common, "--seconds", 0.01, "--resume")])
    assert "repeating" in capsys.readouterr().out


def test_other_data_of_the_same_name_are_noticed(npz, tmp_path, refused):
    path, run = tmp_path / "tiny.npz", tmp_path / "run"
    path.write_bytes(npz.read_bytes())
    flags = ["--dataset", path, "--save_dir", run, "--epochs", 1]
    quiet(train_localnet.main, *flags)
    make_npz(path, seed=5)
    refused(train_localnet.main, *flags, "--resume", telling="made from other data")


# ---- Ctrl-C


def state_of(run):
    """Every tensor of every checkpoint below a folder."""
    return {
        (str(path.relative_to(run)), key): value
        for path in sorted(run.rglob("*.pth"))
        for key, value in experiment.load_checkpoint(path)["state_dict"].items()
    }


def test_ctrl_c_keeps_the_state(npz, tmp_path, monkeypatch, capsys):
    """One line and status 130 in the middle of epoch 2; --resume ends with the same weights."""
    runs = [tmp_path / name for name in ("whole", "interrupted")]
    whole, interrupted = (["--epochs", 3, "--dataset", npz, "--save_dir", run] for run in runs)
    steps = stop_at = 0
    backward = torch.Tensor.backward

    def stopped(*args, **kwargs):
        nonlocal steps
        steps += 1
        backward(*args, **kwargs)
        if steps == stop_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", stopped)
        quiet(train_localnet.main, *whole)
        stop_at, steps = steps // 2, 0
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            train_localnet.main([str(flag) for flag in interrupted])
    assert stop.value.code == 130
    message = capsys.readouterr().err
    assert message.startswith("error: interrupted")
    assert message.count("\n") == 1
    assert not list(runs[1].rglob("*.part"))
    quiet(train_localnet.main, *interrupted, "--resume")
    states = [state_of(run) for run in runs]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_ctrl_c_at_a_terminal(npz, tmp_path):
    """A real signal to a real process, of a script called from another folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = subprocess.Popen(
        [sys.executable, experiment.ROOT / "train_localnet.py", "--dataset", npz]
        + ["--save_dir", tmp_path / "run", "--epochs", "100000"],
        cwd=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # What runs these tests in the background may have it ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not (tmp_path / "run" / "tiny-localnet-state.pth").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.startswith("error: interrupted")
    assert message.count("\n") == 1
    assert not list(elsewhere.iterdir())
    assert experiment.load_checkpoint(tmp_path / "run" / "tiny-localnet-state.pth")["epoch"] > 0
