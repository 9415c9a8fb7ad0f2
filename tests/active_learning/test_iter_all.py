"""The study's shell script: its commands, run in this process, and its reaction to failures."""

import json
import shutil

import pytest

from active_learning.strategies import METHODS
from tests.active_learning.conftest import BATCH, COSTS, INITIAL, TRAIN, TRAINED
from tests.shell import bash, run

# Stands for Python: prints its arguments, and fails with STATUS where these contain FAIL.
STUB = """#!/usr/bin/env bash
echo "$*"
if [ -n "${FAIL:-}" ]; then case "$*" in *"$FAIL"*) exit "$STATUS" ;; esac; fi
"""


@pytest.fixture
def script(targets, tmp_path):
    """script(words, settings): (exit status, error output, the commands)."""
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)

    def start(*words, **more):
        settings = {"PYTHON": str(stub), "DATASETS": "digits", "SEEDS": "0"}
        settings |= {"ROUNDS": "1", "TARGETS": str(targets), "METHODS": " ".join(TRAINED)}
        settings |= {"INITIAL": str(INITIAL), "BATCH": str(BATCH), "UNSEEN": "2"}
        settings |= {"EXTRA": " ".join(map(str, TRAIN)), "CASCADE": " ".join(map(str, COSTS))}
        process = bash("runs/iter_all.sh", *words, **settings | more)
        return process.returncode, process.stderr, process.stdout.splitlines()

    return start


def test_it_skips_finished_steps_and_gives_what_the_steps_give(script, study, tmp_path):
    """`study` is the same two rounds, step by step; one net and one result of it are deleted."""
    folder = tmp_path / "run"
    status, error, commands = script("cpu", "2", folder)
    assert status == 0, error
    shutil.copytree(study, folder / "seed-0")
    shutil.rmtree(next((folder / "seed-0/nets/digits/lenet5").glob("*")))
    (folder / "seed-0/extracted_results/2/digits/DIAM/1/performances.json").unlink()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("net.pth")}
    run(commands)
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    assert len(list(folder.rglob("net.pth"))) == len(before) + 1
    texts = sorted(study.rglob("performances.txt"))
    assert len(texts) == len(METHODS) + len(TRAINED)
    for text in texts:
        assert (folder / "seed-0" / text.relative_to(study)).read_text() == text.read_text()
    names = {p.name for p in (folder / "figures").iterdir()}
    for figure in ("curves", "differences", "risk-differences"):
        assert {f"digits-2-{figure}.pdf", f"digits-2-{figure}.png"} <= names
    assert {f"digits-2-methods.{kind}" for kind in ("md", "tex", "csv", "json")} <= names
    summary = json.loads((folder / "figures" / "digits-2-methods.json").read_text())
    assert [m for m in summary["methods"] if "1" in summary["methods"][m]["runs"]["0"]] == [
        *TRAINED
    ]


def test_a_pool_that_runs_out_ends_the_study_in_order(script, tmp_path):
    stop = {"FAIL": "al_select --save_dir", "STATUS": "3"}
    status, _, commands = script("cpu", "2", tmp_path / "run", **stop)
    names = [command.split()[1].removeprefix("active_learning.") for command in commands]
    assert (status, names) == (0, ["test_multi_models", "al_select", "plot", "table"])


def test_flags_reach_every_step(script, tmp_path):
    settings = {"STUDY": "--val_size 0.4 --split_seed 1", "ROUNDS": "2", "FORGET": "1"}
    status, _, commands = script("cpu", "2", tmp_path / "run", **settings)
    assert status == 0
    assert all("--val_size 0.4 --split_seed 1" in command for command in commands[:-2])
    (forgets,) = [command for command in commands if "--forget" in command]
    assert "--al_iter 2" in forgets


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"UNSEEN": "2 1"}, "--unseen 1: is a voting target; use ids >= 2"),
        ({"CASCADE": "--local_id 1"}, "a cascade needs two nets"),
        ({"STUDY": "--init weights"}, "--init weights has no effect"),
        ({"DATASETS": "digits digit"}, "near: digits"),
    ],
)
def test_bad_settings_fail_in_the_checks_before_any_training(
    script, tmp_path, refused, settings, message
):
    _, _, commands = script("cpu", "2", tmp_path / "run", **settings)
    checks = [command for command in commands if command.endswith("--check")]
    assert checks == commands[: len(checks)]
    *good, bad = checks
    run(good)
    refused(lambda _: run([bad]), telling=message)
    assert not (tmp_path / "run" / "seed-0" / "nets").exists()


def test_a_step_that_fails_ends_it(script, tmp_path):
    for step, count in (("--check", 1), ("train_net", 3)):
        fail = {"FAIL": step, "STATUS": "2"}
        status, _, commands = script("cpu", "2", tmp_path / "run", **fail)
        assert (status, len(commands)) == (2, count)


def test_wrong_arguments_and_settings_start_nothing(script):
    for words in ([], ["cpu"], ["cpu", "2", "run", "more"]):
        status, error, commands = script(*words)
        assert (status, commands) == (2, [])
        assert "usage:" in error
    status, error, commands = script("cpu", "2", DIAMQ="2")
    assert (status, commands) == (2, [])
    assert "DIAMQ has no effect without DIAM_qp" in error
