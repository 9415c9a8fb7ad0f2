"""Greedy k-center on a pool of 40,000: seconds and memory, beside scikit-learn's distances.

  python -m benchmarks.kcenter --full_matrix
  python -m benchmarks.kcenter --pool 8000 --labelled 600 --picks 300 --out kcenter-small.json

1,500 picks of 40,000 made-up samples in 1,280 dimensions, 3,000 of them labelled before. Ours is
`active_learning.kcenter`. The others are the plain greedy as one writes it with scikit-learn:

  steps   keeps each sample's distance to its nearest centre, and after each pick computes those to
          the pick, so that its memory is linear too
  matrix  (--full_matrix) computes all distances within the pool first, as the release does

Each runs in a process of its own, in turns; the medians count. Memory is the highest resident set
above that with the features loaded (Linux; not measured elsewhere). It ends with an error where the
picks differ. Ours should stay under 1 GB and be no slower than either.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.metrics.pairwise import euclidean_distances

import experiment
from active_learning.kcenter import k_center

BLOCK = 1024  # labelled samples whose distances to the pool are in memory at once
KINDS = ("clustered", "relu-like")


def made_up(kind: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [rows, width]: 10 clusters of 50 parts, some of whose samples lie far out.

    relu-like: what comes out of a layer with a ReLU, from 64 hidden causes: half are zeros, and
    the dimensions go together.
    """
    causes = width if kind == "clustered" else 64
    classes = rng.normal(size=(10, causes))
    parts = np.repeat(classes, 5, 0) + 0.5 * rng.normal(size=(50, causes))
    which, spread = rng.integers(0, 50, rows), 0.35 * rng.gamma(4, 0.5, (rows, 1))
    found = (parts[which] + spread * rng.normal(size=(rows, causes))).astype(np.float32)
    if kind == "clustered":
        return found
    mixed = found @ rng.normal(size=(causes, width)).astype(np.float32)
    return np.maximum(mixed / np.float32(np.sqrt(causes)), 0)


def by_steps(features: np.ndarray, labelled: np.ndarray, count: int) -> np.ndarray:
    """The plain greedy, its distances to each new centre from scikit-learn."""
    nearest = _to_labelled(features, labelled)
    picks = []
    for _ in range(count):
        picks.append(int(nearest.argmax()))
        new = euclidean_distances(features, features[picks[-1:]], squared=True)[:, 0]
        np.minimum(nearest, new, out=nearest)
        nearest[picks[-1]] = -1
    return np.array(picks)


def by_matrix(features: np.ndarray, labelled: np.ndarray, count: int) -> np.ndarray:
    """The plain greedy on scikit-learn's matrix of all distances, float32 [M, M]."""
    nearest = _to_labelled(features, labelled)
    matrix = euclidean_distances(features, squared=True)
    picks = []
    for _ in range(count):
        picks.append(int(nearest.argmax()))
        np.minimum(nearest, matrix[picks[-1]], out=nearest)
        nearest[picks[-1]] = -1
    return np.array(picks)


def _to_labelled(features: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    nearest = np.full(len(features), np.inf, dtype=np.float32)
    for start in range(0, len(labelled), BLOCK):
        squared = euclidean_distances(features, labelled[start : start + BLOCK], squared=True)
        np.minimum(nearest, squared.min(1), out=nearest)
    return nearest


WAYS = {"ours": k_center, "steps": by_steps, "matrix": by_matrix}


def measure(way: str, folder: Path, count: int) -> tuple[float, int | None, np.ndarray]:
    """(seconds, bytes above the features or None, picks); to be called in a fresh process."""
    features, labelled = (np.load(folder / f"{name}.npy") for name in ("pool", "labelled"))
    before = _resident("VmRSS")
    WAYS[way](features[:300], labelled[:50], 10)  # threads and libraries are up
    start = time.perf_counter()
    picks = WAYS[way](features, labelled, count)
    seconds = time.perf_counter() - start
    most = _resident("VmHWM")
    return seconds, None if most is None or before is None else most - before, picks


def _resident(name: str) -> int | None:
    """Bytes of this process by /proc; getrusage would count the parent's before the start too."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def compare(folder: Path, ways: list[str], count: int, rounds: int) -> dict[str, dict]:
    """By way: `seconds` and `bytes`, one a round; AssertionError where picks differ."""
    found: dict[str, dict] = {way: {"seconds": [], "bytes": []} for way in ways}
    expected = None
    for _ in range(rounds):
        for way in ways:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                seconds, size, picks = process.apply(measure, (way, folder, count))
            found[way]["seconds"].append(seconds)
            found[way]["bytes"].append(size)
            expected = picks if expected is None else expected
            np.testing.assert_array_equal(picks, expected, err_msg=f"{way} against {ways[0]}")
    return found


def enough_memory(pool: int) -> None:
    """ValueError where the full matrix of `pool` samples does not fit with a tenth to spare."""
    need, free = 4 * pool**2 * 1.1, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > free:
        raise ValueError(
            f"--full_matrix: needs {need / 1e9:.1f} GB and {free / 1e9:.1f} are free; "
            "leave it out or make --pool smaller"
        )


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("pool", 40000), ("labelled", 3000), ("picks", 1500), ("width", 1280)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--full_matrix", action="store_true", help="that way too; 4 M^2 bytes")
    parser.add_argument("--rounds", type=int, default=3, help="the medians count")
    parser.add_argument("--out", help="write the numbers there as JSON")
    args = parser.parse_args(argv)
    ways = list(WAYS)[: 3 if args.full_matrix else 2]
    with experiment.one_line_errors():
        if args.full_matrix:
            enough_memory(args.pool)
    hardware = experiment.hardware(experiment.pick_device("cpu"))
    threads = os.environ.get("OMP_NUM_THREADS")
    print(
        f"{hardware}, numpy {np.__version__}, scikit-learn {sklearn.__version__}, "
        f"{os.cpu_count()} cores, OMP_NUM_THREADS {threads}"
    )
    results = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rng = np.random.default_rng(0)
            rows = made_up(kind, args.labelled + args.pool, args.width, rng)
            np.save(folder / "labelled.npy", rows[: args.labelled])
            np.save(folder / "pool.npy", rows[args.labelled :])
            del rows
            results[kind] = found = compare(folder, ways, args.picks, args.rounds)
        for way, one in found.items():
            one["median"] = statistics.median(one["seconds"])
            one["ratio"] = one["median"] / found["ours"]["median"]
            sizes = [size for size in one["bytes"] if size is not None]
            one["most_bytes"] = max(sizes, default=None)
            memory = f"{max(sizes) / 1e6:,.0f} MB" if sizes else "not measured"
            print(
                f"{kind:10} {way:7} {one['median']:7.2f} s ({min(one['seconds']):.2f} to "
                f"{max(one['seconds']):.2f}), {one['ratio']:.1f} times ours; "
                f"{memory} above the features"
            )
    print(f"the same {args.picks:,} of {args.pool:,} were picked, in the same order")
    if args.out:
        head, dirty = experiment.commit()
        about = {"hardware": hardware, "cores": os.cpu_count(), "threads": threads}
        about |= {"numpy": np.__version__, "scikit-learn": sklearn.__version__}
        about |= {"commit": head, "dirty": dirty, "rounds": args.rounds}
        about |= {name: getattr(args, name) for name in ("pool", "labelled", "picks", "width")}
        with open(args.out, "w") as f:
            f.write(json.dumps(about | {"features": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
