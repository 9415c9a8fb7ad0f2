"""Time and memory of greedy k-center on a pool of 40,000, compared with scikit-learn.

  python -m benchmarks.kcenter --full_matrix
  python -m benchmarks.kcenter --pool 8000 --labelled 600 --picks 300 --out kcenter-small.json

Selects 1,500 of 40,000 random samples in 1,280 dimensions, with 3,000 labelled samples. Ours is
`active_learning.kcenter`; the baselines are plain greedy implementations with scikit-learn:

  steps   keeps each sample's distance to its nearest centre and updates it after each pick; its
          memory is linear, too
  matrix  (--full_matrix) computes all distances within the pool first, as the release does

Each runs in a separate process, alternately; medians are reported. Memory is the peak resident set
minus that with the features loaded (Linux only). Ends with an error if the picks differ. Ours
should stay under 1 GB and be no slower than the baselines.
"""

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


def random_features(kind: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """float32 [rows, width]: 10 clusters of 5 sub-clusters each, with some outliers.

    relu-like: ReLU of a linear map from 64 latent dimensions; half of the values are zero, and the
    dimensions are correlated.
    """
    latent = width if kind == "clustered" else 64
    classes = rng.normal(size=(10, latent))
    parts = np.repeat(classes, 5, 0) + 0.5 * rng.normal(size=(50, latent))
    which, spread = rng.integers(0, 50, rows), 0.35 * rng.gamma(4, 0.5, (rows, 1))
    points = (parts[which] + spread * rng.normal(size=(rows, latent))).astype(np.float32)
    if kind == "clustered":
        return points
    mixed = points @ rng.normal(size=(latent, width)).astype(np.float32)
    return np.maximum(mixed / np.float32(np.sqrt(latent)), 0)


def by_steps(features: np.ndarray, labelled: np.ndarray, count: int) -> np.ndarray:
    """Plain greedy; scikit-learn computes the distances to each new centre."""
    nearest = _to_labelled(features, labelled)
    picks = []
    for _ in range(count):
        picks.append(int(nearest.argmax()))
        new = euclidean_distances(features, features[picks[-1:]], squared=True)[:, 0]
        np.minimum(nearest, new, out=nearest)
        nearest[picks[-1]] = -1
    return np.array(picks)


def by_matrix(features: np.ndarray, labelled: np.ndarray, count: int) -> np.ndarray:
    """Plain greedy on scikit-learn's matrix of all distances, float32 [M, M]."""
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
    """(seconds, bytes beyond the features or None, picks); call it in a fresh process."""
    features, labelled = (np.load(folder / f"{name}.npy") for name in ("pool", "labelled"))
    before = _resident("VmRSS")
    WAYS[way](features[:300], labelled[:50], 10)  # starts threads and loads libraries
    start = time.perf_counter()
    picks = WAYS[way](features, labelled, count)
    seconds = time.perf_counter() - start
    peak = _resident("VmHWM")
    return seconds, None if peak is None or before is None else peak - before, picks


def _resident(name: str) -> int | None:
    """Bytes of this process from /proc; getrusage would include the parent's memory."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def compare(folder: Path, ways: list[str], count: int, rounds: int) -> dict[str, dict]:
    """By way: lists `seconds` and `bytes`, one entry per round; AssertionError if picks differ."""
    results: dict[str, dict] = {way: {"seconds": [], "bytes": []} for way in ways}
    expected = None
    for _ in range(rounds):
        for way in ways:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                seconds, size, picks = process.apply(measure, (way, folder, count))
            results[way]["seconds"].append(seconds)
            results[way]["bytes"].append(size)
            expected = picks if expected is None else expected
            np.testing.assert_array_equal(picks, expected, err_msg=f"{way} against {ways[0]}")
    return results


def enough_memory(pool: int) -> None:
    """ValueError unless the full matrix of `pool` samples fits with 10 % to spare."""
    need, free = 4 * pool**2 * 1.1, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > free:
        raise ValueError(
            f"--full_matrix: needs {need / 1e9:.1f} GB and {free / 1e9:.1f} are free; "
            "omit it or make --pool smaller"
        )


def main(argv=None):
    parser = experiment.Parser(__doc__)
    for name, default in (("pool", 40000), ("labelled", 3000), ("picks", 1500), ("width", 1280)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--full_matrix", action="store_true", help="also time that way; needs 4 M^2 bytes"
    )
    parser.add_argument("--rounds", type=int, default=3, help="alternations; medians are reported")
    parser.add_argument("--out", help="JSON file for the numbers")
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
            rows = random_features(kind, args.labelled + args.pool, args.width, rng)
            np.save(folder / "labelled.npy", rows[: args.labelled])
            np.save(folder / "pool.npy", rows[args.labelled :])
            del rows
            results[kind] = by_way = compare(folder, ways, args.picks, args.rounds)
        for way, row in by_way.items():
            row["median"] = statistics.median(row["seconds"])
            row["ratio"] = row["median"] / by_way["ours"]["median"]
            sizes = [size for size in row["bytes"] if size is not None]
            row["most_bytes"] = max(sizes, default=None)
            memory = f"{max(sizes) / 1e6:,.0f} MB" if sizes else "not measured"
            print(
                f"{kind:10} {way:7} {row['median']:7.2f} s ({min(row['seconds']):.2f} to "
                f"{max(row['seconds']):.2f}), {row['ratio']:.1f} times ours; "
                f"{memory} beyond the features"
            )
    print(f"all ways picked the same {args.picks:,} of {args.pool:,} in the same order")
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
