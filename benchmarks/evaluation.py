"""All of eval_all.py for 54 settings, beside one forward pass of its edge net on the same images.

  python -m benchmarks.evaluation --out evaluation-cpu.json
  python -m benchmarks.evaluation --device cuda --edge_net vit --images 10000

Makes a run directory on the spot, of random weights and random pictures of 32 px: a data set of
--train_images and --images (half val, half test), a local net, an edge net and a rejector at each
of the paper's 42 costs, and at 12 of S = 10, 100 and once an epoch. Then two take turns: the edge's
logits of val and test, with images and network on the device already; and `eval_all.evaluate`, from
the command's arguments to the JSON on the disk. Medians of the rounds, and the range of the ratio;
`parts` are seconds within evaluate.

What can be had: with local net l, edge e and one rejector r in multiply-adds an image, the ratio is
about 1 + (l + 54 r) / e at equal rates: 1.38 for alexnet, 1.002 for ViT-B/16 (`multiply_adds`).
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import data
import eval_all
import experiment
from benchmarks.points import about, seconds
from benchmarks.sweep import COSTS
from learning_to_help.settings import Setting
from models.cost import multiply_adds
from models.edgenet import build_edge, edge_size
from models.inference import predict
from models.localnet import LeNet5
from models.rejector import Rejector

CLASSES, SIZE, BATCH = 10, 32, 250
LATE = [(1.0, 0.0), (1.0, 0.25), (1.25, 0.0), (1.25, 0.25)]
SETTINGS = [Setting(1, *pair) for pair in COSTS]
SETTINGS += [Setting(s, *pair) for s in (10, 100, 0) for pair in LATE]
FEW = {"vit": 100}  # images on a CPU, for nets that take a tenth of a second or more for one


def make_run(folder: Path, edge_name: str, train: int, images: int) -> argparse.Namespace:
    """A data set and a run directory as training leaves them; returns eval_all's arguments."""
    rng = np.random.default_rng(0)
    val, path = images // 2, folder / "made.npz"
    x_train, x_test = (
        rng.integers(0, 256, (n, SIZE, SIZE, 3), np.uint8) for n in (train + val, images - val)
    )
    y_train, y_test = (np.arange(len(x)) % CLASSES for x in (x_train, x_test))
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    split = {"val_size": val, "split_seed": 0, "rejector_val_size": 0}
    digest = data.load(str(path), "", val).fingerprint()
    common = {"num_classes": CLASSES, "dataset": "made", "data": digest, **split, "seed": 43}
    size = edge_size(edge_name, SIZE)
    torch.manual_seed(0)
    local, edge = LeNet5(CLASSES), build_edge(edge_name, CLASSES, size)
    belongs = {}
    for kind, net, more in (
        ("local", local, {"net": "lenet5", "local_classes": "all"}),
        ("edge", edge, {"net": edge_name, "edge_size": size}),
    ):
        checkpoint = {"kind": kind, **more, **common, "state_dict": net.state_dict()}
        file = folder / f"made-{kind}net.pth"
        belongs[f"{kind}_sha256"] = experiment.save_checkpoint(file, checkpoint)
    for setting in SETTINGS:
        state = {"kind": "rejector", **setting._asdict(), "seed": 43, "dataset": "made"}
        state |= {**belongs, "state_dict": Rejector().state_dict()}
        experiment.save_checkpoint(folder / f"{setting.stem('made')}.pth", state)
    return eval_all.parse_args(["--dataset", str(path), "--save_dir", str(folder), "--overwrite"])


@contextlib.contextmanager
def watched(device: torch.device):
    """Within it, seconds of evaluate's parts go to the dict that it gives."""
    parts: dict[str, float] = {}
    nets = {"LeNet5": "local net", "StackedRejectors": "rejectors"}

    def watch(where, name: str, label: str = ""):
        work = getattr(where, name)

        def timed(*args, **kwargs):
            found = []
            taken = seconds(lambda: found.append(work(*args, **kwargs)), device)
            part = label or nets.get(type(args[0]).__name__, "edge net")
            parts[part] = parts.get(part, 0) + taken
            return found[0]

        stack.enter_context(mock.patch.object(where, name, timed))

    with contextlib.ExitStack() as stack:
        watch(data, "load", "read data")
        watch(data.Dataset, "fingerprint", "hash data")
        watch(eval_all, "read_checkpoints", "read checkpoints")
        watch(eval_all, "predict")
        watch(experiment, "write_npz", "write predictions")
        watch(eval_all.saved, "load", "read predictions")
        watch(eval_all, "release_layout", "counts and risks")
        yield parts


def measure(name: str, device, images: int, train: int, rounds: int) -> dict:
    """The row of one edge net; the first round warms up."""
    with tempfile.TemporaryDirectory() as folder:
        args = make_run(Path(folder), name, train, images)
        args.device = str(device)
        dataset = data.load(args.dataset, "", images // 2)
        batches = [data.Batches(part, BATCH, device) for part in (dataset.val, dataset.test)]
        size = edge_size(name, SIZE)
        edge = build_edge(name, CLASSES, size, seed=0).to(device)
        edge_seconds, all_seconds, all_parts = [], [], []
        for _ in range(rounds + 1):
            edge_seconds.append(seconds(lambda: [predict(edge, b) for b in batches], device))
            with watched(device) as parts, contextlib.redirect_stdout(io.StringIO()):
                all_seconds.append(seconds(lambda: eval_all.evaluate(args), device))
            parts["all else"] = all_seconds[-1] - sum(parts.values())
            all_parts.append(parts)
    ratios = [a / e for a, e in zip(all_seconds[1:], edge_seconds[1:], strict=True)]
    parts = {k: statistics.median(p[k] for p in all_parts[1:]) for k in all_parts[0]}
    adds = {"local": LeNet5(CLASSES), "edge": build_edge(name, CLASSES, size)}
    adds["rejector"] = Rejector()
    blank = torch.zeros(1, 3, SIZE, SIZE)
    return {
        "edge_net": name,
        "images": images,
        "edge_seconds": edge_seconds[1:],
        "evaluate_seconds": all_seconds[1:],
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "parts": parts,
        "multiply_adds": {k: multiply_adds(net, blank) for k, net in adds.items()},
    }


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ["alexnet", "resnet18", "convnet", "vit"]
    parser.add_argument("--edge_net", nargs="+", default=names, help="one row each")
    parser.add_argument(
        "--images",
        type=int,
        default=10_000,
        help="of val and test together; on a CPU at most "
        + ", ".join(f"{count} for {name}" for name, count in FEW.items()),
    )
    parser.add_argument("--train_images", type=int, default=40_000, help="beside them in the data")
    parser.add_argument("--device", default="best", help="cuda, mps, cpu or best")
    parser.add_argument("--rounds", type=int, default=3, help="turns taken; the medians count")
    parser.add_argument("--out", help="write the numbers there as JSON")
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    hardware = experiment.hardware(device)
    print(f"{hardware}, torch {torch.__version__}, {len(SETTINGS)} settings, batch {BATCH}")
    rows = []
    for name in args.edge_net:
        few = FEW.get(name, args.images) if device.type == "cpu" else args.images
        row = measure(name, device, min(args.images, few), args.train_images, args.rounds)
        rows.append(row)
        edge, whole = (statistics.median(row[f"{k}_seconds"]) for k in ("edge", "evaluate"))
        told = ", ".join(f"{k} {v:.2f}" for k, v in row["parts"].items())
        print(
            f"{name}, {row['images']} images: edge {edge:.2f} s, evaluate {whole:.2f} s, ratio "
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}): {told}",
            flush=True,
        )
    if args.out:
        sizes = {"settings": len(SETTINGS), "batch": BATCH, "train_images": args.train_images}
        found = about(device, **sizes, rows=rows)
        experiment.write_json(Path(args.out), found)


if __name__ == "__main__":
    main()
