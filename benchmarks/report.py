"""How long a report takes and how much memory, as a process of its own, import time included.

  python -m benchmarks.report
  python -m benchmarks.report --rounds 5 --out report-cpu.json
  python -m benchmarks.report --sizes 10000x10 --rounds 1

First a predictions.npz as eval_all.py writes it (5,000 val and 10,000 test samples, 10 classes, a
rejector at each of the paper's 42 costs, 2 estimators, 256 pictures; random, with the structure of
real ones), with 1,000 bootstrap draws. Then CSV files of rows x classes, half of them val: labels,
class scores of a local net, and what a remote one answers. Prints the median of the rounds. On 2
idle cores it should give at most 2.5 s at 10,000 rows of 10 classes, 5 s at 100,000, 40 s and 2 GB
at 1,000,000, and 15 s at 20,000 rows of 1,000 classes. Takes 5 minutes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import experiment
from deferral.risk import PAPER_COSTS

VAL, TEST, CLASSES, PICTURES = 5000, 10000, 10, 256
FLAGS = ["--costs", "1:0.25", "1.25:0"]  # of the report of predictions.npz
SIZES = [(10_000, 10), (100_000, 10), (1_000_000, 10), (20_000, 1000)]  # rows and classes of CSVs


def make_predictions(path: Path, seed: int = 0) -> None:
    """A predictions.npz whose nets err on hard samples, with rejectors that see some of it."""
    rng = np.random.default_rng(seed)
    n = VAL + TEST
    labels, hard = rng.integers(0, CLASSES, n), rng.normal(size=n)
    lift = np.stack([2.7 - 1.1 * hard, 3.8 - 0.8 * hard + 0.6 * rng.normal(size=n)])
    logits = 1.3 * rng.normal(size=(2, n, CLASSES))
    logits += lift[:, :, None] * (np.arange(CLASSES) == labels[:, None])
    right = 1 / (1 + np.exp(-(lift - 2 + 0.4 * rng.normal(size=(2, 2, n)))))  # [A, 2, N]
    scores = [(1 - right[0, 0]) - ce - c1 * (1 - right[0, 1]) for c1, ce in PAPER_COSTS]
    settings = {
        "dataset": "made-up",
        "classes": [f"class {k}" for k in range(CLASSES)],
        "local": "none",
        "edge": "none",
        "seed": seed,
        "rejectors": [
            {"stem": f"{c1}-{ce}", "surrogate": "stage_switching", "cost_1": c1, "cost_e": ce}
            | {"async_freq": 1, "seed": seed, "parameters": 62006, "multiply_adds": 651720}
            for c1, ce in PAPER_COSTS
        ],
        "estimators": [
            {"name": f"estimator {a}", "about": "made up", "parameters": 1000 * (a + 1)}
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


def make_csv(path: Path, rows: int, classes: int, seed: int = 0) -> None:
    """Labels, the local net's scores, and answers of a remote net that is right in 95 %."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes)).astype(np.float32)
    logits[np.arange(rows), labels] += 2
    remote = np.where(rng.random(rows) < 0.95, labels, (labels + 1) % classes)
    scores = {f"local_{k}": logits[:, k] for k in range(classes)}
    csv.write_csv(pa.table({"label": labels, **scores, "remote_prediction": remote}), path)


def one_round(path: Path, flags: Sequence[str]) -> tuple[float, float]:
    """Seconds of the whole command, as a user waits for it, and its highest memory in MB."""
    command = [sys.executable, "-m", "deferral.report", str(path), "--overwrite", *flags]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, usage.ru_maxrss / 1000  # Linux counts in kB


def measure(path: Path, flags: Sequence[str], rounds: int) -> dict[str, Any]:
    seconds, megabytes = zip(*(one_round(path, flags) for _ in range(rounds)), strict=True)
    page = path.with_name(f"{path.stem.removesuffix('-predictions')}-report.html")
    return {
        "seconds": list(seconds),
        "median": statistics.median(seconds),
        "megabytes": max(megabytes),
        "page_bytes": page.stat().st_size,
    }


def show(what: str, found: dict[str, Any]) -> None:
    low, high = min(found["seconds"]), max(found["seconds"])
    print(
        f"{what}: median {found['median']:.1f} s ({low:.1f} to {high:.1f}), "
        f"{found['megabytes']:,.0f} MB, page {found['page_bytes'] / 1e6:.1f} MB",
        flush=True,
    )


def size(text: str) -> tuple[int, int]:
    """An argparse type: ROWSxCLASSES."""
    rows, _, classes = text.partition("x")
    return experiment.number(int, 10)(rows), experiment.number(int, 2)(classes)


def main(argv: Sequence[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("--rounds", type=experiment.number(int, 1), default=3)
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    parser.add_argument(
        "--sizes", type=size, nargs="*", default=SIZES, metavar="ROWSxCLASSES",
        help="of the CSV files",
    )  # fmt: skip
    parser.add_argument("--out", help="write the numbers there as JSON")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made-up-predictions.npz"
        make_predictions(path)
        flags = ["--draws", str(args.draws)]
        found = measure(path, [*flags, *FLAGS], args.rounds)
        show(f"{TEST:,} test samples, {len(PAPER_COSTS)} settings, {args.draws:,} draws", found)
        files = []
        for rows, classes in args.sizes:
            path = Path(folder) / f"made-up-{rows}-{classes}.csv"
            make_csv(path, rows, classes)
            timed = measure(path, [*flags, "--cost_e", "0.1"], args.rounds)
            one = {"rows": rows, "classes": classes} | timed
            show(f"CSV of {rows:,} rows, {classes:,} classes", one)
            files.append(one)
            path.unlink()
    # Only now, as it imports torch: a child's highest memory counts its parent's when it starts.
    hardware = experiment.hardware(experiment.pick_device("cpu"))
    print(f"{hardware}, numpy {np.__version__}, {os.cpu_count()} cores")
    if args.out:
        head, dirty = experiment.commit()
        about = {"hardware": hardware, "cores": os.cpu_count(), "numpy": np.__version__}
        about |= {"commit": head, "dirty": dirty, "threads": os.environ.get("OMP_NUM_THREADS")}
        about |= {"val": VAL, "test": TEST, "settings": len(PAPER_COSTS), "draws": args.draws}
        Path(args.out).write_text(json.dumps(about | found | {"files": files}, indent=1) + "\n")


if __name__ == "__main__":
    main()
