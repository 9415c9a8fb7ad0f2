"""Images per second of early-exit training for each method: plain, ours, and ours with flags.

  python -m benchmarks.early_exit_speed
  python -m benchmarks.early_exit_speed --device cuda --batch_size 64 --compile --out cuda.json

Times each method's whole training step for an MSDNet on CIFAR-sized images. `plain` is the usual
implementation, written out here: float32, a cross-entropy per exit, torch's default SGD; for l2w a
double backward pass through the pseudo-step (benchmarks/meta_gradient.py). `ours` is
early_exit.train without flags; on CUDA it runs CUDA graphs, and `ours, no graph` does not. Further
rows add the flags for speed; --compile adds torch.compile, which takes minutes to start (15 minutes
on one CPU core at the defaults).

All ways of a method run once per round, base together with l2w, so that other load on the machine
slows all of them alike; medians are reported. There are two ratios: to `plain` of the same method,
and of l2w's step to base's in the same way. The latter is 11/3 in multiply-adds, which are counted
on the steps: a forward pass is 1, a backward pass 2 (early_exit/methods.py). l2w is timed with and
without the step of the weight net; for a --meta_interval of N the mean of one of the former and
N - 1 of the latter is computed.
"""

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import experiment
from benchmarks.meta_gradient import double_backward
from benchmarks.points import about, add_common, seconds
from early_exit import train
from early_exit.flags import arch_settings, make_method
from early_exit.methods import L2W
from early_exit.steps import Base
from experiment.cuda_graph import EAGER_FIRST
from experiment.parallel import Workers
from losses.early_exit import METHODS, doubts, exit_losses
from models.exit_nets import EXIT_NETS

WAYS = {
    "ours": [],
    "channels_last": ["--channels_last"],
    "bf16": ["--bf16"],
    "channels_last bf16": ["--channels_last", "--bf16"],
}
EAGER = {"ours, no graph": ["--no-graph"]}
COMPILED = {
    "compile": ["--compile"],
    "channels_last bf16 compile": ["--channels_last", "--bf16", "--compile"],
}
INTERVALS = (1, 2, 10, 100)
Step = Callable[[], object]


def make_trainer(method: str, flags: list[str], device: torch.device) -> Base:
    """The training method on the network that the flags describe, with a learning rate set."""
    args = train.parse_args(["--method", method, *flags])
    torch.manual_seed(0)
    arch = EXIT_NETS[args.arch]
    net = arch.from_settings(arch_settings(args, arch), 10, 32).to(device).train()
    trainer = make_method(args, net, 32, device, Workers())
    trainer.set_lr(0.1)
    return trainer


def batch_of(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    images = torch.randn(size, 3, 32, 32, device=device)
    return images, torch.randint(0, 10, (size,), device=device)


def our_steps(method: str, trainer: Base, images: Tensor, labels: Tensor) -> dict[str, Step]:
    """Functions that take one training step on these images, by the kind of step."""

    def step(meta: bool = True):
        if isinstance(trainer, L2W):
            trainer.steps, trainer.meta_interval = int(not meta), 2
        return trainer.step(images, labels, len(labels))

    return {method: step} | ({"l2w without meta": lambda: step(False)} if method == "l2w" else {})


def plain_steps(method: str, trainer: Base, images: Tensor, labels: Tensor) -> dict[str, Step]:
    """The same steps, by the usual implementation."""
    net = trainer.net
    # Also set on the trainer, since double_backward reads momenta from there.
    optimizer = trainer.optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=1e-4)

    def update(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def base():
        update(sum(F.cross_entropy(f, labels) for f in net(images)))

    def boosted():
        before, loss = 0, 0
        for f in net(images, equilibrium=net.equilibrium):
            loss = loss + F.cross_entropy(f + before, labels)
            before = trainer.ensemble_reweight * (f + before).detach()
        update(loss)

    def half(a, b, meta):
        if meta:
            double_backward(trainer, a, b, pruned=False)
            trainer.meta_optimizer.step()
        logits = net(a.images)
        losses = exit_losses(logits, a.labels)
        with torch.no_grad():
            weights = trainer.weights([losses, 1 - doubts(logits)])
        update((weights * losses).mean(0).sum())

    def l2w(meta=True):
        a, b = trainer.halves(images, labels, len(labels))
        half(a, b, meta)
        half(b, a, meta)

    if method == "l2w":
        return {"l2w": l2w, "l2w without meta": lambda: l2w(False)}
    return {method: base if method == "base" else boosted}


def make(
    method: str, way: str, flags: list[str], size: int, device: torch.device
) -> dict[str, Step]:
    """The training steps of one way, on random images."""
    steps = plain_steps if way == "plain" else our_steps
    return steps(method, make_trainer(method, flags, device), *batch_of(size, device))


def multiply_adds(step: Step) -> int:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() // 2


def measure(flags: list[str], rounds: int, size: int, device: torch.device, ways: dict) -> dict:
    """Seconds of each kind of step in each way, times[kind][way], one method after the other.

    Kinds are the methods, `l2w without meta` and `base beside l2w`.
    """
    times: dict = {}
    for method in METHODS:
        steps: dict[tuple[str, str], Step] = {}
        for way in ("plain", *ways):
            config = way, [*flags, *ways.get(way, [])], size, device
            of_way = make(method, *config)
            if method == "l2w":
                of_way["base beside l2w"] = make("base", *config)["base"]
            steps |= {(kind, way): step for kind, step in of_way.items()}
        first = EAGER_FIRST + 2 if device.type == "cuda" else 2  # includes a capture and a replay
        for step, _ in itertools.product(steps.values(), range(first)):
            step()
        for _, ((kind, way), step) in itertools.product(range(rounds), steps.items()):
            times.setdefault(kind, {}).setdefault(way, []).append(seconds(step, device))
    return times


def summary(times: dict, size: int) -> dict:
    """`methods`: images per second and ratio to plain; `l2w_to_base`: by --meta_interval."""
    median = {
        kind: {way: statistics.median(values) for way, values in ways.items()}
        for kind, ways in times.items()
    }
    methods = {
        method: {
            way: {
                "images_per_second": size / time,
                "ratio": median[method]["plain"] / time,
                "seconds": times[method][way],
            }
            for way, time in median[method].items()
        }
        for method in METHODS
    }
    base, l2w = median["base beside l2w"], {}
    for way, time in median["l2w"].items():
        rest = median["l2w without meta"][way]
        mean = {n: (time + (n - 1) * rest) / n for n in INTERVALS}
        pairs = zip(times["l2w"][way], times["base beside l2w"][way], strict=True)
        ratios = [x / y for x, y in pairs]
        l2w[way] = {
            "by_meta_interval": {n: value / base[way] for n, value in mean.items()},
            "range": [min(ratios), max(ratios)],  # over the rounds, --meta_interval 1
            "to_plain_base": {n: value / base["plain"] for n, value in mean.items()},
            "seconds_without_meta": times["l2w without meta"][way],
            "seconds_base_beside": times["base beside l2w"][way],
        }
    return {"methods": methods, "l2w_to_base": l2w}


def main(argv=None):
    parser = experiment.Parser(__doc__)
    add_common(parser, rounds=7)
    parser.add_argument("--batch_size", type=int, default=64, help="images per step")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--n_blocks", type=int, default=5, help="number of exits of the MSDNet")
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    hardware = experiment.hardware(device)
    ways = WAYS | (EAGER if device.type == "cuda" else {}) | (COMPILED if args.compile else {})
    flags = ["--n_blocks", str(args.n_blocks)]
    print(f"{hardware}, torch {torch.__version__}, batch {args.batch_size}, {args.n_blocks} exits")
    counted = {}
    for way in ("plain", "ours"):
        for method in METHODS:
            steps = make(method, way, [*flags, "--no-graph"], args.batch_size, device)
            counted |= {f"{way}, {kind}": multiply_adds(step) for kind, step in steps.items()}
    for name, count in counted.items():
        print(f"{name:24} {count:18,} multiply-adds {count / counted['ours, base']:6.2f}")
    results = summary(measure(flags, args.rounds, args.batch_size, device, ways), args.batch_size)
    print("images per second, and the ratio to plain")
    for method, rows in results["methods"].items():
        for way, row in rows.items():
            print(f"{method:8} {way:28} {row['images_per_second']:9.1f}  {row['ratio']:5.2f}")
    print(f"time of l2w over base in the same way, by --meta_interval {INTERVALS}; over plain base")
    for way, row in results["l2w_to_base"].items():
        by = "".join(f"{ratio:7.2f}" for ratio in row["by_meta_interval"].values())
        low, high = row["range"]
        plain = row["to_plain_base"][1]
        print(f"{way:28} {by}  (1: {low:.2f} to {high:.2f})  {plain:7.2f}")
    if args.out:
        sizes = {"batch_size": args.batch_size, "n_blocks": args.n_blocks}
        results = about(device, **sizes, multiply_adds=counted, **results)
        experiment.write_json(Path(args.out), results)


if __name__ == "__main__":
    main()
