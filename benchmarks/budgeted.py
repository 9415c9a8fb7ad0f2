"""How long budgeted evaluation takes: 39 points, 10 exits, 10,000 samples, beside a plain loop.

  python -m benchmarks.budgeted
  python -m benchmarks.budgeted --rounds 9 --out budgeted-cpu.json

Fits the thresholds of all points on 10,000 samples and finds where each of 10,000 others leaves:
`deferral.exits`, and the same as a loop over points, exits and samples in plain Python, whose
shares are fractions without rounding. Both run in every round, the medians count; it ends with an
error if a threshold or a stop differs. It should be under 0.2 s on one core.
"""

import argparse
import json
import math
import os
import statistics
import time
from fractions import Fraction

import numpy as np

import experiment
from deferral import exits

POINTS, EXITS, SAMPLES = 39, 10, 10000


def plain_shares(p: int, num_exits: int) -> list[Fraction]:
    """q^k / sum of q^j with q = p / 20, exactly."""
    powers = [Fraction(p, 20) ** k for k in range(1, num_exits + 1)]
    return [power / sum(powers) for power in powers]


def plain_thresholds(confidence: list[list[float]], shares: list[Fraction]) -> list[float]:
    """One point: walk the exits, each takes its share of the most confident that are left."""
    n = len(confidence[0])
    left, thresholds = range(n), []
    for sure, share in zip(confidence[:-1], shares[:-1], strict=True):
        take, threshold = math.floor(n * share), math.inf
        if 0 < take <= len(left):
            threshold = sorted((sure[i] for i in left), reverse=True)[take - 1]
        thresholds.append(threshold)
        left = [i for i in left if sure[i] < threshold]
    return [*thresholds, -math.inf]


def plain_stops(confidence: list[list[float]], thresholds: list[float]) -> list[int]:
    """One point: the first exit of each sample that is sure enough."""
    found = []
    for i in range(len(confidence[0])):
        for k, threshold in enumerate(thresholds):
            if confidence[k][i] >= threshold:
                found.append(k)
                break
    return found


def made_up(num_exits: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Confidence [E, N] that rises with depth and is alike over exits, hard samples last."""
    easy = rng.normal(size=samples) + np.linspace(0, 2, num_exits)[:, None]
    return 1 / (1 + np.exp(-easy - 0.7 * rng.normal(size=(num_exits, samples))))


def one_round(val: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """Seconds of `deferral.exits` and of the loop; AssertionError where they do not agree."""
    start = time.perf_counter()
    q = np.arange(1, POINTS + 1) / 20
    thresholds = exits.fit_thresholds(val, exits.shares(q, EXITS))
    stop = exits.stops(test, thresholds)
    fast = time.perf_counter() - start

    val_list, test_list = val.tolist(), test.tolist()  # a list is faster to walk; not counted
    start = time.perf_counter()
    slow_thresholds = [
        plain_thresholds(val_list, plain_shares(p, EXITS)) for p in range(1, POINTS + 1)
    ]
    slow_stop = [plain_stops(test_list, t) for t in slow_thresholds]
    slow = time.perf_counter() - start
    np.testing.assert_array_equal(thresholds, slow_thresholds)
    np.testing.assert_array_equal(stop, slow_stop)
    return fast, slow


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="the median counts")
    parser.add_argument("--out", help="write the numbers there as JSON")
    args = parser.parse_args(argv)
    hardware = experiment.hardware(experiment.pick_device("cpu"))
    print(f"{hardware}, numpy {np.__version__}, {os.cpu_count()} cores")
    rng = np.random.default_rng(0)
    val, test = (made_up(EXITS, SAMPLES, rng) for _ in range(2))
    fast, slow = zip(*(one_round(val, test) for _ in range(args.rounds)), strict=True)
    medians = statistics.median(fast), statistics.median(slow)
    print(
        f"{POINTS} points, {EXITS} exits, {SAMPLES:,} val and {SAMPLES:,} test samples, median of "
        f"{args.rounds}: {medians[0]:.3f} s ({min(fast):.3f} to {max(fast):.3f}), plain loop "
        f"{medians[1]:.2f} s ({min(slow):.2f} to {max(slow):.2f}): {medians[1] / medians[0]:.0f} "
        "times; equal thresholds and stops"
    )
    if args.out:
        head, dirty = experiment.commit()
        about = {"hardware": hardware, "cores": os.cpu_count(), "numpy": np.__version__}
        about |= {"commit": head, "dirty": dirty, "threads": os.environ.get("OMP_NUM_THREADS")}
        about |= {"points": POINTS, "exits": EXITS, "val": SAMPLES, "test": SAMPLES}
        found = {"seconds": fast, "loop_seconds": slow, "median": medians[0]}
        found |= {"loop_median": medians[1], "ratio": medians[1] / medians[0]}
        with open(args.out, "w") as f:
            f.write(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
