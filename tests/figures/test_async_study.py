"""The asynchronous study: its table from the arrays, its panels, and when there is nothing."""

import csv
import json

import numpy as np
import pytest

from deferral.predictions import load
from deferral.risk import costs, risk
from figures import async_study, loss_curves, settings, summary_table

KINDS = ("pdf", "png", "md", "tex", "csv")
FREQS = (1, 10, 1000, 0, "adaptive-0.02", "adaptive-0.1", "adaptive-1")
EDGE = 1_234_567  # bytes
REFRESHES = {1: 600, 10: 60, 1000: 2, 0: 2, "adaptive-0.02": 9, "adaptive-0.1": 4, "adaptive-1": 0}


@pytest.fixture
def study(tmp_path, write):
    """Write a run with two cost pairs at seven S; `change` may spoil its arrays."""

    def make(progress=9, change=lambda arrays: None, **more):
        path = tmp_path / "run" / "cifar10-predictions.npz"
        pairs = ((1.25, 0.25), (1.0, 0.25))
        arrays = write(path, cost_1=(1.0,), cost_e=(0.1,), async_costs=pairs, async_freq=FREQS,
                       pictures=0, n=(40, 80), **more)  # fmt: skip
        rejectors = arrays["settings"]["rejectors"]
        for s in rejectors:
            s["refreshes"] = REFRESHES[s["async_freq"]]
            s["bytes_sent"] = EDGE * s["refreshes"]
            s["outages"] = []
        if progress is not None:
            rng, shape = np.random.default_rng(0), (progress, len(rejectors))
            arrays |= {
                "progress_step": np.arange(progress) * 10,
                "progress_seconds": np.arange(progress) * 1.5,
                "progress_risk": rng.random(shape).astype(np.float32),
                "progress_accuracy": rng.random(shape).astype(np.float32),
                "progress_bytes": np.zeros(shape, int),
            }
        change(arrays)
        np.savez(path, **arrays | {"settings": json.dumps(arrays["settings"])})
        return path

    return make


def run(path, *argv):
    async_study.main([str(path.parent), *map(str, argv)])


def rows_of(path):
    text = (path.parent / "figures/cifar10-async_study.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def test_the_table_is_the_arrays(study):
    path = study()
    run(path)
    files = {p.name for p in (path.parent / "figures").iterdir()}
    assert files == {f"cifar10-async_study.{kind}" for kind in KINDS}
    pred, rows = load(path), rows_of(path)
    test = pred.part("test")
    order = ["1", "10", "1000", "|D|", "adaptive, 0.02", "adaptive, 0.1", "adaptive, 1"]
    assert [row["refresh"] for row in rows] == 2 * order
    assert [row["cost_1"] for row in rows] == ["1.0"] * 7 + ["1.25"] * 7
    for row in rows:
        freq = dict(zip(order, FREQS, strict=True))[row["refresh"]]
        (r,) = (
            r for r, s in enumerate(pred.settings["rejectors"])
            if (s["cost_1"], s["cost_e"], s["async_freq"]) == (float(row["cost_1"]), 0.25, freq)
        )  # fmt: skip
        sent = test.scores[r] > 0
        expected = risk(test.correct, sent.astype(int), *costs(float(row["cost_1"]), 0.25))
        assert float(row["risk_rejector"]) == pytest.approx(expected)
        assert float(row["reject_rate"]) == pytest.approx(sent.mean())
        assert int(row["refreshes"]) == REFRESHES[freq]
        assert int(row["bytes_sent"]) == EDGE * REFRESHES[freq]
        assert float(row["val_risk"]) == pytest.approx(pred.progress_risk[-1, r])
        assert float(row["seconds"]) == 12


@pytest.mark.filterwarnings("error")
def test_the_panels_are_the_rows_of_one_cost_pair(study, finished):
    path = study()
    run(path, "--cost_1", 1)
    ((fig, title),) = finished
    assert "$c_1$ = 1, $c_e$ = 0.25" in title
    assert "no link" not in title
    time, by_risk, by_accuracy = fig.axes
    pred = load(path)
    rows = [row for row in rows_of(path) if float(row["cost_1"]) == 1]
    sweep = settings.one_async_sweep(pred, 1, None)
    for line, s in zip(time.lines, sweep, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), pred.progress_seconds)
        np.testing.assert_array_equal(line.get_ydata(), pred.progress_risk[:, s["row"]])
    for ax, key, scale in ((by_risk, "risk_rejector", 1), (by_accuracy, "accuracy", 100)):
        low, high = ax.get_xlim()
        least = min(int(row["bytes_sent"]) for row in rows if int(row["bytes_sent"])) / 1e6
        for mark, row in zip(ax.lines, rows, strict=True):
            (x,), (y,) = mark.get_xdata(), mark.get_ydata()
            assert y == pytest.approx(scale * float(row[key]))
            assert low < x < high
            if int(row["bytes_sent"]):
                assert x == pytest.approx(int(row["bytes_sent"]) / 1e6)
            else:
                labels = dict(zip(ax.get_xticks(), ax.get_xticklabels(), strict=True))
                assert labels[x].get_text() == "0"
                assert x < least


def test_an_outage_is_said_and_the_default_costs_are_the_papers(study, finished):
    def down(arrays):
        for s in arrays["settings"]["rejectors"]:
            s["outages"] = [[100, 400], [500, 501]]

    path = study(change=down, progress=30)
    run(path)
    ((_, title),) = finished
    assert "$c_1$ = 1.25, $c_e$ = 0.25" in title
    assert title.endswith("no link in batches 100–399, 500–500")
    assert (
        "no link in batches 100–399" in (path.parent / "figures/cifar10-async_study.md").read_text()
    )


@pytest.mark.parametrize("progress", [None, 0])
@pytest.mark.filterwarnings("error")
def test_without_progress_there_are_two_panels(study, finished, progress):
    path = study(progress=progress, surrogates=("stage_switching", "cost_sensitive"))
    run(path)
    assert len(finished[0][0].axes) == 2
    rows = rows_of(path)
    assert {row["surrogate"] for row in rows} == {"stage_switching", "cost_sensitive"}
    assert {(row["val_risk"], row["seconds"]) for row in rows} == {("", "")}


def test_where_there_is_nothing_to_show(study, tmp_path, write, capsys, refused):
    def forget(arrays):
        del arrays["settings"]["rejectors"][3]["bytes_sent"]

    run(study(change=forget))
    assert "does not say what its refreshes sent" in capsys.readouterr().out
    write(tmp_path / "one" / "cifar10-predictions.npz", async_costs=(), pictures=0)
    run(tmp_path / "one" / "cifar10-predictions.npz")
    assert "more than one --async_freq" in capsys.readouterr().out
    write(tmp_path / "edge" / "cifar10-predictions.npz", cost_1=(), async_costs=(), pictures=0)
    run(tmp_path / "edge" / "cifar10-predictions.npz")
    assert "only an edge net" in capsys.readouterr().out
    path = study()
    refused(async_study.main, path.parent, "--cost_1", 9, telling="1:0.25, 1.25:0.25")
    assert not (path.parent / "figures").exists()


def test_other_figures_take_adaptive_settings(study, finished, capsys):
    path = study()
    loss_curves.main([str(path.parent)])
    summary_table.main([str(path.parent)])
    assert "adaptive, 0.02" in capsys.readouterr().out


def test_order_of_refreshes():
    freqs = ["adaptive-0.1", 0, "adaptive-0.02", 100, "joint", 1, 20]
    order = [1, "joint", 20, 100, 0, "adaptive-0.02", "adaptive-0.1"]
    assert sorted(freqs, key=settings.often_first) == order
