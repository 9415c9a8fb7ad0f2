"""Time of eval_all.py for 54 settings, relative to a forward pass of its edge net.

  python -m benchmarks.evaluation --out evaluation-cpu.json
  python -m benchmarks.evaluation --device cuda --edge_net vit --images 10000

Creates a run directory with random weights and random 32 px images: a data set of --train_images
and --images (half val, half test), a local net, an edge net, a rejector for each of the paper's 42
costs with S = 1, and 12 more with S = 10, 100 and once per epoch. Two measurements alternate: the
edge net's logits of val and test, with images and network already on the device, and
`eval_all.evaluate`, from the command's arguments to the JSON file. Reported are medians over the
rounds and the range of the ratio; `parts` are seconds within evaluate.

The attainable ratio at equal rates is 1 + (l + 54 r) / e, where l, e and r are the multiply-adds
per image of local net, edge net and one rejector: 1.38 for alexnet, 1.002 for ViT-B/16.
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
from benchmarks.points import about, add_common, seconds
from deferral.risk import PAPER_COSTS
from learning_to_help.settings import Setting
from models.cost import multiply_adds
from models.edgenet import build_edge, edge_size
from models.inference import predict
from models.localnet import LeNet5
from models.rejector import Rejector, StackedRejectors

CLASSES, SIZE, BATCH = 10, 32, 250
LATE = [(1.0, 0.0), (1.0, 0.25), (1.25, 0.0), (1.25, 0.25)]
SETTINGS = [Setting(1, *pair) for pair in PAPER_COSTS]
SETTINGS += [Setting(s, *pair) for s in (10, 100, 0) for pair in LATE]
FEW = {"vit": 100}  # maximum images on a CPU, for nets that take 0.1 s or more per image


def make_run(folder: Path, edge_name: str, train: int, images: int) -> argparse.Namespace:
    """Writes a data set and a run directory as training does; returns eval_all's arguments."""
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
    sha256 = {}
    for kind, net, more in (
        ("local", local, {"net": "lenet5", "local_classes": "all"}),
        ("edge", edge, {"net": edge_name, "edge_size": size}),
    ):
        checkpoint = {"kind": kind, **more, **common, "state_dict": net.state_dict()}
        file = folder / f"made-{kind}net.pth"
        sha256[f"{kind}_sha256"] = experiment.save_checkpoint(file, checkpoint)
    for setting in SETTINGS:
        state = {"kind": "rejector", **setting._asdict(), "seed": 43, "dataset": "made"}
        state |= {"refreshes": 0, "bytes_sent": 0, "outages": []}
        state |= {**sha256, "state_dict": Rejector().state_dict()}
        experiment.save_checkpoint(folder / f"{setting.stem('made')}.pth", state)
    return eval_all.parse_args(["--dataset", str(path), "--save_dir", str(folder), "--overwrite"])


@contextlib.contextmanager
def timed_parts(device: torch.device, edge: torch.nn.Module):
    """Context manager that yields a dict and collects the seconds of evaluate's parts in it."""
    parts: dict[str, float] = {}

    def time_calls(where, name: str, part: str):
        function = getattr(where, name)

        def timed(*args, **kwargs):
            results = []
            taken = seconds(lambda: results.append(function(*args, **kwargs)), device)
            parts[part] = parts.get(part, 0) + taken
            return results[0]

        stack.enter_context(mock.patch.object(where, name, timed))

    with contextlib.ExitStack() as stack:
        time_calls(data, "load", "read data")
        time_calls(data.Dataset, "fingerprint", "hash data")
        time_calls(eval_all, "read_checkpoints", "read checkpoints")
        time_calls(LeNet5, "forward", "local net")
        time_calls(type(edge), "forward", "edge net")
        time_calls(StackedRejectors, "forward", "rejectors")
        time_calls(experiment, "write_npz", "write predictions")
        time_calls(eval_all.saved, "load", "read predictions")
        time_calls(eval_all, "release_layout", "counts and risks")
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
            with timed_parts(device, edge) as parts, contextlib.redirect_stdout(io.StringIO()):
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
    parser = experiment.Parser(__doc__)
    names = ["alexnet", "resnet18", "convnet", "vit"]
    parser.add_argument("--edge_net", nargs="+", default=names, help="edge nets, one row for each")
    parser.add_argument(
        "--images",
        type=int,
        default=10_000,
        help="images of val and test together; on a CPU at most "
        + ", ".join(f"{count} for {name}" for name, count in FEW.items()),
    )
    parser.add_argument(
        "--train_images", type=int, default=40_000, help="training images of the data set"
    )
    add_common(parser, rounds=3)
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
        seconds_of = ", ".join(f"{k} {v:.2f}" for k, v in row["parts"].items())
        print(
            f"{name}, {row['images']} images: edge {edge:.2f} s, evaluate {whole:.2f} s, ratio "
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}): {seconds_of}",
            flush=True,
        )
    if args.out:
        sizes = {"settings": len(SETTINGS), "batch": BATCH, "train_images": args.train_images}
        experiment.write_json(Path(args.out), about(device, **sizes, rows=rows))


if __name__ == "__main__":
    main()
