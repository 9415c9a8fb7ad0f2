"""benchmarks.evaluation: a run made on the spot is one that eval_all.py takes."""

import json

import pytest

from benchmarks import evaluation


def test_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation, "SETTINGS", evaluation.SETTINGS[40:44])
    flags = ["--edge_net", "convnet", "--images", "40", "--train_images", "30", "--rounds", "2"]
    flags += ["--device", "cpu", "--out", str(tmp_path / "found.json")]
    evaluation.main(flags)
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"hardware", "torch", "threads", "commit", "dirty"} <= set(found)
    (row,) = found["rows"]
    assert row["images"] == 40
    ratios = [a / e for a, e in zip(row["evaluate_seconds"], row["edge_seconds"], strict=True)]
    assert [row["ratio_min"], row["ratio_max"]] == sorted(ratios)
    assert row["ratio"] == pytest.approx(sum(ratios) / 2)
    assert all(value > 0 for value in row["parts"].values())
    assert row["multiply_adds"]["rejector"] == 651_720 - 8 * 84
