"""Milliseconds per step of a plain implementation and of ours, and the ratio for 42 settings.

  python -m benchmarks.sweep
  python -m benchmarks.sweep --device cuda --steps 200

Plain: a DataLoader over PIL images (ToTensor, Normalize, and Resize if the net needs it), and a
separate run for every setting, each with an edge net, a copy of it refreshed every batch (S = 1),
the local net and one rejector. Ours: the loops of train_localnet.py and of train_edgenet_async.py,
which trains all rejectors with one edge net. Batch 16, random 32 x 32 images, the paper's nets. The
two alternate in one process; medians over the rounds and the range of the ratio are printed.
"""

import copy
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

import data
import experiment
import train_edgenet_async
import train_localnet
from benchmarks.points import about, add_common, random_part, seconds
from deferral.risk import PAPER_COSTS
from experiment.cuda_graph import StepGraph
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from losses.stage_switching import rejector_loss, stage_switching
from models.edgenet import build_edge, edge_size
from models.inference import predict
from models.localnet import LeNet5
from models.rejector import Rejector

BATCH = 16


class Pictures(Dataset):
    """A data set like torchvision's: each sample is a PIL image that passes through transforms."""

    def __init__(self, part, transform):
        self.images = part.images.permute(0, 2, 3, 1).numpy()
        self.labels, self.transform = part.labels.tolist(), transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


def loader(part, size, workers):
    steps = [Resize(size)] if size != 32 else []
    normalise = Normalize([0.5] * 3, [0.5] * 3)
    pictures = Pictures(part, Compose([*steps, ToTensor(), normalise]))
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=workers)


def sgd(net, lr, **extra):
    return torch.optim.SGD(net.parameters(), lr, momentum=0.9, **extra)


def plain_local(net, optimizer, batches, device):
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()


def plain_edge(nets, optimizers, batches, cost_1, cost_e, device):
    """One setting, S = 1: a straightforward implementation with one rejector per run."""
    local, edge, frozen, rejector = nets
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizers[0].zero_grad()
        F.cross_entropy(edge(images), labels).backward()
        optimizers[0].step()
        frozen.load_state_dict(edge.state_dict())
        with torch.no_grad():
            edge_wrong = frozen(images).argmax(-1) != labels
            local_correct = local(images).argmax(-1) == labels
        optimizers[1].zero_grad()
        logits = rejector(images)[None]
        weights = stage_switching(local_correct, edge_wrong[None], cost_1, cost_e)
        rejector_loss(logits, *weights).sum().backward()
        optimizers[1].step()


def compare(name, device, steps, rounds, plain, ours, runs):
    """Alternates `plain` and `ours`, of `steps` steps each; prints and returns the medians."""
    plain(), ours()  # warm up
    pairs = [(seconds(plain, device), seconds(ours, device)) for _ in range(rounds)]
    a, b = (statistics.median(x) / steps * 1e3 for x in zip(*pairs, strict=True))
    ratios = sorted(runs * p / o for p, o in pairs)
    row = {"name": name, "plain_ms": a, "ours_ms": b, "runs": runs, "ratio": runs * a / b,
           "ratio_min": ratios[0], "ratio_max": ratios[-1]}  # fmt: skip
    print(
        f"{name:44} {a:9.2f} {b:9.2f} {runs:5} {runs * a / b:8.1f} "
        f"({ratios[0]:.1f} to {ratios[-1]:.1f})",
        flush=True,
    )
    return row


def local_rows(part, device, args):
    """Rows of the local net: loading data alone, and training."""
    net_a, net_b = LeNet5(10).to(device), LeNet5(10).to(device)
    sgd_a, sgd_b = sgd(net_a, 1e-3), sgd(net_b, 1e-3, fused=True)
    step = StepGraph(train_localnet.training_step(net_b, sgd_b), device)
    pictures = loader(part, 32, args.workers)
    batches = data.Batches(part, BATCH, device, shuffle=True)

    def plain():
        plain_local(net_a, sgd_a, pictures, device)

    def ours():
        train_localnet.train_one_epoch(net_b, step, batches, 0, "")

    def plain_data():
        for images, labels in pictures:
            images.to(device), labels.to(device)

    def our_data():
        for _ in batches.epoch(0):
            pass

    times = device, 10 * args.steps, args.rounds
    return [
        compare("data path alone", *times, plain_data, our_data, runs=1),
        compare("local net (LeNet-5)", *times, plain, ours, runs=1),
    ]


def edge_row(costs, part, device, args):
    """Row of the edge net with the rejectors of `costs`: that many plain runs against one pass."""
    size = edge_size(args.edge_net, 32)
    edge = build_edge(args.edge_net, 10, size).to(device)
    our_edge = copy.deepcopy(edge)
    local, frozen = LeNet5(10).to(device).eval(), copy.deepcopy(edge).eval()
    nets = local, edge, frozen, Rejector().to(device)
    optimizers = sgd(edge, 1e-3), sgd(nets[3], 1.6e-3)
    cost_1, cost_e = (torch.tensor([[c]], device=device) for c in costs[-1])
    pictures = loader(part, size, args.workers)

    settings = [Setting(1, *pair) for pair in costs]
    edge_step = EdgeStep(our_edge, sgd(our_edge, 1e-3, fused=True), BATCH)
    flags = {"seed": 0, "lr": 1.6e-3, "momentum": 0.9, "ask": edge_step.ask}
    rejectors = Rejectors(settings, our_edge, device, **flags)
    batches = data.Batches(part, BATCH, device, shuffle=True)
    in_order = data.Batches(part, 500, device)
    logits = predict(local, in_order)

    def plain():
        plain_edge(nets, optimizers, pictures, cost_1, cost_e, device)

    def ours():
        train_edgenet_async.train_one_epoch(edge_step, rejectors, batches, logits, 0, "")

    name = f"{args.edge_net} edge, {len(costs)} setting{'s' * (len(costs) > 1)}"
    return compare(name, device, args.steps, args.rounds, plain, ours, runs=len(costs))


def main(argv=None):
    parser = experiment.Parser(__doc__)
    parser.add_argument("--steps", type=int, default=20, help="steps per round with the edge net")
    parser.add_argument(
        "--workers", type=int, default=0, help="DataLoader workers of the plain implementation"
    )
    parser.add_argument("--edge_net", default="alexnet", help="as in train_edgenet_async.py")
    add_common(parser, rounds=5)
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    torch.manual_seed(0)
    print(f"{experiment.hardware(device)}, torch {torch.__version__}, {args.workers} workers")
    print(f"{'batch 16':44} {'plain ms':>9} {'ours ms':>9} {'runs':>5} {'ratio':>8} (range)")

    rows = local_rows(random_part(10 * args.steps * BATCH), device, args)
    for costs in (PAPER_COSTS[-1:], PAPER_COSTS):
        rows.append(edge_row(costs, random_part(args.steps * BATCH), device, args))
    if args.out:
        result = about(device, workers=args.workers, batch=BATCH, rows=rows)
        experiment.write_json(Path(args.out), result)


if __name__ == "__main__":
    main()
