"""The measures of routers in a report, against their definitions on a made-up router's file."""

import csv

import numpy as np
import pytest

from tests.deferral.reports import Page, read, run

pytestmark = pytest.mark.usefixtures("quick")
ROWS = 400


@pytest.fixture(scope="module")
def made(quick, tmp_path_factory):
    """(columns of the test rows, JSON, page) of a file with qualities, costs and scores."""
    path = tmp_path_factory.mktemp("routers") / "router.csv"
    rng = np.random.default_rng(0)
    hard = rng.random(ROWS)
    columns = {
        "quality_small": np.round(np.clip(1 - hard + rng.normal(0, 0.1, ROWS), 0, 1), 2),
        "quality_large": np.round(np.clip(1 - 0.3 * hard + rng.normal(0, 0.1, ROWS), 0, 1), 2),
        "cost_small": np.full(ROWS, 0.1),
        "cost_large": np.round(1 + hard, 3),
        "score_small": np.round(1 - hard + rng.normal(0, 0.2, ROWS), 3),
    }
    split = np.arange(ROWS) % 2
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "split"])
        for k in range(ROWS):
            writer.writerow([*(v[k] for v in columns.values()), ("val", "test")[split[k]]])
    run(path, "--draws", 20, "--pay", "router", "--min_quality", "95%")
    test = {name: values[split == 1] for name, values in columns.items()}
    return test, *read(path.with_name("router-report.html"))


def test_measures_are_those_of_a_slow_loop(made):
    test, found, _ = made
    rows = {row["name"]: row for row in found["routers"]["rules"]}
    n = ROWS // 2
    sent_first = np.argsort(test["score_small"], kind="stable")
    calls, quality, cost = [], [], []
    for k in range(n + 1):
        large = np.isin(np.arange(n), sent_first[:k])
        calls.append(k / n)
        quality.append(np.where(large, test["quality_large"], test["quality_small"]).mean())
        cost.append(np.where(large, test["cost_large"], test["cost_small"]).mean())
    calls, quality, cost = map(np.array, (calls, quality, cost))
    gap = (quality - quality[0]) / (quality[-1] - quality[0])
    extra = (cost - cost[0]) / (cost[-1] - cost[0])
    row = rows["score"]
    near = {"abs": 0.01}  # equal scores are sent together
    assert row["area_calls"] == pytest.approx(np.trapezoid(gap, calls), **near)
    assert row["area_cost"] == pytest.approx(np.trapezoid(gap, extra), **near)
    for part in (50, 80):
        first = np.argmax(gap >= part / 100)
        assert row[f"calls_{part}"] == pytest.approx(calls[first], **near)
        assert row[f"cost_{part}"] == pytest.approx(extra[first], **near)
    equal = cost[quality >= quality[-1]].min()
    assert row["cost_at_quality"] == pytest.approx(equal / test["cost_large"].mean(), abs=0.02)
    assert row["quality_at_cost"] == pytest.approx(quality.max(), **near)
    assert rows["random"]["area_calls"] == pytest.approx(0.5)
    assert rows["random"]["calls_80"] == pytest.approx(0.8)
    assert all(rows["oracle"]["area_calls"] >= row["area_calls"] for row in rows.values())


def test_the_page_names_the_models_of_the_file(made):
    text = " ".join("".join(Page(made[2]).text).split())
    for words in ("local net", "remote", "the edge", "nan"):
        assert words not in text, words
    assert "only small" in text
    assert "asks large where the score is below" in text
