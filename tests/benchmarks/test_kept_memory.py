"""benchmarks.kept_memory: both ways, each in processes of its own."""

import json
from types import SimpleNamespace

from benchmarks import kept_memory


def test_both_ways(tmp_path, capsys):
    out = tmp_path / "kept.json"
    words = ["--edge_net", "convnet", "--batch_size", "2", "--steps", "1", "--rounds", "1"]
    kept_memory.main([*words, "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [row["what"] for row in rows] == ["convnet", "42 rejectors"]
    for row in rows:
        assert row["ratio"] == row["given_back_ms"] / row["kept_ms"] > 0
        assert row["ratio_min"] == row["ratio"] == row["ratio_max"]
    assert "convnet" in capsys.readouterr().out


def test_the_quickest_process_of_each_way_counts(monkeypatch):
    """A slow process of either way shows in the range alone; the ways take turns."""
    given_back, kept, asked = [3.0, 8.0], [5.0, 2.0], []

    def run(words, **how):
        asked.append(words[-1])
        ms = (kept if words[-1] == "kept" else given_back)[(len(asked) - 1) // 2]
        return SimpleNamespace(stdout=json.dumps({"convnet": ms}))

    monkeypatch.setattr(kept_memory.subprocess, "run", run)
    args = SimpleNamespace(edge_net=["convnet"], batch_size=2, steps=1, rounds=2)
    (row,) = kept_memory.take_turns(args)
    assert asked == ["given back", "kept"] * 2
    assert (row["given_back_ms"], row["kept_ms"], row["ratio"]) == (3.0, 2.0, 1.5)
    assert (row["ratio_min"], row["ratio_max"]) == (0.6, 4.0)


def test_a_process_keeps_memory_only_where_it_is_to(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(kept_memory, "keep_memory", lambda: asked.append(True))
    monkeypatch.setattr(kept_memory, "one_process", lambda *given: {"given": given})
    for way in kept_memory.WAYS:
        kept_memory.main(["--edge_net", "convnet", "--way", way])
        assert len(asked) == (way == "kept")
        assert json.loads(capsys.readouterr().out) == {"given": [["convnet"], 16, 12]}
