"""Cost and memory of training the local net against N, the number of training pictures of 32 px.

Bytes of tensors on the device at the peak, with P = 62,006 parameters and a batch of B:

    N (3,072 + 8 + 8) + 5 * 2^20 + 12 P + B * 57,232

a byte a value of every picture, its label and its place in the epoch's order; a chunk of pictures
as bytes and as float32 (data.Batches); weights, gradients and momenta; what LeNet-5 keeps of a
batch for its backward pass. `streamed`, the pictures stay in the machine's memory: the first term
is (8 + 8) N, and 2^20 more are the bytes of the next chunk, on its way. A CPU has one memory: there
the pictures count both times, and 8 N more for the rows of the part.
"""

import itertools
from statistics import median

import torch

import data
import train_localnet
from benchmarks import sweep
from benchmarks.clock import seconds
from benchmarks.points import FLOAT, INT, WEIGHTS, Some, fits, peak_bytes, take_turns
from data.batches import CHUNK_VALUES
from experiment.cuda_graph import StepGraph
from models.localnet import LeNet5

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CLASSES, VALUES = 10, 3 * 32 * 32
PARAMETERS, KEPT = 62_006, 57_232  # of LeNet-5 with 10 classes: test_scale.py holds both to it
WAYS = {"resident": True, "streamed": False}
MEMORY_STEPS = 3


def add_flags(parser, count) -> None:
    parser.add_argument("--sizes", type=count, nargs="+", default=SIZES, help="N")
    parser.add_argument("--steps", type=count, default=300, help="at most, a turn")


def batch(flags: dict) -> int:
    return sweep.BATCH


def part_of(count: int) -> data.Part:
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return data.Part(images, torch.randint(0, CLASSES, (count,)), torch.arange(count))


class Local:
    """The local net in training on one data set, kept in one way."""

    def __init__(self, part: data.Part, resident: bool, device: torch.device):
        self.net = LeNet5(CLASSES).to(device)
        optimizer = sweep.sgd(self.net, 1e-3, fused=True)
        self.step = StepGraph(train_localnet.training_step(self.net, optimizer), device)
        self.batches = data.Batches(part, sweep.BATCH, device, shuffle=True, resident=resident)
        self.epoch = 0

    def steps(self, count: int) -> None:
        """The first steps of a new epoch."""
        self.epoch += 1
        some = Some(self.batches, count)
        train_localnet.train_one_epoch(self.net, self.step, some, self.epoch, "")

    def start(self) -> None:
        """What comes before an epoch's first batch is there: the order, a chunk."""
        self.epoch += 1
        next(iter(self.batches.epoch(self.epoch)))


class Plain:
    """The same by a DataLoader over pictures, one at a time (benchmarks.sweep)."""

    def __init__(self, part: data.Part, device: torch.device):
        self.net = LeNet5(CLASSES).to(device)
        self.optimizer, self.device = sweep.sgd(self.net, 1e-3), device
        self.loader = sweep.loader(part, 32, 0)

    def steps(self, count: int) -> None:
        some = itertools.islice(self.loader, count)
        sweep.plain_local(self.net, self.optimizer, some, self.device)

    def start(self) -> None:
        next(iter(self.loader))


def predicted(count: int, resident: bool, device: torch.device) -> int:
    """The formula above."""
    on_cpu = device.type == "cpu"
    held = count * (2 * INT + (resident or on_cpu) * VALUES + on_cpu * INT)
    chunk = (1 + FLOAT + (not resident)) * min(CHUNK_VALUES, count * VALUES)
    return held + chunk + WEIGHTS * PARAMETERS + sweep.BATCH * KEPT


def memory(count: int, resident: bool, device: torch.device) -> int:
    """Bytes on the device at the peak of an epoch's first steps, from nothing on."""

    def run():
        # Zeros, which take no time: how many bytes there are does not hang on what they say.
        images = torch.zeros(count, 3, 32, 32, dtype=torch.uint8)
        part = data.Part(images, torch.zeros(count, dtype=torch.int64), torch.arange(count))
        Local(part, resident, device).steps(MEMORY_STEPS)

    return peak_bytes(run, device)


def measure(sizes, steps, rounds, device) -> list[dict]:
    """Rows of the file: for every N the two ways of keeping it, and the plain way."""
    rows, possible = [], []
    for count in sorted(sizes):
        on_device = predicted(count, True, device)
        held = count * (VALUES + 2 * INT)
        if fits(f"N = {count:,}", held, torch.device("cpu")):
            possible.append((count, fits(f"N = {count:,} resident", on_device, device)))
    peaks = {
        (count, way): (memory(count, resident, device), predicted(count, resident, device))
        for count, has_room in possible
        for way, resident in WAYS.items()
        if has_room or not resident
    }
    whole = part_of(max((count for count, _ in possible), default=0))
    trained = {}
    for count, has_room in possible:
        part = data.Part(*(x[:count] for x in whole))  # views: one set in memory serves all
        trained |= {
            (count, way): Local(part, resident, device)
            for way, resident in WAYS.items()
            if has_room or not resident
        }
        trained[count, "DataLoader"] = Plain(part, device)
    works = {}
    for (count, way), net in trained.items():
        own = min(steps, count // sweep.BATCH)
        works[count, way] = (lambda net=net, own=own: net.steps(own)), own
    took = take_turns(works, rounds, device)
    for (count, way), net in trained.items():
        starts = [1e3 * seconds(net.start, device) for _ in range(rounds)]
        row = {"group": "LeNet-5", "way": way, "x": count}
        row |= {"milliseconds": took[count, way], "start_milliseconds": starts}
        if (count, way) in peaks:
            row |= dict(zip(("bytes", "predicted_bytes"), peaks[count, way], strict=True))
        rows.append(row)
    return rows


def say(rows: list[dict]) -> None:
    """A line a point."""
    print(
        f"{'pictures':>10} {'kept':10} {'ms a step':>10} {'start, ms':>10} {'MB':>8} {'formula':>8}"
    )
    for row in rows:
        step, start = (median(row[k]) for k in ("milliseconds", "start_milliseconds"))
        told = ""
        if "bytes" in row:
            told = f"{row['bytes'] / 1e6:8.1f} {row['predicted_bytes'] / row['bytes']:8.3f}"
        print(f"{row['x']:10,} {row['way']:10} {step:10.3f} {start:10.2f} {told}")
