"""Figures of a device with exits and a server: their numbers against deferral's, and bad input."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from deferral import estimates
from deferral import predictions as saved
from deferral.compare import compare
from deferral.decide import prepared
from figures import exits_and_server

SETTINGS = {
    "classes": ["a", "b", "c"], "rejectors": [], "arch": "msdnet", "edge": "convnet",
    "multiply_adds": [10, 30, 50], "cost_flops": 1e-3,
}  # fmt: skip


def write(folder, dataset="digits", seed=0, rows=(60, 90), draw=None, **changes):
    """A file of deferral.join: 3 exits and a server, each better than the one before."""
    rng = np.random.default_rng([seed, draw or 0])
    labels = np.random.default_rng(draw or 0).integers(0, 3, sum(rows))
    logits = rng.normal(size=(4, sum(rows), 3)).astype(np.float32)
    logits[:, np.arange(sum(rows)), labels] += np.linspace(0.8, 3, 4)[:, None]
    settings = SETTINGS | {"dataset": dataset, "seed": seed} | changes
    settings = {key: value for key, value in settings.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / f"{dataset}-predictions.npz",
        labels=labels,
        stage_logits=logits,
        split=np.repeat([0, 1], rows).astype(np.int8),
        index=np.arange(sum(rows)),
        scores=np.zeros((0, sum(rows)), np.float32),
        settings=np.array(json.dumps(settings)),
    )
    return saved.load(folder / f"{dataset}-predictions.npz")


@pytest.fixture(scope="module", autouse=True)
def few_fits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "STRENGTHS", (3e-3,))
        yield


@pytest.fixture
def runs(tmp_path):
    return [write(tmp_path / "runs" / f"seed-{seed}", seed=seed) for seed in (0, 1)]


def test_exits_and_server(tmp_path, runs, capsys):
    flags = ["--cost_1", "1", "--cost_e", "0", "0.1", "0.3", "--draws", "50"]
    exits_and_server.main([str(tmp_path / "runs"), *flags])
    out = tmp_path / "runs" / "figures"
    with open(out / "digits-exits_and_server.csv") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    costs = [(1.0, 0.0), (1.0, 0.1), (1.0, 0.3)]
    found = compare(runs, costs, 50)
    assert {"never", "exit 1", "exits only", "max softmax", "optimum", "oracle"} <= set(rows)
    for r, rule in enumerate(found.rules):
        row = rows[rule.label]
        assert float(row["risk"]) == pytest.approx(found.risk[r, -1])
        assert float(row["sent"]) == pytest.approx(found.reject_rate[r, -1])
    spent = []
    for run in runs:
        for cost in costs:
            stage = prepared(run).stage(prepared(run).decide(*cost)["optimum"])
            spent.append(np.mean([[10, 30, 50, 50][s] for s in stage]))
    assert float(rows["optimum"]["multiply_adds"]) == pytest.approx(np.mean(spent))
    assert float(rows["exit 1"]["multiply_adds"]) == 10
    assert (out / "digits-exits_and_server.png").stat().st_size > 2_000
    assert "2 seeds, 90 test samples" in capsys.readouterr().out


def test_cost_flops_overrides_the_files(tmp_path, runs, finished):
    flags = [str(tmp_path / "runs"), "--cost_e", "0.1", "--draws", "5", "--cost_flops", "0.01"]
    exits_and_server.main([*flags, "--out", str(tmp_path / "out")])
    with open(tmp_path / "out" / "digits-exits_and_server.csv") as file:
        (never,) = (float(row["risk"]) for row in csv.DictReader(file) if row["label"] == "never")
    dear = [replace(r, settings=r.settings | {"cost_flops": 0.01}) for r in runs]
    found = compare(dear, [(1.25, 0.1)], 5)
    row = [rule.name for rule in found.rules].index("never")
    assert never == pytest.approx(found.risk[row, 0])
    assert never > 0.5  # the whole device costs half an error


def test_bad_input_is_refused(tmp_path, refused):
    main = exits_and_server.main
    refused(main, tmp_path, telling="no predictions in")
    write(tmp_path / "seed-0", cost_flops=None, multiply_adds=[10, 30, 50, 70])
    refused(main, tmp_path, telling="no predictions with a server; python -m deferral.join")
    assert not list(tmp_path.rglob("*.png"))
