"""Estimates the time of an active-learning round with the twelve published targets.

  python -m benchmarks.active_round
  python -m benchmarks.active_round --device cuda --steps 20 --rounds 5 --out active_round-cuda.json

A round trains each target on 3,000 labels (20 epochs of 25 batches of 120) and evaluates it on
40,000 unlabelled images. The benchmark times training steps and forward passes of every target at
its own input size; MNIST-sized uint8 images on the device are cropped and resized there. `plain` is
float32 in the default memory format; `ours` is the default of train_net.py on this device. The two
alternate; the time of a round is extrapolated from their medians. The release reports times for one
RTX 2080 (26:42 to train, 8:11 to 8:29 to select by uncertainty), with other software.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch

import data
import experiment
from active_learning import trained
from active_learning.target_models import read_targets
from active_learning.train_net import make_optimizer, train_one_epoch
from active_learning.trained import Numbers
from benchmarks.points import about, seconds
from data.augment import random_resized_crop

LABELS, POOL, EPOCHS, BATCH = 3000, 40000, 20, 120
PUBLISHED = {"train_seconds": 26 * 60 + 42, "select_seconds": (8 * 60 + 11, 8 * 60 + 29)}


def random_part(count: int) -> data.Part:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 1, 28, 28), np.uint8))
    return data.Part(images, torch.from_numpy(rng.integers(0, 10, count)), torch.arange(count))


class Way:
    """Trains and evaluates one target with the given `Numbers`."""

    def __init__(self, target, numbers: Numbers, steps: int, pool_size: int):
        self.net = numbers.place(target.build(10, 0))
        self.numbers, self.steps = numbers, steps
        self.optimizer = make_optimizer(self.net, 7.5e-3, 0.9, 3e-5, numbers.device)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 10**6)
        crop = random_resized_crop(target.settings["size"])
        part = trained.on_device(random_part(steps * BATCH), numbers.device)
        self.labelled = data.Batches(part, BATCH, numbers.device, shuffle=True, augment=crop)
        pool = trained.on_device(random_part(pool_size), numbers.device)
        self.pool = data.Batches(pool, min(pool_size, trained.EVAL_BATCH), numbers.device)

    def train(self, epoch: int) -> float:
        """Seconds per training step."""
        parts = self.net, self.optimizer, self.schedule, self.labelled
        device = self.numbers.device
        total = seconds(lambda: train_one_epoch(*parts, epoch, 0.1, self.numbers), device)
        return total / self.steps

    def evaluate(self) -> float:
        """Seconds per image."""
        device = self.numbers.device
        total = seconds(lambda: trained.logits(self.net, self.pool, self.numbers), device)
        return total / len(self.pool.labels)


def measure(target, ways: dict[str, Numbers], rounds: int, steps: int, pool_size: int) -> dict:
    """By way: seconds per training step and per evaluated image; the first round warms up."""
    runs = {name: Way(target, numbers, steps, pool_size) for name, numbers in ways.items()}
    times: dict[str, dict[str, list[float]]] = {n: {"step": [], "image": []} for n in ways}
    for round_ in range(rounds + 1):
        for name, way in runs.items():
            step, image = way.train(round_), way.evaluate()
            if round_:
                times[name]["step"].append(step)
                times[name]["image"].append(image)
    return {
        name: {what: statistics.median(values) for what, values in lists.items()}
        for name, lists in times.items()
    }


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="best", help="cuda, cpu or best")
    parser.add_argument("--targets", help="a JSON list in place of the twelve")
    parser.add_argument("--rounds", type=int, default=3, help="alternations; medians are reported")
    parser.add_argument("--steps", type=int, default=1, help="training steps per measurement")
    parser.add_argument("--asked", type=int, default=60, help="unlabelled images per measurement")
    parser.add_argument("--out", help="JSON file for the numbers")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        targets = read_targets(args.targets)
    ways = {"plain": Numbers(device, False, False), "ours": trained.numbers_of(None, None, device)}
    hardware = experiment.hardware(device)
    print(f"{hardware}, torch {torch.__version__}, ours: {ways['ours']}")
    results = {}
    for target in targets:
        times = measure(target, ways, args.rounds, args.steps, args.asked)
        results[target.name] = times
        summary = ", ".join(
            f"{name} {1e3 * w['step']:.0f} ms a step, {1e3 * w['image']:.2f} ms an image"
            for name, w in times.items()
        )
        print(f"{target.name:18} {summary}", flush=True)
    totals = {}
    for name in ways:
        step, image = (sum(times[name][k] for times in results.values()) for k in ("step", "image"))
        totals[name] = {
            "train_seconds": step * EPOCHS * (LABELS // BATCH),
            "select_seconds": image * POOL,
        }
        print(
            f"{name}: a round of {len(results)} targets, extrapolated: "
            f"{totals[name]['train_seconds'] / 60:.1f} min to train, "
            f"{totals[name]['select_seconds'] / 60:.1f} min to select"
        )
    ratios = {k: totals["plain"][k] / totals["ours"][k] for k in totals["ours"]}
    print(
        f"plain over ours: {ratios['train_seconds']:.2f} to train, "
        f"{ratios['select_seconds']:.2f} to select; the release, 12 targets on an RTX 2080: "
        f"{PUBLISHED['train_seconds'] / 60:.1f} min and 8.2 to 8.5 min"
    )
    if args.out:
        result = about(
            device,
            rounds=args.rounds,
            steps=args.steps,
            asked=args.asked,
            ours={k: str(v) for k, v in ways["ours"]._asdict().items()},
            targets=results,
            extrapolated=totals,
            ratios=ratios,
            published=PUBLISHED,
        )
        experiment.write_json(Path(args.out), result)


if __name__ == "__main__":
    main()
