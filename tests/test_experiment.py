"""Seeds, devices, whole files, and what args.json says."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import eval_all
import eval_fprint
import experiment
import train_edgenet_async
import train_localnet


def test_random_numbers_of_an_epoch_hang_on_seed_and_epoch_alone():
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


def test_a_name_of_a_bug_is_not_hidden():
    """Only ValueError and OSError become one line; anything else keeps its traceback."""
    with pytest.raises(TypeError), experiment.one_line_errors():
        len(3)


@pytest.mark.parametrize(
    "script", [train_localnet, train_edgenet_async, eval_all, eval_fprint], ids=lambda s: s.__name__
)
def test_help_says_what_and_the_command(script, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"python {script.__name__}.py" in said
    assert "--device" in said
    assert "(default: best)" in said


def test_a_script_can_be_called_from_anywhere(tmp_path):
    path = experiment.ROOT / "train_localnet.py"
    command = [sys.executable, path, "--dataset", "nothing"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("error: unknown data set 'nothing'")
    assert not list(tmp_path.iterdir())
