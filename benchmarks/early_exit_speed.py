"""Images per second of early-exit training with the flags for speed, beside plain eager float32.

  python -m benchmarks.early_exit_speed
  python -m benchmarks.early_exit_speed --device cuda --batch_size 256 --compile --out cuda.json

MSDNet with 5 exits on CIFAR-sized images, each method's whole training step. All ways take turns
in every round, so that whatever else the machine does falls on all alike; the medians count, and
ratios are to `plain` of the same method. --compile adds torch.compile, which is slow to start.
"""

import argparse
import json
import statistics

import torch

import experiment
from benchmarks.clock import seconds
from early_exit import train
from early_exit.arch_flags import arch_settings
from early_exit.options import make_method
from early_exit.parallel import Workers
from losses.early_exit import METHODS
from models.exit_nets import EXIT_NETS

WAYS = {
    "plain": [],
    "channels_last": ["--channels_last"],
    "bf16": ["--bf16"],
    "channels_last bf16": ["--channels_last", "--bf16"],
}
COMPILED = {
    "compile": ["--compile"],
    "channels_last bf16 compile": ["--channels_last", "--bf16", "--compile"],
}


def make_step(method: str, flags: list[str], batch: int, device: torch.device):
    """A function that takes one training step on a batch of random images."""
    args = train.parse_args(["--method", method, *flags])
    torch.manual_seed(0)
    arch = EXIT_NETS[args.arch]
    net = arch.from_settings(arch_settings(args, arch), 10, 32).to(device).train()
    trainer = make_method(args, net, 32, device, Workers())
    trainer.set_lr(0.01)
    images = torch.randn(batch, 3, 32, 32, device=device)
    labels = torch.randint(0, 10, (batch,), device=device)
    return lambda: trainer.step(images, labels, batch)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, help="the medians count")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step")
    parser.add_argument("--device", default="best", help="cuda, cpu or best")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--out", help="write the numbers there as JSON")
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    hardware = experiment.hardware(device)
    print(f"{hardware}, torch {torch.__version__}, batch {args.batch_size}; images a second")
    ways = WAYS | (COMPILED if args.compile else {})
    found = {}
    for method in METHODS:
        steps = {
            way: make_step(method, flags, args.batch_size, device) for way, flags in ways.items()
        }
        for step in steps.values():
            step()
            step()
        taken = {way: [] for way in steps}
        for _ in range(args.rounds):
            for way, step in steps.items():
                taken[way].append(seconds(step, device))
        median = {way: statistics.median(values) for way, values in taken.items()}
        found[method] = {
            way: {
                "images_per_second": args.batch_size / median[way],
                "ratio": median["plain"] / median[way],
                "seconds": taken[way],
            }
            for way in steps
        }
        for way, row in found[method].items():
            print(f"{method:8} {way:28} {row['images_per_second']:9.1f}  {row['ratio']:5.2f}")
    if args.out:
        head, dirty = experiment.commit()
        about = {"hardware": hardware, "torch": torch.__version__, "commit": head, "dirty": dirty}
        about |= {"batch_size": args.batch_size, "threads": torch.get_num_threads()}
        with open(args.out, "w") as f:
            f.write(json.dumps(about | {"methods": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
