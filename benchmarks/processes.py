"""Images a second of train_edgenet_async.py on 1, 2, ... processes of one machine.

  python -m benchmarks.processes --counts 1 2 4 8 --edge alexnet --batch_size 256 --device cuda

Each count is a job of torchrun with the same global batch: random 32 px images, SETTINGS rejectors,
S = 1. Counts alternate from round to round; a job warms up on one epoch of STEPS batches and times
a second one. On a CPU every process has --threads threads.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch

import data
import experiment
import train_edgenet_async
from benchmarks.points import about, add_common, random_part, seconds
from benchmarks.scale import CLASSES, settings_of
from benchmarks.sweep import sgd
from experiment import number
from experiment.parallel import Workers
from learning_to_help.steps import EdgeStep, Rejectors
from models.edgenet import build_edge, edge_size


def parse_args(argv=None):
    parser = experiment.Parser(__doc__, torchrun=True)
    count = number(int, 1)
    parser.add_argument("--counts", type=count, nargs="+", default=[1, 2], help="processes")
    parser.add_argument("--edge", default="convnet", help="edge net")
    parser.add_argument("--settings", type=count, default=4, help="rejectors")
    parser.add_argument("--batch_size", type=count, default=64, help="images, of all processes")
    parser.add_argument("--steps", type=count, default=20, help="batches timed in a round")
    parser.add_argument("--threads", type=count, default=1, help="threads a process")
    add_common(parser, rounds=3)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def images_a_second(edge_name, count, batch_size, steps, device, workers) -> float:
    """Of an epoch of `steps` batches with `count` rejectors, after one to warm up."""
    torch.manual_seed(0)
    part = random_part(steps * batch_size)
    edge = build_edge(edge_name, CLASSES, edge_size(edge_name, 32), 0).to(device)
    edge_step = EdgeStep(edge, sgd(edge, 1e-3, fused=True), batch_size, workers=workers)
    rejectors = Rejectors(
        settings_of(count, [1]), edge, device, seed=0, lr=1.6e-3, momentum=0.9, ask=edge_step.ask,
        workers=workers,
    )  # fmt: skip
    batches = data.Batches(part, batch_size, device, shuffle=True, **workers.sharing(batch_size))
    logits = torch.randn(len(part.labels), CLASSES, device=device)

    def epoch():
        train_edgenet_async.train_one_epoch(edge_step, rejectors, batches, logits, 0, "")
        workers.wait()

    epoch()
    return len(part.labels) / seconds(epoch, device)


def job(args) -> None:
    """What each process of a job does; the first prints the images a second."""
    with Workers.of_torchrun() as workers, experiment.one_line_errors():
        device = workers.pick_device(args.device)
        sizes = args.settings, args.batch_size, args.steps
        print(images_a_second(args.edge, *sizes, device, workers))


def run_job(processes: int, argv: list[str], threads: int) -> float:
    """Images a second of a job of torchrun."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.processes", "--job", *argv],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        cwd=experiment.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:  # the job has printed its error
        raise SystemExit(2)
    return float(done.stdout)


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    if args.job:
        return job(args)
    speeds: dict[int, list[float]] = {count: [] for count in args.counts}
    for _ in range(args.rounds):
        for count, values in speeds.items():
            values.append(run_job(count, argv, args.threads))
    for count, values in speeds.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{count} processes: {median(values):.0f} images a second ({spread})")
    if args.out:
        names = ("edge", "settings", "batch_size", "steps", "threads")
        more = {name: getattr(args, name) for name in names} | {"cpus": os.cpu_count()}
        more["rows"] = [{"processes": k, "images_a_second": v} for k, v in speeds.items()]
        experiment.write_json(Path(args.out), about(experiment.pick_device(args.device), **more))
    return None


if __name__ == "__main__":
    main()
