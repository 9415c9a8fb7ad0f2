"""The whole chain by its shell script: killed, begun again, and the same as step by step."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from active_learning.strategies import METHODS
from tests.active_learning.conftest import BATCH, COSTS, INITIAL, TRAIN, TRAINED

ROOT = Path(__file__).resolve().parent.parent.parent


def chain(python, targets, run, **more):
    settings = {"PYTHON": python, "DATASETS": "digits", "SEEDS": "0", "ROUNDS": "2"}
    settings |= {"TARGETS": str(targets), "INITIAL": str(INITIAL), "BATCH": str(BATCH)}
    settings |= {"EXTRA": " ".join(map(str, TRAIN)), "CASCADE": " ".join(map(str, COSTS))} | more
    return subprocess.Popen(
        ["bash", "runs/iter_all.sh", "cpu", "2", str(run)],
        cwd=ROOT, env=os.environ | settings, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def results(run):
    return sorted(run.rglob("net.json"))


@pytest.fixture(scope="module")
def run(python, targets, tmp_path_factory):
    """Three rounds of all methods; the first attempt was killed while it trained round 0."""
    run = tmp_path_factory.mktemp("chain") / "run"
    first = chain(sys.executable, targets, run)
    while not results(run) and first.poll() is None:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    before = {p: p.stat().st_mtime_ns for p in results(run)}
    assert 1 <= len(before) < 4
    second = chain(python, targets, run)
    said, _ = second.communicate()
    assert second.returncode == 0, said[-3000:]
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())  # none trained again
    complete = [line for line in said.splitlines() if line.endswith(": complete")]
    assert len(complete) >= 1 + len(before)  # the labels of round 0, and what was trained on them
    return run


def test_every_round_of_every_method_is_there(run):
    folder = run / "seed-0" / "extracted_results" / "2" / "digits"
    for method in METHODS:
        for round_ in range(3):
            result = json.loads((folder / method / str(round_) / "performances.json").read_text())
            assert result["labelled"] == 60 + 20 * round_
            rows = (folder / method / str(round_) / "performances.txt").read_text().splitlines()
            assert len(rows) == 2


def test_labels_are_disjoint_complete_and_only_grow(run):
    """Of the files as they lie there, without the project's reader."""
    sets = run / "seed-0" / "index_sets"
    for method in METHODS:
        before = np.load(sets / "digits" / "0.npz")
        for round_ in (1, 2):
            found = np.load(sets / "2" / "digits" / method / f"{round_}.npz")
            both = np.concatenate([found["labelled"], found["unlabelled"]])
            assert sorted(both) == list(range(1077))
            assert set(found["labelled"]) == set(before["labelled"]) | set(found["queried"])
            assert set(found["queried"]) <= set(before["unlabelled"])
            assert len(set(found["queried"])) == 20
            before = found


def test_it_is_what_the_steps_give_one_by_one(run, study):
    """`study` was made by the same steps in one process, unbroken, and with an unseen net."""
    for method in METHODS:
        name = Path("index_sets", "2", "digits", method, "1.npz")
        ours, theirs = np.load(run / "seed-0" / name), np.load(study / name)
        np.testing.assert_array_equal(ours["queried"], theirs["queried"])
    for method in TRAINED:
        for round_ in ("0", "1"):
            name = Path("extracted_results", "2", "digits", method, round_, "performances.txt")
            assert (run / "seed-0" / name).read_text() == (study / name).read_text()


def test_it_ends_in_figures_and_tables(run):
    names = {p.name for p in (run / "figures").iterdir()}
    for figure in ("curves", "differences", "risk-differences"):
        assert {f"digits-2-{figure}.pdf", f"digits-2-{figure}.png"} <= names
    assert {f"digits-2-methods.{kind}" for kind in ("md", "tex", "csv", "json")} <= names
    table = json.loads((run / "figures" / "digits-2-methods.json").read_text())
    assert list(table["methods"]) == list(METHODS)
    assert table["rounds"] == [0, 1, 2]


def test_the_data_flags_reach_every_step_and_a_pool_that_runs_out_ends_it(
    python, targets, tmp_path
):
    """With a val cut of 40 % the pool has 718 samples: 638, then 80 more, then none are left."""
    small = {"STUDY": f"--val_size 0.4 --split_seed 1 --data_root {tmp_path}"}
    small |= {"METHODS": "random DIAM", "INITIAL": "638", "BATCH": "80"}
    small |= {"EXTRA": "--epochs 2 --batch_size 120 --DIS_frac 1", "ROUNDS": "3", "FORGET": "1"}
    done = chain(python, targets, tmp_path / "run", **small)
    said, _ = done.communicate()
    assert done.returncode == 0, said[-3000:]
    (line,) = (line for line in said.splitlines() if "pool ran out" in line)
    assert "0 samples are unlabelled before round 2" in line
    table = json.loads((tmp_path / "run" / "figures" / "digits-2-methods.json").read_text())
    assert table["rounds"] == [0, 1]
    assert table["labelled"] == {"0": 638, "1": 718}
    assert list(table["methods"]) == ["random", "DIAM"]


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"UNSEEN": "2 1"}, "--unseen 1: it votes; give one from 2"),
        ({"UNSEEN": "3"}, "net 3: there are 3 targets"),
        ({"CASCADE": "--edge_id 2"}, "--edge_id 2: the targets that vote are 0..1"),
        ({"CASCADE": "--local_id 1"}, "a cascade needs two nets"),
        ({"CASCADE": "--cost_1 -1"}, "must be finite"),
        ({"STUDY": "--init weights"}, "--init weights has no effect"),
        ({"EXTRA": "--epochs 1"}, "DIAM has no votes to go by"),
        ({"DIAMQ": "2"}, "DIAMQ has no effect without DIAM_qp"),
        ({"DATASETS": "digits digit"}, "near: digits"),
    ],
)
def test_what_cannot_be_ends_it_before_any_training(python, targets, tmp_path, settings, telling):
    done = chain(python, targets, tmp_path / "run", **{"METHODS": "random DIAM"} | settings)
    said, _ = done.communicate()
    assert done.returncode == 2, said
    assert said.splitlines()[-1].startswith("error: ")
    assert telling in said
    assert not (tmp_path / "run" / "seed-0" / "nets").exists()


def test_wrong_arguments_end_it_at_once(tmp_path):
    for words in ([], ["cpu"], ["cpu", "2", "run", "more"]):
        done = subprocess.run(
            ["bash", "runs/iter_all.sh", *words], cwd=ROOT, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode != 0
        assert "usage:" in done.stderr
