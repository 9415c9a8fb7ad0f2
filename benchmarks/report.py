"""Time of a full report: 10,000 test samples, 42 cost settings, 1,000 bootstrap draws.

  python -m benchmarks.report
  python -m benchmarks.report --rounds 5 --out report-cpu.json

Writes random predictions with the structure of eval_all.py's (5,000 val and 10,000 test samples, 10
classes, a rejector for each of the paper's 42 costs, 2 estimators, 256 pictures), runs
`python -m deferral.report` on them in a new process, import time included, and prints the median of
the rounds. It should be under 10 s on 2 cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import experiment

COSTS = [(c1, ce / 40) for c1 in (1.0, 1.25) for ce in range(21)]  # the paper's 42
VAL, TEST, CLASSES, PICTURES = 5000, 10000, 10, 256


def make_predictions(path: Path, seed: int = 0) -> None:
    """Writes a predictions.npz whose nets err on hard samples, which rejectors partly recognise."""
    rng = np.random.default_rng(seed)
    n = VAL + TEST
    labels, hard = rng.integers(0, CLASSES, n), rng.normal(size=n)
    lift = np.stack([2.7 - 1.1 * hard, 3.8 - 0.8 * hard + 0.6 * rng.normal(size=n)])
    logits = 1.3 * rng.normal(size=(2, n, CLASSES))
    logits += lift[:, :, None] * (np.arange(CLASSES) == labels[:, None])
    right = 1 / (1 + np.exp(-(lift - 2 + 0.4 * rng.normal(size=(2, 2, n)))))  # [A, 2, N]
    scores = [(1 - right[0, 0]) - ce - c1 * (1 - right[0, 1]) for c1, ce in COSTS]
    settings = {
        "dataset": "made-up",
        "classes": [f"class {k}" for k in range(CLASSES)],
        "local": "none",
        "edge": "none",
        "seed": seed,
        "rejectors": [
            {"stem": f"{c1}-{ce}", "surrogate": "stage_switching", "cost_1": c1, "cost_e": ce}
            | {"async_freq": 1, "seed": seed, "parameters": 62006, "multiply_adds": 651720}
            for c1, ce in COSTS
        ],
        "estimators": [
            {"name": f"estimator {a}", "about": "random", "parameters": 1000 * (a + 1)}
            for a in range(len(right))
        ],
    }
    shown = np.unique(np.linspace(0, TEST - 1, PICTURES).astype(int)) + VAL
    experiment.write_npz(
        path,
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.repeat(np.array([0, 1], np.int8), [VAL, TEST]),
        index=np.arange(n),
        scores=np.array(scores, np.float32) + rng.normal(0, 0.1, n).astype(np.float32),
        estimates=right.astype(np.float32),
        settings=np.array(json.dumps(settings)),
        example_index=shown,
        example_images=rng.integers(0, 256, (len(shown), 3, 32, 32), dtype=np.uint8),
    )


def one_round(path: Path, draws: int) -> float:
    """Wall seconds of the whole command."""
    command = [sys.executable, "-m", "deferral.report", str(path), "--overwrite"]
    command += ["--draws", str(draws), "--costs", "1:0.25", "1.25:0"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="the median is reported")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--out", help="JSON file for the numbers")
    args = parser.parse_args(argv)
    hardware = experiment.hardware(experiment.pick_device("cpu"))
    print(f"{hardware}, numpy {np.__version__}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made-up-predictions.npz"
        make_predictions(path)
        seconds = [one_round(path, args.draws) for _ in range(args.rounds)]
        size = (Path(folder) / "made-up-report.html").stat().st_size
    median = statistics.median(seconds)
    print(
        f"report of {TEST:,} test samples, {len(COSTS)} settings, {args.draws:,} draws: median "
        f"{median:.1f} s ({min(seconds):.1f} to {max(seconds):.1f}), page {size / 1e6:.1f} MB"
    )
    if args.out:
        head, dirty = experiment.commit()
        about = {"hardware": hardware, "cores": os.cpu_count(), "numpy": np.__version__}
        about |= {"commit": head, "dirty": dirty, "threads": os.environ.get("OMP_NUM_THREADS")}
        about |= {"val": VAL, "test": TEST, "settings": len(COSTS), "draws": args.draws}
        results = {"seconds": seconds, "median": median, "page_bytes": size}
        with open(args.out, "w") as f:
            f.write(json.dumps(about | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
