"""benchmarks.stream: folders are made, every way is measured, and the file is written."""

import json
from concurrent.futures import ThreadPoolExecutor

from benchmarks import stream


def test_rows(tmp_path, monkeypatch):
    """In this process: three new ones would take longer than all the rest."""
    monkeypatch.setattr(stream, "ProcessPoolExecutor", lambda n, mp_context: ThreadPoolExecutor(n))
    flags = ["--pictures", "40", "--classes", "4", "--size", "32", "--local_net", "lenet5"]
    flags += ["--edge_net", "convnet", "--settings", "3", "--batch_size", "4", "--steps", "2"]
    flags += ["--rounds", "1", "--workers", "0", "--device", "cpu"]
    stream.main([*flags, "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["size"], found["settings"], found["device"]) == (32, 3, "cpu")
    assert [(row["way"], row["pictures"]) for row in found["rows"]] == [
        ("plain", 40),
        ("ours", 40),
        ("local", 40),
    ]
    for row in found["rows"]:
        assert len(row["images_per_second"]) == 1
        assert row["images_per_second"][0] > 0
        assert row["megabytes"] > 10
    assert {(row["way"], row["size"]) for row in found["decoders"]} >= {
        ("Pillow", 224),
        ("Pillow", 500),
    }
