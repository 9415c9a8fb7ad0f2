"""What it saves on a CPU under Linux that freed memory is kept (experiment.machine.keep_memory).

  python -m benchmarks.kept_memory
  python -m benchmarks.kept_memory --edge_net resnet18 --out kept-memory.json

A training step at --batch_size images of 32 px of each edge net, and an evaluation at 250 images of
the paper's 42 rejectors, with freed memory kept and as glibc has it by itself. A process a way and
round, since what one has kept cannot be given back; the ways take turns. Of a process the median
step counts, of a way the quickest process: what else the machine does falls on some processes and
not on others, and on single rounds, whose range of the ratio is given too.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch

import experiment
from benchmarks.clock import seconds
from benchmarks.points import about
from benchmarks.sweep import COSTS, sgd
from experiment.machine import keep_memory
from models.edgenet import build_edge, edge_size
from models.rejector import new_rejectors
from train_localnet import training_step

WAYS = ("given back", "kept")
REJECTORS = f"{len(COSTS)} rejectors"
CPU = torch.device("cpu")


def works(names: list[str], batch_size: int):
    """(name, what to time) of each edge net's step and of the rejectors' evaluation."""
    for name in names:
        net = build_edge(name, 10, edge_size(name, 32), 0)
        step = training_step(net, sgd(net, 1e-3, fused=True))
        batch = torch.randn(batch_size, 3, 32, 32), torch.arange(batch_size) % 10
        yield name, functools.partial(step, *batch)
    stack, images = new_rejectors(len(COSTS), 0), torch.randn(250, 3, 32, 32)

    def evaluate():
        with torch.inference_mode():
            stack(images)

    yield REJECTORS, evaluate


def one_process(names: list[str], batch_size: int, steps: int) -> dict[str, float]:
    """Milliseconds of each of `works` in this process, the median of `steps` after two."""
    found = {}
    for name, work in works(names, batch_size):
        taken = [1e3 * seconds(work, CPU) for _ in range(steps + 2)]
        found[name] = statistics.median(taken[2:])
    return found


def take_turns(args: argparse.Namespace) -> list[dict]:
    """The row of each of `works` from --rounds processes a way, the quickest of each."""
    words = [sys.executable, "-m", "benchmarks.kept_memory", "--batch_size", str(args.batch_size)]
    words += ["--steps", str(args.steps), "--edge_net", *args.edge_net, "--way"]
    found = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            done = subprocess.run(
                [*words, way], cwd=experiment.ROOT, check=True, stdout=subprocess.PIPE
            )
            found[way].append(json.loads(done.stdout))
    rows = []
    for name in found["kept"][0]:
        back, kept = ([one[name] for one in found[way]] for way in WAYS)
        ratios = [b / k for b, k in zip(back, kept, strict=True)]
        rows.append(
            {"what": name, "given_back_ms": min(back), "kept_ms": min(kept),
             "ratio": min(back) / min(kept), "ratio_min": min(ratios), "ratio_max": max(ratios)}
        )  # fmt: skip
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edge_net", nargs="+", default=["alexnet", "resnet18", "convnet"])
    parser.add_argument("--batch_size", type=int, default=16, help="images a training step")
    parser.add_argument("--steps", type=int, default=12, help="of each, timed, a process")
    parser.add_argument("--rounds", type=int, default=5, help="processes a way")
    parser.add_argument("--way", choices=WAYS, help="one process: prints its milliseconds as JSON")
    parser.add_argument("--out", help="write the numbers there as JSON")
    args = parser.parse_args(argv)
    if args.way:
        if args.way == "kept":
            keep_memory()
        return print(json.dumps(one_process(args.edge_net, args.batch_size, args.steps)))
    print(f"{experiment.hardware(CPU)}, torch {torch.__version__}, batch {args.batch_size}")
    rows = take_turns(args)
    for row in rows:
        print(
            f"{row['what']:14} given back {row['given_back_ms']:7.1f} ms, kept "
            f"{row['kept_ms']:7.1f} ms, ratio {row['ratio']:.2f} ({row['ratio_min']:.2f} to "
            f"{row['ratio_max']:.2f})"
        )
    if args.out:
        found = about(CPU, batch_size=args.batch_size, rounds=args.rounds, rows=rows)
        experiment.write_json(Path(args.out), found)
    return None


if __name__ == "__main__":
    main()
