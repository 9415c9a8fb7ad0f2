"""Records of a run say nothing about where on a machine it was made."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import experiment
import train_localnet
from experiment.portable import files_outside, portable, shell_command
from tests.made import quiet

ROOT = experiment.ROOT


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (str(ROOT / "results" / "runs" / "first"), "results/runs/first"),
        (ROOT / "data_root", "data_root"),
        ("/elsewhere/data/cifar10.npz", "cifar10.npz"),
        ("../../../elsewhere/../secret/net.pth", "net.pth"),
        ("results/runs/first", "results/runs/first"),
        ("1.25:0.25", "1.25:0.25"),
        (["digits", "/elsewhere/a", 3], ["digits", "a", 3]),
        (None, None),
    ],
)
def test_paths_are_relative_to_the_repository_or_a_name(value, recorded):
    assert portable(value) == recorded


def test_commands_name_paths_alike():
    words = ["train.py", "--data", "/elsewhere/a b.npz", f"--save_dir={ROOT}/results/runs/x"]
    assert shell_command(words) == "train.py --data 'a b.npz' --save_dir=results/runs/x"


def test_files_outside_the_repository_are_named_by_content(tmp_path):
    (tmp_path / "given.json").write_text("{}")
    values = {"targets": str(tmp_path / "given.json"), "dataset": "digits", "dir": tmp_path}
    values |= {"inside": str(ROOT / "README.md")}
    assert files_outside(values) == {"given.json": experiment.sha256(tmp_path / "given.json")}


def test_a_moved_run_names_no_directory_and_is_complete(npz, tmp_path, capsys, monkeypatch):
    """A run outside the repository, on a data set outside it, is the same run where it moves to."""
    flags = ["--epochs", "1", "--resume"]
    argv = ["--dataset", str(npz), "--save_dir", str(tmp_path / "here"), *flags]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train_localnet.py"), *argv])
    quiet(train_localnet.main, *argv)
    entry = json.loads((tmp_path / "here" / "args.json").read_text())["tiny-localnet"]
    assert str(tmp_path) not in json.dumps(entry)
    assert str(Path(npz).parent) not in json.dumps(entry)
    assert entry["outside"] == {Path(npz).name: experiment.sha256(npz)}
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = shutil.copy(npz, tmp_path)
    train_localnet.main(["--dataset", moved, "--save_dir", str(tmp_path / "there"), *flags])
    assert "complete" in capsys.readouterr().out
