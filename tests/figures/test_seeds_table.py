"""Mean and deviation over runs, against the summaries of the runs."""

import csv
import json
import shutil

import numpy as np
import pytest

from deferral import predictions as saved
from deferral.summary import summarise
from figures import seeds_table


@pytest.fixture
def runs(write, tmp_path):
    """Three made-up runs of other seeds."""
    folders = [tmp_path / str(seed) for seed in (1, 2, 3)]
    for seed, folder in enumerate(folders, start=1):
        path = folder / "tiny-predictions.npz"
        arrays = write(path, cost_1=(1.25,), cost_e=(0.0, 0.2), pictures=0, steps=5, seed=seed)
        settings = arrays["settings"] | {"seed": seed}
        np.savez(path, **arrays | {"settings": json.dumps(settings)})
    return folders


def test_mean_and_deviation(runs, tmp_path):
    seeds_table.main([*map(str, runs), "--out", str(tmp_path / "out")])
    rows = list(csv.DictReader((tmp_path / "out/tiny-seeds_table.csv").open()))
    summaries = [summarise(saved.load(run / "tiny-predictions.npz")) for run in runs]
    assert len(rows) == len(summaries[0]) + 1
    for row in rows[:-1]:
        refresh = row["refresh"].replace("|D|", "0")
        key = float(row["cost_1"]), float(row["cost_e"]), refresh
        risks = [
            s["risk_rejector"]
            for summary in summaries
            for s in summary
            if (s["cost_1"], s["cost_e"], str(s["async_freq"])) == key
        ]
        assert len(risks) == 3
        assert row["risk_rejector"] == f"{np.mean(risks):.3f} ± {np.std(risks, ddof=1):.3f}"
    grid = [np.mean([s["risk_rejector"] for s in summary]) for summary in summaries]
    assert rows[-1]["cost_1"] == "all"
    assert rows[-1]["risk_rejector"] == f"{np.mean(grid):.3f} ± {np.std(grid, ddof=1):.3f}"


def test_the_same_seed_twice(runs, tmp_path, refused):
    shutil.copy(runs[0] / "tiny-predictions.npz", runs[1])
    refused(seeds_table.main, *runs, "--out", tmp_path / "out", telling="two or more seeds")
    assert not (tmp_path / "out").exists()


def test_other_settings(runs, tmp_path, refused):
    path = runs[2] / "tiny-predictions.npz"
    arrays = dict(np.load(path))
    settings = json.loads(str(arrays["settings"]))
    settings["rejectors"][0]["cost_1"] = 9.0
    np.savez(path, **(arrays | {"settings": np.array(json.dumps(settings))}))
    refused(seeds_table.main, *runs, "--out", tmp_path / "out", telling="not all 3 runs")
