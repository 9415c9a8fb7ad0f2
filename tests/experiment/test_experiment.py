"""Seeds, devices, atomic writes, loggers, and the content of args.json."""

import argparse
import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import early_exit.eval
import early_exit.infer
import early_exit.train
import eval_all
import eval_fprint
import experiment
import train_edgenet_async
import train_localnet
import train_rejector


def test_random_numbers_of_an_epoch_depend_on_seed_and_epoch_alone():
    draws = {}
    for seed in range(4):
        for epoch in range(4):
            experiment.seed_everything(seed, epoch)
            draws[seed, epoch] = torch.rand(3).tolist()
    experiment.seed_everything(2, 3)
    assert torch.rand(3).tolist() == draws[2, 3]
    assert len({tuple(d) for d in draws.values()}) == 16


def test_equal_checkpoints_have_equal_hashes_wherever_they_lie(tmp_path):
    content = {"a": torch.arange(5.0), "b": "text", "c": 3}
    one = experiment.save_checkpoint(tmp_path / "one.pth", content)
    two = experiment.save_checkpoint(tmp_path / "folder" / "two.pth", content)
    assert one == two == experiment.sha256(tmp_path / "one.pth")
    assert one != experiment.save_checkpoint(tmp_path / "three.pth", content | {"c": 4})
    found = experiment.load_checkpoint(tmp_path / "one.pth", one)
    assert torch.equal(found["a"], content["a"])


def test_a_checkpoint_that_runs_code_is_refused(tmp_path):
    torch.save({"a": print}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="not a checkpoint of tensors"):
        experiment.load_checkpoint(tmp_path / "x.pth")


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    path = tmp_path / "x.json"
    experiment.write_json(path, {"old": 1})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(SystemExit) as stop:
        experiment.write_json(path, {"new": 2})
    assert stop.value.code == 2
    assert "No space left on device" in capsys.readouterr().err
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_npz_round_trip(tmp_path):
    experiment.write_npz(tmp_path / "x.npz", a=np.arange(3), b=np.array("text"))
    found = np.load(tmp_path / "x.npz")
    assert found["a"].tolist() == [0, 1, 2]
    assert str(found["b"]) == "text"


@pytest.mark.parametrize(
    ("kind", "low", "high", "above", "good", "bad"),
    [
        (float, 0, float("inf"), False, ["0", "2.5"], ["-1", "inf", "nan", "x", ""]),
        (float, 0, float("inf"), True, ["1e-9"], ["0", "-1"]),
        (float, 0, 1, False, ["0", "1"], ["1.01"]),
        (int, 1, float("inf"), False, ["1", "7"], ["0", "1.0"]),
    ],
)
def test_numbers(kind, low, high, above, good, bad):
    parse = experiment.number(kind, low, high, above=above)
    assert [parse(t) for t in good] == [kind(t) for t in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_best_device_is_there():
    device = experiment.pick_device("best")
    assert torch.ones(1, device=device).sum() == 1
    assert experiment.hardware(torch.device("cpu"))


def test_args_json_says_what_was_asked_and_with_what(trained):
    entry = json.loads((trained / "args.json").read_text())["tiny-localnet"]
    assert entry["args"]["local_classes"] == "0-2"
    assert entry["args"]["epochs"] == 2
    assert entry["torch"] == torch.__version__
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert entry["commit"] in (git.stdout.strip(), "unknown")


class FakeLog:
    """Stands for wandb.init and SummaryWriter and records all calls."""

    def __init__(self):
        self.entries = []

    def __call__(self, *args, **named):
        self.entries.append(("open", args, named))
        return self

    def log(self, metrics, step):
        self.entries.append(("log", step, dict(metrics)))

    def add_scalar(self, name, value, step):
        self.entries.append(("scalar", step, name, value))

    def flush(self):
        pass

    def finish(self):
        self.entries.append(("end",))

    close = finish

    def steps(self):
        return [entry[1] for entry in self.entries if entry[0] in ("log", "scalar")]


@pytest.fixture
def fake_log(monkeypatch):
    fake = FakeLog()
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=fake))
    module = SimpleNamespace(SummaryWriter=fake)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return fake


def run_epochs(save_dir, log_to, first, last, resume=False, finish=False, **flags):
    args = argparse.Namespace(resume=resume, overwrite=not resume, log_to=log_to, **flags)
    run = experiment.Run(save_dir, "tiny-net", args)
    run.start(torch.device("cpu"), "data")
    for epoch in range(first, last + 1):
        run.end_epoch(epoch, 9, 0.25, {}, loss=1 / epoch, accuracy=epoch / 10)
    if finish:
        run.finish({})
    return run


def test_an_epoch_without_a_state_is_logged_and_says_nothing(tmp_path, capsys):
    """A run of a few minutes: killed, it begins again, and its lines are those of one run."""
    args = argparse.Namespace(resume=True, overwrite=False, log_to=None)
    for last in (2, 3):
        run = experiment.Run(tmp_path, "tiny-net", args)
        assert run.start(torch.device("cpu"), "data") is None
        for epoch in range(1, last + 1):
            run.end_epoch(epoch, 3, 0.25, loss=1 / epoch)
        assert not run.state_file.exists()
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        run.end_epoch(3, 3, 0.25, loss=float("nan"))


def test_wandb_gets_the_lines_of_the_log_and_stays_offline(tmp_path, fake_log):
    run_epochs(tmp_path / "first", "wandb", 1, 2, finish=True)
    (opened, _, named), *logged, end = fake_log.entries
    assert opened == "open"
    assert named["mode"] == "offline"
    assert named["dir"] == str(tmp_path / "first")
    assert named["name"] == "first/tiny-net"
    assert named["config"]["data"] == "data"
    lines = map(json.loads, (tmp_path / "first" / "metrics.jsonl").read_text().splitlines())
    dropped = {"run", "epoch"}
    assert logged == [
        ("log", line["epoch"], {k: v for k, v in line.items() if k not in dropped})
        for line in lines
    ]
    assert logged[1] == ("log", 2, {"loss": 0.5, "accuracy": 0.2, "seconds": 0.25})
    assert end == ("end",)


def test_wandb_mode_of_the_environment_is_kept(tmp_path, fake_log, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run_epochs(tmp_path, "wandb", 1, 1)
    named = fake_log.entries[0][2]
    assert (named["mode"], named["project"]) == ("online", "mine")


def test_tensorboard_gets_the_lines_of_the_log(tmp_path, fake_log):
    run_epochs(tmp_path, "tensorboard", 1, 2, finish=True)
    (opened, args, named), *logged, end = fake_log.entries
    assert (opened, args) == ("open", (str(tmp_path / "tensorboard" / "tiny-net"),))
    assert named == {"purge_step": 1}
    values = [{"loss": 1, "accuracy": 0.1}, {"loss": 0.5, "accuracy": 0.2}]
    assert logged == [
        ("scalar", epoch, name, value)
        for epoch, metrics in enumerate(values, 1)
        for name, value in (metrics | {"seconds": 0.25}).items()
    ]
    assert end == ("end",)


@pytest.mark.parametrize("log_to", ["wandb", "tensorboard"])
def test_a_resumed_run_logs_each_epoch_once(log_to, tmp_path, fake_log, monkeypatch):
    """Also the epoch that was over, but whose state had not been saved."""
    run_epochs(tmp_path, log_to, 1, 2)
    with monkeypatch.context() as disk:
        disk.setattr("experiment.run.save_checkpoint", lambda *args: experiment.fail("full"))
        with pytest.raises(SystemExit):
            run_epochs(tmp_path, log_to, 3, 3, resume=True)
    run_epochs(tmp_path, log_to, 3, 4, resume=True, finish=True)
    scalars = 1 if log_to == "wandb" else 3
    assert fake_log.steps() == [epoch for epoch in (1, 2, 3, 4) for _ in range(scalars)]
    opened = [entry[2] for entry in fake_log.entries if entry[0] == "open"]
    if log_to == "wandb":
        assert len({named["id"] for named in opened}) == 1
    else:
        assert [named["purge_step"] for named in opened] == [1, 3, 3]


def test_a_replaced_run_starts_its_logs_anew(tmp_path, fake_log):
    run_epochs(tmp_path, "wandb", 1, 1)
    run_epochs(tmp_path, "wandb", 1, 1)
    first, second = (entry[2]["id"] for entry in fake_log.entries if entry[0] == "open")
    assert first != second

    events = tmp_path / "tensorboard" / "tiny-net" / "events.out.tfevents.1.host"
    other = tmp_path / "tensorboard" / "tiny-other" / "events.out.tfevents.1.host"
    for path in (events, other):
        path.parent.mkdir(parents=True)
        path.touch()
    run_epochs(tmp_path, "tensorboard", 1, 1)
    assert not events.exists()
    assert other.exists()
    events.touch()
    run_epochs(tmp_path, "tensorboard", 2, 2, resume=True)
    assert events.exists()


def test_where_to_log_may_change_on_resume(tmp_path, fake_log):
    run_epochs(tmp_path, None, 1, 2, lr=0.1)
    assert fake_log.entries == []
    run_epochs(tmp_path, "tensorboard", 3, 3, resume=True, lr=0.1)
    assert set(fake_log.steps()) == {3}
    with pytest.raises(ValueError, match="other values of --lr"):
        run_epochs(tmp_path, "wandb", 4, 4, resume=True, lr=0.2)


def test_a_complete_run_needs_no_log(tmp_path, fake_log, monkeypatch):
    run_epochs(tmp_path, "wandb", 1, 1, finish=True)
    monkeypatch.setitem(sys.modules, "wandb", None)
    args = argparse.Namespace(resume=True, overwrite=False, log_to="wandb")
    assert experiment.Run(tmp_path, "tiny-net", args).is_complete("data")


@pytest.mark.parametrize(
    ("script", "log_to", "module", "missing"),
    [
        ("train_localnet", "wandb", "wandb", None),
        ("train_localnet", "wandb", "wandb", SimpleNamespace()),  # as a folder called wandb
        ("train_edgenet_async", "tensorboard", "torch.utils.tensorboard", None),
    ],
)
def test_a_missing_package_is_reported_before_training(
    script, log_to, module, missing, npz, run_copy, refused, monkeypatch
):
    monkeypatch.setitem(sys.modules, module, missing)
    before = {path: path.stat().st_mtime_ns for path in run_copy.rglob("*")}
    refused(
        importlib.import_module(script).main,
        "--dataset", npz, "--save_dir", run_copy, "--overwrite", "--log_to", log_to,
        telling=f"--log_to {log_to}: {log_to} cannot be imported",
    )  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in run_copy.rglob("*")} == before


@pytest.mark.parametrize("script", [eval_all, train_rejector])
def test_only_what_writes_metrics_can_be_logged(script, refused):
    refused(script.main, "--log_to", "wandb", telling="unrecognized arguments: --log_to")


def test_a_name_of_a_bug_is_not_hidden():
    """Only ValueError and OSError become one line; anything else keeps its traceback."""
    with pytest.raises(TypeError), experiment.one_line_errors():
        len(3)


SCRIPTS = [train_localnet, train_edgenet_async, train_rejector, eval_all, eval_fprint]
SCRIPTS += [early_exit.train, early_exit.eval, early_exit.infer]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.__name__)
def test_help_shows_the_command(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    name = script.__name__
    assert f"python -m {name}" in said if "." in name else f"python {name}.py" in said
    assert max(map(len, script.__doc__.splitlines())) <= 100  # a single backslash joins two lines
    assert "--device" in said
    assert "(default: best)" in said
