"""benchmarks.processes: a job trains and prints its speed; counts take turns."""

import json

from benchmarks import processes


def test_a_job_prints_images_a_second(capsys):
    flags = ["--edge", "convnet", "--batch_size", "4", "--steps", "2", "--settings", "1"]
    processes.main(["--job", "--device", "cpu", *flags])
    assert float(capsys.readouterr().out) > 0


def test_counts_take_turns(monkeypatch, tmp_path, capsys):
    jobs = []

    def run_job(count, argv, threads):
        jobs.append(count)
        return 100.0 * count + len(jobs)

    monkeypatch.setattr(processes, "run_job", run_job)
    path = tmp_path / "speeds.json"
    processes.main(["--device", "cpu", "--counts", "1", "3", "--out", str(path)])
    assert jobs == [1, 3, 1, 3, 1, 3]
    assert "3 processes: 304 images a second (302 to 306)" in capsys.readouterr().out
    assert json.loads(path.read_text())["rows"] == [
        {"processes": 1, "images_a_second": [101, 103, 105]},
        {"processes": 3, "images_a_second": [302, 304, 306]},
    ]
