"""benchmarks.scale: bytes are those of the formulas, turns are taken, and the file is written."""

import json

import pytest
import torch
from torch import nn

from benchmarks import points, scale
from models.cost import parameters
from models.rejector import Rejector, new_rejectors

CPU = torch.device("cpu")


def test_kept_bytes_by_hand():
    """Linear keeps its input; ReLU what it gives, which the second Linear keeps too."""
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(7, 3)
    assert points.kept_bytes(lambda: net(x), net) == 4 * (7 * 3 + 7 * 5)


def test_a_rejector_keeps_what_the_docstring_says():
    x = torch.randn(16, 3, 32, 32)
    kept = [points.kept_bytes(lambda net=net: net(x), net) for net in map(stack, (1, 70))]
    assert kept[1] - kept[0] == 69 * 16 * scale.KEPT == 69 * 16 * 46_544
    assert parameters(Rejector()) == scale.REJECTOR


def stack(count):
    return new_rejectors(count, 0)


def test_peak_counts_what_is_there_at_once():
    before = torch.zeros(10_000)

    def run():
        a = torch.zeros(1000)
        b = a.clone()
        del a
        c = torch.zeros(500)
        return b, c, before.sum()

    assert points.peak_bytes(run, CPU) == pytest.approx(4 * 2000, abs=64)


def test_memory_of_settings_is_that_of_the_formula():
    """With so many rejectors their pass is the peak; two refresh rates keep copies."""
    found, by_formula = scale.memory("convnet", 40, [1, 100, 7], CPU)
    assert by_formula == pytest.approx(found, rel=0.04)


def test_where_the_rejectors_cost_as_much_as_the_edge():
    assert scale.doubles_at(10, [(1, 11), (5, 15)]) is None
    assert scale.doubles_at(10, [(1, 11), (5, 15), (15, 25)]) == 10
    assert scale.doubles_at(10, [(4, 30)]) == 2


def test_settings_end_to_end(tmp_path, capsys):
    flags = ["--edges", "convnet", "--counts", "2", "--steps", "1", "--rounds", "1"]
    out = tmp_path / "out.json"
    scale.main([*flags, "--device", "cpu", "--out", str(out)])
    found = json.loads(out.read_text())
    assert (found["kind"], found["batch"], found["device"]) == ("settings", 16, "cpu")
    ways = [(row["way"], row["x"], len(row["milliseconds"])) for row in found["rows"]]
    assert ways == [("edge alone", 1, 1), ("a run each", 1, 1), ("one pass", 2, 1)]
    assert all("bytes" in row for row in found["rows"][2:])
    assert "convnet: the rejectors cost more than the edge" in capsys.readouterr().out
