"""benchmarks.scale: bytes are those of the formulas, turns are taken, and the file is written."""

import json

import pytest
import torch
from torch import nn

from benchmarks import points, scale
from models.rejector import Rejector, new_rejectors

CPU = torch.device("cpu")


def test_kept_bytes_by_hand():
    """Linear keeps its input; ReLU what it gives, which the second Linear keeps too."""
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(7, 3)
    assert points.kept_bytes(lambda: net(x), net) == 4 * (7 * 3 + 7 * 5)


def test_a_rejector_keeps_what_the_docstring_says():
    x = torch.randn(16, 3, 32, 32)
    kept = [points.kept_bytes(lambda net=net: net(x), net) for net in map(stack, (1, 2, 70))]
    assert kept[1] - kept[0] == 16 * scale.KEPT == 16 * 46_544
    assert kept[2] - kept[0] == 69 * 16 * scale.KEPT
    assert points.parameters(Rejector()) == scale.REJECTOR


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


@pytest.mark.parametrize(("count", "freqs"), [(3, [1]), (40, [1, 100, 7])])
def test_memory_of_settings_is_that_of_the_formula(count, freqs):
    """Below, the edge's own pass is the peak; above, that of its rejectors, with two copies."""
    found, by_formula = scale.memory("convnet", count, freqs, CPU)
    assert by_formula == pytest.approx(found, rel=0.04)


def test_all_take_turns(monkeypatch):
    called = []
    monkeypatch.setattr(points, "seconds", lambda work, device: work() or 0.5)
    works = {name: (lambda name=name: called.append(name), steps) for name, steps in LONG.items()}
    found = points.take_turns(works, 2, CPU)
    assert called == ["a", "b"] * 3  # warm, then two rounds
    assert found == {"a": [500.0, 500.0], "b": [125.0, 125.0]}


LONG = {"a": 1, "b": 4}


def test_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(points, "free_bytes", lambda device: 2e9)
    assert points.fits("K = 1", 1_900_000_000, CPU)
    assert capsys.readouterr().out == ""
    assert not points.fits("K = 2", 3_000_000_000, CPU)
    assert capsys.readouterr().out == "K = 2: left out, needs 3.0 GB and 2.0 are free\n"


def test_where_the_rejectors_cost_as_much_as_the_edge():
    assert scale.doubles_at(10, [(1, 11), (5, 15)]) is None
    assert scale.doubles_at(10, [(1, 11), (5, 15), (15, 25)]) == 10
    assert scale.doubles_at(10, [(4, 30)]) == 2


def test_settings_end_to_end(tmp_path, capsys):
    flags = ["--edges", "convnet", "--counts", "1", "3", "--steps", "1", "--rounds", "2"]
    out = tmp_path / "out.json"
    scale.main([*flags, "--device", "cpu", "--out", str(out)])
    found = json.loads(out.read_text())
    assert (found["kind"], found["batch"], found["device"]) == ("settings", 16, "cpu")
    ways = [(row["way"], row["x"], len(row["milliseconds"])) for row in found["rows"]]
    single = [("edge alone", 1, 2), ("a run each", 1, 2)]
    assert ways == [*single, ("one pass", 1, 2), ("one pass", 3, 2)]
    assert all("bytes" in row for row in found["rows"][2:])
    assert "convnet: the rejectors cost more than the edge" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--device", "nowhere"], "--device nowhere"),
        (["--device", "cpu", "--edges", "alexnte"], "alexnet"),
    ],
)
def test_bad_input(refused, flags, telling):
    refused(scale.main, *flags, telling=telling)
