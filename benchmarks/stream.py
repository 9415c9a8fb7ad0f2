"""Images a second and peak memory of training on pictures in files, and milliseconds to decode one.

  python -m benchmarks.stream --out stream-cpu.json
  python -m benchmarks.stream --size 128 --steps 12 --rounds 1

Makes folders of --pictures JPEG files in --classes classes (hard links to 64 made-up pictures of
--size px, deleted at the end) and trains on the first --steps batches of each, after two that are
not timed:

  plain    one setting: torchvision's ImageFolder and transforms, a DataLoader, and the plain loop
           of benchmarks.sweep, which asks the local net for every batch
  ours     --settings settings of S = 1 in the loop of train_edgenet_async.py with --stream
  local    the local net's answers, which train_edgenet_async.py computes once for all epochs

Each measurement has a process of its own. Its memory is the proportional set size (pages that
several processes share are divided among them) of that process and its workers, sampled every 50
ms. It includes the local net's logits of all pictures, 4 bytes a class, where the scripts keep
them. The decoders are Pillow, which the scripts use, and torchvision.io, if it is still there.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

import data
import experiment
import train_edgenet_async
from benchmarks import sweep
from benchmarks.points import about, add_common, seconds, take_turns
from data.pictures import read_picture
from deferral.risk import PAPER_COSTS
from experiment import number
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.any_local import build_local
from models.edgenet import build_edge
from models.inference import predict
from models.rejector import Rejector

DISTINCT = 64  # pictures; the files are links to them
WARM = 2  # steps
DECODED = (224, 500)  # px


def save_picture(path: Path, size: int, rng: np.random.Generator) -> None:
    """A JPEG of blurred patches under noise, whose file is about as large as a photograph's."""
    side = max(2, size // 16)
    small = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), dtype=float)
    noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(path, quality=90)


def make_folder(root: Path, count: int, classes: int, size: int) -> Path:
    """train/ with `count` pictures, and test/ with one a class."""
    rng = np.random.default_rng(0)
    root.mkdir()
    originals = [root / f"{k}.jpg" for k in range(DISTINCT)]
    for path in originals:
        save_picture(path, size, rng)
    for split, total in (("train", count), ("test", classes)):
        for k in range(total):
            path = root / split / f"{k % classes:04}" / f"{k:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(originals[k % DISTINCT], path)
    return root


class Peak:
    """Context manager: `megabytes` is the highest memory of this process and its children."""

    def __enter__(self) -> "Peak":
        self.megabytes, self._done = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        this = psutil.Process()
        while True:
            total = 0
            for process in (this, *this.children(recursive=True)):
                try:
                    info = process.memory_full_info()
                except psutil.Error:  # it has ended
                    continue
                total += getattr(info, "pss", info.rss)
            self.megabytes = max(self.megabytes, total / 1e6)
            if self._done.wait(0.05):
                return


class First:
    """The first `steps` batches of every epoch of some batches."""

    def __init__(self, batches: data.StreamBatches, steps: int):
        self.batches, self.steps = batches, steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, *state: Any) -> Iterator:
        return itertools.islice(self.batches.epoch(epoch, *state), self.steps)

    def rows(self, epoch: int) -> Iterator:
        return itertools.islice(self.batches.rows(epoch), self.steps)


def plain(folder: str, flags: dict[str, Any], device: torch.device) -> Callable[[int], object]:
    """Returns a function that makes steps of one setting as a straightforward script does."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    size, classes = flags["size"], flags["classes"]
    change = Compose([Resize(size), CenterCrop(size), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    pictures = torch.utils.data.DataLoader(
        ImageFolder(f"{folder}/train", change),
        flags["batch_size"],
        shuffle=True,
        num_workers=flags["workers"],
    )
    edge, frozen = (build_edge(flags["edge_net"], classes, size, 0).to(device) for _ in range(2))
    local = build_local(flags["local_net"], classes, size, 0).to(device).eval()
    rejector = Rejector().to(device)
    nets = local, edge, frozen.eval(), rejector
    optimizers = sweep.sgd(edge, 1e-3), sweep.sgd(rejector, 1.6e-3)
    cost_1, cost_e = (torch.tensor([[c]], device=device) for c in (1.25, 0.25))
    return lambda steps: sweep.plain_edge(
        nets, optimizers, itertools.islice(pictures, steps), cost_1, cost_e, device
    )


def stream(folder: str, flags: dict[str, Any]) -> data.FolderDataset:
    sized = {"size": flags["size"], "workers": flags["workers"]}
    return data.load_folder(folder, flags["batch_size"], **sized)


def ours(folder: str, flags: dict[str, Any], device: torch.device) -> Callable[[int], object]:
    """Returns a function that makes steps of all settings as train_edgenet_async.py --stream."""
    dataset, classes = stream(folder, flags), flags["classes"]
    dataset.fingerprint()
    batch_size = flags["batch_size"]
    batches = data.StreamBatches(dataset.train, batch_size, device, shuffle=True)
    edge = build_edge(flags["edge_net"], classes, flags["size"], 0).to(device)
    edge_step = EdgeStep(edge, sweep.sgd(edge, 1e-3, fused=True), batch_size)
    settings = [Setting(1, *pair) for pair in PAPER_COSTS[: flags["settings"]]]
    rejectors = Rejectors(
        settings, edge, device, seed=0, lr=1.6e-3, momentum=0.9, ask=edge_step.ask
    )
    logits = torch.randn(len(dataset.train.labels), classes, device=device)
    return lambda steps: train_edgenet_async.train_one_epoch(
        edge_step, rejectors, First(batches, steps), logits, 0, ""
    )


def local(folder: str, flags: dict[str, Any], device: torch.device) -> Callable[[int], object]:
    """Returns a function that computes the local net's answers for so many batches."""
    net = build_local(flags["local_net"], flags["classes"], flags["size"], 0).to(device)
    batches = data.StreamBatches(stream(folder, flags).train, flags["batch_size"], device)
    return lambda steps: predict(net, First(batches, steps).epoch(0))


WAYS = {"plain": plain, "ours": ours, "local": local}


def measure(way: str, folder: str, flags: dict[str, Any]) -> tuple[float, float]:
    """Images a second and megabytes at the peak, of this process."""
    # The decoding processes start as in a script, not as this process did.
    multiprocessing.set_start_method(flags["start_method"], force=True)
    torch.manual_seed(0)
    device = torch.device(flags["device"])
    with Peak() as peak:
        run = WAYS[way](folder, flags, device)
        run(WARM)
        taken = seconds(lambda: run(flags["steps"]), device)
    return flags["steps"] * flags["batch_size"] / taken, peak.megabytes


def training(flags: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows: every way for every number of pictures; the ways take turns."""
    rows = []
    for count in flags["pictures"]:
        with tempfile.TemporaryDirectory() as there:
            folder = make_folder(Path(there) / "made", count, flags["classes"], flags["size"])
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            for way in list(WAYS) * flags["rounds"]:
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=spawn) as process:
                    found[way].append(process.submit(measure, way, str(folder), flags).result())
        for way, pairs in found.items():
            rates, megabytes = zip(*pairs, strict=True)
            row = {"way": way, "pictures": count, "images_per_second": list(rates)}
            rows.append(row | {"megabytes": max(megabytes)})
            rate = statistics.median(rates)
            print(f"{way:6} {count:8,} pictures {rate:8.2f} a second {max(megabytes):8,.0f} MB")
    return rows


def decoding(rounds: int) -> list[dict[str, Any]]:
    """Rows: milliseconds to decode a picture, one round each; the decoders take turns."""
    ways: dict[str, Callable[[str], object]] = {"Pillow": read_picture}
    try:
        from torchvision.io import ImageReadMode, decode_image

        warnings.filterwarnings("ignore", message="The image decoding and encoding capabilities")
    except ImportError:
        print("torchvision.io has no decoder any more")
    else:
        ways["torchvision.io"] = lambda file: decode_image(file, ImageReadMode.RGB)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in DECODED:
            files = [Path(folder) / f"{size}-{k}.jpg" for k in range(8)]
            for k, file in enumerate(files):
                save_picture(file, size, np.random.default_rng(k))

            def all_by(decode: Callable[[str], object], files=files) -> Callable[[], object]:
                return lambda: [decode(str(file)) for file in files]

            works: Any = {way: (all_by(decode), len(files)) for way, decode in ways.items()}
            times = take_turns(works, rounds, torch.device("cpu"))
            rows += [{"size": size, "way": k, "milliseconds": v} for k, v in times.items()]
    return rows


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = experiment.Parser(__doc__)
    count = number(int, 1)
    parser.add_argument("--pictures", type=count, nargs="+", default=[2000, 20_000], help="files")
    parser.add_argument("--classes", type=count, default=1000, help="class folders")
    parser.add_argument("--size", type=count, default=224, help="px of pictures and networks")
    parser.add_argument("--local_net", default="mobilenet_v3_small", help="local net")
    parser.add_argument("--edge_net", default="resnet50", help="edge net")
    parser.add_argument("--settings", type=count, default=42, help="settings of ours, at most 42")
    parser.add_argument("--batch_size", type=count, default=16, help="images a step")
    parser.add_argument("--steps", type=count, default=24, help="timed steps")
    parser.add_argument("--workers", type=number(int, 0), default=2, help="decoding processes")
    add_common(parser, rounds=3)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    flags = vars(parse_args(argv))
    out = flags.pop("out")
    with experiment.one_line_errors():
        device = experiment.pick_device(flags["device"])
    flags |= {"device": str(device), "start_method": multiprocessing.get_start_method()}
    print(f"{experiment.hardware(device)}, torch {torch.__version__}")
    decoders = decoding(10 * flags["rounds"])
    for row in decoders:
        print(f"{row['way']:16} {row['size']} px {statistics.median(row['milliseconds']):6.2f} ms")
    rows = training(flags)
    if out:
        del flags["device"]  # `about` names it
        experiment.write_json(Path(out), about(device, **flags, decoders=decoders, rows=rows))


if __name__ == "__main__":
    main()
