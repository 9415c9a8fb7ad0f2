"""benchmarks.report: whole processes on files made on the spot."""

import json

from benchmarks import report


def test_rows(monkeypatch, tmp_path):
    changes = {"VAL": 60, "TEST": 80, "PICTURES": 4, "FLAGS": ["--cost_1", "1", "--cost_e", "0"]}
    changes["PAPER_COSTS"] = report.PAPER_COSTS[:2]
    for name, value in changes.items():
        monkeypatch.setattr(report, name, value)
    flags = ["--rounds", "1", "--draws", "20", "--sizes", "80x3"]
    report.main([*flags, "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"hardware", "cores", "commit", "dirty", "median"} <= set(found)
    (row,) = found["files"]
    assert (row["rows"], row["classes"], len(row["seconds"])) == (80, 3, 1)
    assert row["median"] == row["seconds"][0] > 0
    assert 50 < row["megabytes"] < 5000
