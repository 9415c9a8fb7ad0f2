"""The study by its shell script: killed and continued, equal to the steps run one by one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.active_learning.conftest import BATCH, COSTS, INITIAL, TRAIN, TRAINED

ROOT = Path(__file__).resolve().parent.parent.parent


def start(targets, run, **more):
    settings = {"PYTHON": sys.executable, "DATASETS": "digits", "SEEDS": "0", "ROUNDS": "1"}
    settings |= {"TARGETS": str(targets), "INITIAL": str(INITIAL), "BATCH": str(BATCH)}
    settings |= {"EXTRA": " ".join(map(str, TRAIN)), "CASCADE": " ".join(map(str, COSTS))}
    settings |= {"METHODS": " ".join(TRAINED)} | more
    return subprocess.Popen(
        ["bash", "runs/iter_all.sh", "cpu", "2", str(run)],
        cwd=ROOT, env=os.environ | settings, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def results(run):
    return sorted(run.rglob("net.json"))


@pytest.fixture(scope="module")
def run(targets, tmp_path_factory):
    """Two rounds of two methods; the first attempt was killed while it trained round 0."""
    run = tmp_path_factory.mktemp("chain") / "run"
    first = start(targets, run)
    while not results(run) and first.poll() is None:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    before = {p: p.stat().st_mtime_ns for p in results(run)}
    assert 1 <= len(before) < 4
    second = start(targets, run)
    output, _ = second.communicate()
    assert second.returncode == 0, output[-3000:]
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())  # none trained again
    return run


def test_it_gives_what_the_steps_give(run, study):
    """`study` is the same two rounds, step by step in one process."""
    for method in TRAINED:
        queries = Path("index_sets", "2", "digits", method, "1.npz")
        both = np.load(run / "seed-0" / queries), np.load(study / queries)
        np.testing.assert_array_equal(both[0]["queried"], both[1]["queried"])
        for round_ in ("0", "1"):
            text = Path("extracted_results", "2", "digits", method, round_, "performances.txt")
            assert (run / "seed-0" / text).read_text() == (study / text).read_text()


def test_it_ends_in_figures_and_tables(run):
    names = {p.name for p in (run / "figures").iterdir()}
    for figure in ("curves", "differences", "risk-differences"):
        assert {f"digits-2-{figure}.pdf", f"digits-2-{figure}.png"} <= names
    assert {f"digits-2-methods.{kind}" for kind in ("md", "tex", "csv", "json")} <= names
    summary = json.loads((run / "figures" / "digits-2-methods.json").read_text())
    assert (list(summary["methods"]), summary["rounds"]) == (list(TRAINED), [0, 1])


def test_a_pool_that_runs_out_ends_the_study_in_order(targets, tmp_path):
    """With a val cut of 40 % the pool has 718 samples; the data flags reach every step."""
    small = {"STUDY": f"--val_size 0.4 --split_seed 1 --data_root {tmp_path}", "METHODS": "random"}
    small |= {"EXTRA": "--epochs 2 --batch_size 120 --DIS_frac 1", "INITIAL": "700", "FORGET": "1"}
    process = start(targets, tmp_path / "run", **small)
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]
    (line,) = (line for line in output.splitlines() if "pool ran out" in line)
    assert "18 samples are unlabelled before round 1" in line
    summary = json.loads((tmp_path / "run" / "figures" / "digits-2-methods.json").read_text())
    assert (summary["rounds"], summary["labelled"]) == ([0], {"0": 700})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"UNSEEN": "2 1"}, "--unseen 1: is a voting target; use ids >= 2"),
        ({"EXTRA": "--epochs 1"}, "DIAM has no votes to go by"),
        ({"DIAMQ": "2"}, "DIAMQ has no effect without DIAM_qp"),
        ({"DATASETS": "digits digit"}, "near: digits"),
    ],
)
def test_bad_settings_end_it_before_any_training(targets, tmp_path, settings, message):
    process = start(targets, tmp_path / "run", **settings)
    output, _ = process.communicate()
    assert process.returncode == 2, output
    assert output.splitlines()[-1].startswith("error: ")
    assert message in output
    assert not (tmp_path / "run" / "seed-0" / "nets").exists()


def test_wrong_arguments_print_the_usage():
    for words in ([], ["cpu"], ["cpu", "2", "run", "more"]):
        process = subprocess.run(
            ["bash", "runs/iter_all.sh", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert process.returncode != 0
        assert "usage:" in process.stderr
