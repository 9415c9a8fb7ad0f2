"""Cost and memory of training MSDNet against E, the number of its exits (blocks), at 32 px.

Bytes of tensors at the peak of a step, with P parameters, a batch of B, and a(E) bytes that the
forward pass keeps of a sample for its backward pass:

    base, boosted, the last exit alone    12 P + B a(E)
    l2w                                   20 P + B a(E)

12 bytes a parameter are weight, gradient and momentum. L2W steps on halves of the batch: while the
pass over b is made at the pseudo-step's weights (4 P), the graph of the pass over a is still there,
and so is its gradient (4 P) beside that of the last step. a(E) is counted on the network, tensor by
tensor (points.kept_bytes): it grows with the layers, which grow in width too. What lives for a
moment only is left out, and weighs the more the smaller the batch: for l2w 1.4 % at batch 64, 10 %
at 4. `last exit alone` is the same network without its earlier heads, a plain classifier.
"""

from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.points import FLOAT, WEIGHTS, fits, kept_bytes, parameters, peak_bytes, take_turns
from early_exit import train
from early_exit.arch_flags import arch_settings
from early_exit.flags import make_method
from early_exit.parallel import Workers
from losses.early_exit import METHODS
from models.exit_nets import EXIT_NETS

CLASSES, VALUES, SIZE = 10, 3 * 32 * 32, 32
ALONE = "last exit alone"
MEMORY_STEPS = 2  # the second has momenta and old gradients


def add_flags(parser, count) -> None:
    parser.add_argument("--blocks", type=count, nargs="+", default=range(1, 11), help="E")
    parser.add_argument("--batch_size", type=count, default=64, help="images a step")
    parser.add_argument("--steps", type=count, default=1, help="a turn")


def batch(flags: dict) -> int:
    return flags["batch_size"]


class LastExit(nn.Module):
    """A network's last exit: images to logits [B, K], no other head computed or held."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.last = net, net.num_exits - 1
        for k in range(self.last):
            net.classifier[k] = nn.Identity()

    def forward(self, images):
        state = images
        for k in range(self.last + 1):
            state = self.net.block(k, state)
        return self.net.head(self.last, state)


def new_net(blocks: int, method: str, device: torch.device):
    """(the network, the arguments of its training)."""
    torch.manual_seed(0)
    flags = [] if method == ALONE else ["--method", method]
    args = train.parse_args(["--arch", "msdnet", "--n_blocks", str(blocks), *flags])
    arch = EXIT_NETS[args.arch]
    net = arch.from_settings(arch_settings(args, arch), CLASSES, SIZE)
    return (LastExit(net) if method == ALONE else net).to(device).train(), args


def random_batch(size: int, device: torch.device):
    images = torch.randn(size, 3, SIZE, SIZE, device=device)
    return images, torch.randint(0, CLASSES, (size,), device=device)


def one_step(blocks: int, method: str, size: int, device: torch.device):
    """A function that takes one training step on one batch of random images."""
    net, args = new_net(blocks, method, device)
    images, labels = random_batch(size, device)
    if method != ALONE:
        trainer = make_method(args, net, SIZE, device, Workers())
        trainer.set_lr(0.01)
        return lambda: trainer.step(images, labels, size)
    flags = {"nesterov": args.nesterov, "weight_decay": args.weight_decay, "fused": True}
    optimizer = torch.optim.SGD(net.parameters(), args.lr * 0.01, args.momentum, **flags)

    def step():
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def predicted(blocks: int, method: str, size: int) -> int:
    """The formula above."""
    cpu = torch.device("cpu")
    net, _ = new_net(blocks, method, cpu)
    images, _ = random_batch(size, cpu)
    weights = WEIGHTS + 2 * FLOAT * (method == "l2w")
    kept = kept_bytes(lambda: net(images), net)  # the batch is among it
    return weights * parameters(net) + kept


def memory(blocks: int, method: str, size: int, device: torch.device) -> int:
    """Bytes at the peak of the first steps, from nothing on."""

    def run():
        step = one_step(blocks, method, size, device)
        for _ in range(MEMORY_STEPS):
            step()

    return peak_bytes(run, device)


def measure(blocks, batch_size, steps, rounds, device) -> list[dict]:
    """Rows of the file: for every E each method, and the last exit alone."""
    ways = (*METHODS, ALONE)
    points = [(k, way) for k in sorted(blocks) for way in ways]
    held = {point: predicted(*point, batch_size) for point in points}
    points = [p for p in points if fits(f"{p[1]}, E = {p[0]}", held[p], device)]
    peaks = {point: memory(*point, batch_size, device) for point in points}
    works = {}
    for point in points:
        step = one_step(*point, batch_size, device)
        works[point] = (lambda step=step: [step() for _ in range(steps)]), steps
    took = take_turns(works, rounds, device)
    return [
        {"group": "MSDNet", "way": way, "x": k, "milliseconds": took[k, way]}
        | {"bytes": peaks[k, way], "predicted_bytes": held[k, way]}
        for k, way in points
    ]


def say(rows: list[dict]) -> None:
    """A line an E and a way; `base` is 1 in the ratio."""
    medians = {(row["x"], row["way"]): median(row["milliseconds"]) for row in rows}
    print(f"{'exits':>5} {'way':16} {'ms a step':>10} {'ratio':>6} {'MB':>8} {'formula':>8}")
    for row in rows:
        k, ms = row["x"], medians[row["x"], row["way"]]
        ratio = ms / medians[k, "base"] if (k, "base") in medians else float("nan")
        told = f"{row['bytes'] / 1e6:8.1f} {row['predicted_bytes'] / row['bytes']:8.3f}"
        print(f"{k:5} {row['way']:16} {ms:10.1f} {ratio:6.2f} {told}")
