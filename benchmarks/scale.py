"""Milliseconds per step and peak bytes against K, the number of cost settings in one pass.

  python -m benchmarks.scale --out scale-settings.json

1 to 1,000 rejectors with one edge net, batch 16, compared with as many plain runs of one setting.
All points of a curve are warmed up and alternate in one process; the file keeps every round, and
medians are reported. A point that does not fit in memory is skipped with a message.

Bytes of tensors at the peak of a step, for a batch of B, P_e parameters of the edge, a copy of the
edge of S_e bytes for each of C refresh rates S > 1, P_r = 61,326 parameters of a rejector:

    D + 12 P_e + C S_e + 12 K P_r + max(A_e, A_x + K B a_r)

The 12 bytes per parameter are weight, momentum and gradient in float32, which persist between
steps. A_e are the bytes that the edge net saves for its backward pass; they are freed before the
rejectors' step. a_r = 46,544 bytes are what a rejector saves per sample, map by map of LeNet-5:

    conv1 6*28*28*4   its pool 6*14*14*(4 + 8: values and indices of the maxima)
    conv2 16*10*10*4  its pool 16*5*5*(4 + 8), flattened 400*4    fc1 120*4   fc2 84*4

A_x is the batch in channels-last format, shared by all. D is the data: images (1 byte per value),
labels and rows (8 bytes each), logits of the local net (4 bytes per class), L2 of the pass (4 bytes
per step and setting), and a chunk of images as float32.

The measured steps run eagerly. With CUDA graphs the two passes have separate memory, so that the
maximum should become a sum; this is not measured, because the allocator does not count it. Also not
measured is the temporary memory of a copy that predicts up to 128 images ahead
(learning_to_help.edge_copies), which does not happen in so few steps.
"""

from collections.abc import Callable, Hashable
from pathlib import Path
from statistics import median

import torch

import data
import experiment
import train_edgenet_async
from benchmarks import sweep
from benchmarks.points import (
    FLOAT,
    INT,
    WEIGHTS,
    about,
    add_common,
    fits,
    kept_bytes,
    peak_bytes,
    random_part,
    take_turns,
)
from data.batches import CHUNK_VALUES
from experiment import number
from learning_to_help.edge_copies import state_bytes
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.cost import parameters
from models.edgenet import build_edge, edge_size
from models.rejector import Rejector

COUNTS = (1, 2, 5, 10, 20, 42, 100, 200, 500, 1000)
CLASSES, VALUES = 10, 3 * 32 * 32
REJECTOR = 61_326  # parameters
KEPT = FLOAT * (6 * 28**2 + 6 * 14**2 + 16 * 10**2 + 2 * 16 * 5**2 + 120 + 84)
KEPT += INT * (6 * 14**2 + 16 * 5**2)  # a_r
MEMORY_STEPS = 3  # the second step is the first with momenta and old gradients
MOST = 1000  # maximum of rejectors times steps per round


def settings_of(count: int, freqs: list[int]) -> list[Setting]:
    """`count` settings with costs spread over the paper's range and S cycling through `freqs`."""
    return [
        Setting(freqs[k % len(freqs)], (1.0, 1.25)[k % 2], 0.5 * k / count) for k in range(count)
    ]


def one_pass(edge_step, settings, part, device) -> Callable[[], object]:
    """Returns a function that trains on every batch of `part` once, as train_edgenet_async.py."""
    rejectors = None
    if settings:
        flags = {"seed": 0, "lr": 1.6e-3, "momentum": 0.9, "ask": edge_step.ask}
        rejectors = Rejectors(settings, edge_step.edge, device, **flags)
    batches = data.Batches(part, sweep.BATCH, device, shuffle=True)
    local_logits = torch.randn(len(part.labels), CLASSES, device=device)
    rest = rejectors, batches, local_logits, 0, ""
    return lambda: train_edgenet_async.train_one_epoch(edge_step, *rest)


def new_edge(name: str, device: torch.device) -> EdgeStep:
    edge = build_edge(name, CLASSES, edge_size(name, 32), 0).to(device)
    return EdgeStep(edge, sweep.sgd(edge, 1e-3, fused=True), sweep.BATCH)


def plain_run(name: str, part: data.Part, device: torch.device):
    """Returns a function that trains one setting with the plain loop of benchmarks.sweep."""
    size = edge_size(name, 32)
    edge, frozen = (build_edge(name, CLASSES, size, 0).to(device) for _ in range(2))
    local, rejector = sweep.LeNet5(CLASSES).to(device).eval(), Rejector().to(device)
    nets = local, edge, frozen.eval(), rejector
    optimizers = sweep.sgd(edge, 1e-3), sweep.sgd(rejector, 1.6e-3)
    cost_1, cost_e = (torch.tensor([[c]], device=device) for c in (1.25, 0.25))
    pictures = sweep.loader(part, size, 0)
    return lambda: sweep.plain_edge(nets, optimizers, pictures, cost_1, cost_e, device)


def kept_of(edge: torch.nn.Module, device: torch.device) -> int:
    """A_e: bytes that the edge net saves of a batch for its backward pass."""
    pictures = torch.zeros(sweep.BATCH, 3, 32, 32, device=device)
    return kept_bytes(lambda: edge(pictures), edge)


def predicted(count: int, edge: torch.nn.Module, freqs: list[int], images: int, kept: int) -> int:
    """Peak bytes by the formula above; `kept` is A_e."""
    steps = -(-images // sweep.BATCH)
    held = images * (VALUES + 2 * INT + FLOAT * CLASSES) + FLOAT * steps * count
    held += FLOAT * min(CHUNK_VALUES, images * VALUES)
    copies = sum(freq != 1 for freq in set(freqs))
    fixed = WEIGHTS * parameters(edge) + copies * state_bytes(edge)
    passing = max(kept, sweep.BATCH * (FLOAT * VALUES + count * KEPT))
    return held + fixed + WEIGHTS * count * REJECTOR + passing


def memory(name: str, count: int, freqs: list[int], device: torch.device) -> tuple[int, int]:
    """Peak bytes of the first steps, including setup: (measured, predicted)."""
    edge = build_edge(name, CLASSES, edge_size(name, 32), 0).to(device)
    images = MEMORY_STEPS * sweep.BATCH
    by_formula = predicted(count, edge, freqs, images, kept_of(edge, device))
    del edge

    def run():
        torch.manual_seed(0)
        settings = settings_of(count, freqs)
        one_pass(new_edge(name, device), settings, random_part(images), device)()

    return peak_bytes(run, device), by_formula


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    count = number(int, 1)
    parser.add_argument("--edges", nargs="+", default=["convnet", "alexnet"], help="edge nets")
    parser.add_argument("--counts", type=count, nargs="+", default=COUNTS, help="K")
    parser.add_argument("--steps", type=count, default=4, help="steps per round; fewer for large K")
    add_common(parser, rounds=5)
    return parser.parse_args(argv)


def measure(edges, counts, steps, rounds, device) -> list[dict]:
    """Rows of the file: for each edge net its step alone, the plain step, and a step for each K."""
    rows, freqs = [], [1]
    for name in edges:
        edge = new_edge(name, device)  # shared by all K: training does not change the time
        kept = kept_of(edge.edge, device)
        images = MEMORY_STEPS * sweep.BATCH
        held = {k: predicted(k, edge.edge, freqs, images, kept) for k in counts}
        possible = [k for k in counts if fits(f"{name}, K = {k}", held[k], device)]
        peaks = {k: memory(name, k, freqs, device) for k in possible}
        works: dict[Hashable, tuple[Callable[[], object], int]] = {
            "edge alone": (one_pass(edge, [], random_part(steps * sweep.BATCH), device), steps),
            "a run each": (plain_run(name, random_part(steps * sweep.BATCH), device), steps),
        }
        for k in possible:
            few = max(2, min(steps, steps * MOST // (20 * k)))
            part = random_part(few * sweep.BATCH)
            works[k] = one_pass(edge, settings_of(k, freqs), part, device), few
        for key, milliseconds in take_turns(works, rounds, device).items():
            stack = isinstance(key, int)
            row = {"group": name, "way": "one pass" if stack else key, "x": key if stack else 1}
            row |= {"milliseconds": milliseconds}
            if stack:
                row |= dict(zip(("bytes", "predicted_bytes"), peaks[key], strict=True))
            rows.append(row)
    return rows


def report(rows: list[dict]) -> None:
    """Prints a line per K, then the K from which the rejectors cost more than their edge net."""
    print(f"{'edge':12} {'K':>6} {'ms a step':>10} {'K runs, ms':>11} {'MB':>9} {'formula':>8}")
    for name in dict.fromkeys(row["group"] for row in rows):
        group = [row for row in rows if row["group"] == name]
        alone, plain = (
            median(row["milliseconds"])
            for way in ("edge alone", "a run each")
            for row in group
            if row["way"] == way
        )
        print(f"{name:12} {'none':>6} {alone:10.2f}")
        stack = [row for row in group if row["way"] == "one pass"]
        for row in stack:
            ours, k = median(row["milliseconds"]), row["x"]
            megabytes, ratio = row["bytes"] / 1e6, row["predicted_bytes"] / row["bytes"]
            print(f"{name:12} {k:6} {ours:10.2f} {k * plain:11.1f} {megabytes:9.1f} {ratio:8.3f}")
        doubled = doubles_at(alone, [(r["x"], median(r["milliseconds"])) for r in stack])
        where = f"from K = {doubled:.0f} on" if doubled else "for none of these K"
        print(f"{name}: the rejectors cost more than the edge net {where}")


def doubles_at(alone: float, points: list[tuple[int, float]]) -> float | None:
    """The K at which a step takes twice as long as the edge net's alone; None if there is none.

    points: (K, milliseconds) by increasing K; interpolated linearly from K = 0, the edge net alone.
    """
    k, before = 0, alone
    for more, after in points:
        if after >= 2 * alone:
            return k + (more - k) * (2 * alone - before) / (after - before)
        k, before = more, after
    return None


def main(argv=None):
    flags = vars(parse_args(argv))
    out = flags.pop("out")
    with experiment.one_line_errors():
        device = flags["device"] = experiment.pick_device(flags["device"])
        if device.type == "mps":
            raise ValueError("--device mps: memory can be measured on cuda and cpu only")
        for name in flags["edges"]:
            edge_size(name, 32)  # raises for an unknown name
    print(f"{experiment.hardware(device)}, torch {torch.__version__}")
    torch.manual_seed(0)
    rows = measure(**flags)
    report(rows)
    if out:
        experiment.write_json(
            Path(out), about(device, kind="settings", batch=sweep.BATCH, rows=rows)
        )


if __name__ == "__main__":
    main()
