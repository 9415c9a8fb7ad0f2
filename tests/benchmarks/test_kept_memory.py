"""benchmarks.kept_memory: both ways, each in processes of its own."""

import json

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


def test_a_process_keeps_memory_only_where_it_is_to(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(kept_memory, "keep_memory", lambda: asked.append(True))
    monkeypatch.setattr(kept_memory, "one_process", lambda *given: {"given": given})
    for way in kept_memory.WAYS:
        kept_memory.main(["--edge_net", "convnet", "--way", way])
        assert len(asked) == (way == "kept")
        assert json.loads(capsys.readouterr().out) == {"given": [["convnet"], 16, 12]}
