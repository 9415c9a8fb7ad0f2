"""benchmarks.floor: what it counts, by hand, and that it runs."""

import json

import pytest
import torch

from benchmarks import floor

CPU = torch.device("cpu")


def test_the_floor_is_the_larger_of_arithmetic_and_bytes():
    rate = {"float32": 1e12, "bf16": 4e12, "bytes": 1e11}
    assert floor.floor_ms(rate, 2e9, 1e8, "float32") == pytest.approx(2.0)
    assert floor.floor_ms(rate, 2e9, 1e8, "bf16") == pytest.approx(1.0)


def test_work_of_lenet5_by_hand():
    """651,720 multiply-adds forward, as many twice backward, 16 images; 62,006 parameters."""
    flops, moved = floor.work_of("lenet5", CPU, 0)
    assert flops == 2 * 16 * 3 * 651_720
    assert moved == 28 * 62_006


def test_work_of_an_edge_and_its_rejectors_by_hand():
    rejector = 651_720 - 84 * 8  # two outputs in place of ten
    one, three = (floor.work_of("convnet", CPU, count) for count in (1, 3))
    assert three[0] - one[0] == 2 * (2 * 16) * 3 * rejector
    assert three[1] - one[1] == 2 * 28 * (62_006 - 85 * 8)
    assert one[1] == 36 * 429_466 + 28 * (62_006 - 85 * 8)


def test_protocol_adds_both_halves_and_compares_with_54_runs():
    rows = [
        {"net": "a", "way": way, "settings": count, "ms": ms}
        for way, count, ms in (("plain", 1, 9.0), ("graph", 42, 2.0), ("graph", 12, 3.0))
    ]
    (row,) = floor.protocol(rows)
    steps = 15 * 2813
    assert row["hours"] == pytest.approx(steps * 5e-3 / 3600)
    assert row["plain_hours"] == pytest.approx(steps * 54 * 9e-3 / 3600)
    assert floor.protocol(rows[:2]) == []


def test_it_runs_and_writes_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(floor, "rates", lambda d: {"float32": 1e11, "bf16": 2e11, "bytes": 1e10})
    flags = ["--nets", "lenet5", "--steps", "1", "--rounds", "1", "--device", "cpu"]
    floor.main([*flags, "--out", str(tmp_path / "floor.json")])
    result = json.loads((tmp_path / "floor.json").read_text())
    assert [(r["net"], r["way"]) for r in result["rows"]] == [
        ("lenet5", "plain"),
        ("lenet5", "eager"),
    ]
    for row in result["rows"]:
        assert row["times_floor"] == pytest.approx(row["ms"] / row["floor_ms"])
