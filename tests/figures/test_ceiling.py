"""The table of how near each rule comes to the ceiling."""

import csv
import json

import numpy as np
import pytest

from deferral import predictions as saved
from deferral.compare import compare
from deferral.risk import PAPER_COSTS, costs, risk
from figures import ceiling
from tests.figures.conftest import synthetic


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of one data set, each with a student better than the local net and an estimator."""
    folder = tmp_path_factory.mktemp("ceiling")
    for seed in (1, 2):
        path = folder / f"seed-{seed}" / "tiny-predictions.npz"
        arrays = synthetic(path, pictures=0, steps=5, n=(200, 300), dataset="tiny")
        rng, labels = np.random.default_rng(seed), arrays["labels"]
        logits = rng.normal(size=(1, 500, 10))
        logits[0, np.arange(500), labels] += 2.5
        right = (arrays["stage_logits"].argmax(-1) == labels).astype(np.float32)
        settings = arrays["settings"] | {
            "seed": seed,
            "students": ["knowing"],
            "estimators": [{"name": "knowing", "about": "the truth", "multiply_adds": 1234}],
        }
        arrays |= {"estimates": right[None], "student_logits": logits.astype(np.float32)}
        np.savez(path, **arrays | {"settings": json.dumps(settings)})
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    runs = [saved.load(path) for path in saved.find(folder)]
    return ceiling.table(runs, compare(runs, PAPER_COSTS, 50))


def test_gains_and_students(folder, tmp_path):
    ceiling.main([str(folder), "--draws", "50", "--out", str(tmp_path)])
    rows = {row["rule"]: row for row in csv.DictReader((tmp_path / "tiny-ceiling.csv").open())}
    assert float(rows["ceiling (sees the remote's scores)"]["gain"]) == pytest.approx(1)
    assert (tmp_path / "tiny-ceiling.png").stat().st_size > 10_000
    # The estimator knows the truth, so it decides as the oracle does.
    for column in ("risk", "gain", "low", "high"):
        assert float(rows["knowing"][column]) == pytest.approx(float(rows["oracle"][column]))
    assert rows["knowing"]["multiply_adds"] == "1234"
    assert float(rows["knowing"]["low"]) > 1
    confident = [float(rows[name]["gain"]) for name in ("max softmax", "margin", "entropy")]
    assert 0 in confident
    alone = rows["knowing: its student as the local net, never"]
    runs = [saved.load(path).part("test") for path in saved.find(folder)]
    wrong = np.mean([(run.student_logits[0].argmax(-1) != run.labels).mean() for run in runs])
    assert float(alone["risk"]) == pytest.approx(wrong, abs=1e-6)
    never = [risk(r.correct, np.zeros(300, int), *costs(1, 0)) for r in runs]
    assert float(rows["never"]["risk"]) == pytest.approx(np.mean(never), abs=1e-6)
    asking = [row for name, row in rows.items() if "its student as the local net" in name]
    assert len(asking) == 2
    assert float(asking[1]["risk"]) < float(asking[0]["risk"])


def test_without_a_way_to_the_ceiling_there_is_no_share():
    gains = ceiling.share(np.array([0.1, 0.1, 0.0]), np.array([0.2, 0.0, -0.1]))
    np.testing.assert_array_equal(gains, [0.5, np.nan, np.nan])


def test_runs_of_other_students_are_refused(folder, tmp_path, refused):
    for path in saved.find(folder):
        arrays = dict(np.load(path))
        settings = json.loads(str(arrays["settings"]))
        settings["students"] = [f"of {settings['seed']}"]
        copied = tmp_path / path.relative_to(folder)
        copied.parent.mkdir()
        np.savez(copied, **arrays | {"settings": json.dumps(settings)})
    out = tmp_path / "out"
    refused(ceiling.main, tmp_path, "--out", out, telling="have other students")
    assert not out.exists()


def test_a_difference_is_to_the_rule_of_gain_0(rows):
    for row in rows:
        zero = {"max softmax", "margin", "entropy"} & {row["reference"]}
        assert zero
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert (row["difference"] < 0) == (row["gain"] > 0)
        assert (row["rule"] in zero) == (row["difference_low"] == row["difference_high"] == 0)


def test_without_multiply_adds_there_is_no_figure(rows, tmp_path):
    bare = [row | {"multiply_adds": None} for row in rows]
    assert ceiling.draw(bare, tmp_path, "bare", "") == []
