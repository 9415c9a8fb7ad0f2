"""Split the images of a data set over the clients of federated learning, a file a client.

  python -m data.partition --dataset cifar100 noniid - dir
  python -m data.partition --dataset cifar10 --clients 100 noniid balance pat
  python -m data.partition --dataset digits --clients 10 --train_only noniid - dir --alpha 0.3

The three words mean what they mean in PFLlib's generate_*.py: train and test set are merged, each
image goes to exactly one client, and a quarter of each client's images are its test set.

  iid SIZES -         every class cut for all clients: in even parts (balance); or in parts from a
                      tenth of the mean to the mean, the rest to the last client (-)
  noniid SIZES pat    each class, in order, for the first clients that have room for it, with
                      --classes_per_client each; cut as in iid
  noniid SIZES dir    each class cut by Dirichlet(--alpha) over the clients below the mean size so
                      far; drawn again until each client has 40 images, or half the mean if that is
                      less; balance and - are the same
  noniid SIZES exdir  --classes_per_client classes each, then as dir among a class's holders until
                      each client has 10 images; balance and - are the same

--train_only, which is not PFLlib's, leaves the data set's own test images out.

Writes client-0000.npz and so on, each a data set by itself, for `--dataset` of any script: x_train,
y_train, x_test, y_test; `classes`, the names of all K classes; index_train, index_test, rows of the
source's train set or, where split_train, split_test are 1 and not 0, of its test set. Then
classes.png, who has what, and last partition.json. CIFAR-100 takes 20 s on two busy cores.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from data.benchmark_counts import LEAST, benchmark_counts
from data.parts import Part, fingerprint_of
from data.sources import NAMES, Source, source_of, stem
from experiment import (
    Parser,
    lock,
    number,
    one_line_errors,
    script,
    write_bytes,
)

# PFLlib's defaults; its comments advise an alpha of 100 for exdir.
CLIENTS, ALPHA, TEST_SHARE = 20, 0.1, 0.25

Rows = NDArray[np.int64]
Images = tuple[Part, NDArray[np.uint8], Sequence[str]]  # the images, `merged`'s; class names


def classes_per_client(num_classes: int) -> int:
    """PFLlib's: 2 of 10 classes, 10 of 100, 20 of 200."""
    return max(2, num_classes // 10)


def split(
    labels: NDArray[np.integer],
    clients: int,
    rng: np.random.Generator,
    *,
    sizes: str,
    kind: str = "-",
    alpha: float = ALPHA,
    per_client: int = 2,
) -> list[Rows]:
    """The rows of each client, sorted: disjoint, and together all of 0..N-1.

    labels: integers [N] from 0. sizes: `balance` or `-`. kind: `-` is iid; `dir`, with `alpha`;
    `pat`, with `per_client` classes a client; `exdir`, with both. The module's docstring and
    data/benchmark_counts.py define them. Each client has `LEAST` images or more.

    Raises:
        ValueError: too few images, or these labels allow no such partition. One line.
    """
    if not 1 <= clients * LEAST <= len(labels):
        raise ValueError(
            f"{clients} clients of {LEAST} images or more each: there are {len(labels)} images, "
            f"so give 1 to {len(labels) // LEAST} clients"
        )
    stock = np.bincount(labels)
    counts = benchmark_counts(stock, clients, kind, sizes == "balance", alpha, per_client, rng)
    shuffled = rng.permutation(len(labels))
    rows = shuffled[np.argsort(labels[shuffled], kind="stable")]  # by class, in random order
    owner = np.repeat(np.tile(np.arange(clients), len(stock)), counts.T.ravel())
    rows = rows[np.lexsort((rows, owner))]
    return np.split(rows, np.cumsum(np.bincount(owner))[:-1])


def cut_test(rows: Rows, share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """A client's rows as training and test part, both sorted.

    Test is `share` of them, rounded up; 1 at least, and 2 are left to train on.
    """
    count = math.ceil(len(rows) * share - 1e-9)  # 0.2 of 5 is 1, and not 1.0000000000000002
    count = min(max(1, count), len(rows) - 2)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[rng.permutation(len(rows))[:count]] = True
    return rows[~chosen], rows[chosen]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "data.partition")
    parser.add_argument("labels", choices=("iid", "noniid"), help="distribution of the classes")
    parser.add_argument("sizes", choices=("balance", "-"), help="images a client")
    parser.add_argument("kind", choices=("dir", "pat", "exdir", "-"), help="of noniid; - with iid")
    parser.add_argument("--dataset", required=True, help=f"{', '.join(NAMES)}, DIR or .npz")
    parser.add_argument("--clients", type=number(int, 1), default=CLIENTS, help="number of clients")
    parser.add_argument(
        "--alpha", type=number(float, 0, above=True),
        help=f"alpha of dir and exdir: the smaller, the farther from iid (default: {ALPHA}; PFLlib "
        "advises 100 for exdir)",
    )  # fmt: skip
    parser.add_argument(
        "--classes_per_client", type=number(int, 1),
        help="classes a client of pat and exdir (default: a tenth of the classes, at least 2)",
    )  # fmt: skip
    parser.add_argument(
        "--train_only", action="store_true", help="leave the data set's own test images out"
    )
    parser.add_argument(
        "--test_share", type=number(float, 0, 1, above=True, below=True), default=TEST_SHARE,
        help="share of each client's images that are its test set",
    )  # fmt: skip
    parser.add_argument("--seed", type=number(int, 0), default=0, help="seed of the partition")
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="a new folder (default: in results/partitions, named by the arguments)",
    )  # fmt: skip
    parser.add_argument("--data_root", default="data_root", help="where data sets are kept")
    args = parser.parse_args(argv)
    if (args.labels == "iid") != (args.kind == "-"):
        parser.error("give iid with -, as in iid balance -, and noniid with dir, pat or exdir")
    for flag, kinds in (("alpha", ("dir", "exdir")), ("classes_per_client", ("pat", "exdir"))):
        if args.kind not in kinds and getattr(args, flag) is not None:
            parser.error(f"--{flag} goes with {' or '.join(kinds)}, not with {args.kind}")
    if args.alpha is None and args.kind in ("dir", "exdir"):
        args.alpha = ALPHA
    return args


def default_out(args: argparse.Namespace) -> Path:
    """results/partitions/cifar100-20-noniid-balance-dir-0.1-seed-0, say."""
    words = [stem(args.dataset), args.clients, args.labels]
    words += ["unbalanced" if args.sizes == "-" else "balance", *[args.kind] * (args.kind != "-")]
    words += [x for x in (args.alpha, args.classes_per_client) if x is not None]  # floats in full
    words += ["seed", args.seed, *["train_only"] * args.train_only]
    return Path("results/partitions", "-".join(map(str, words)))


def file_names(clients: int) -> list[str]:
    """The data sets of a partition."""
    digits = max(4, len(str(clients - 1)))
    return [f"client-{client:0{digits}}.npz" for client in range(clients)]


def merged(source: Source, train_only: bool) -> tuple[Part, NDArray[np.uint8]]:
    """The images to split, and for each [N] whether it comes from the train set (0) or test (1)."""
    if train_only:
        return source.train, np.zeros(len(source.train.labels), np.uint8)
    part = Part(*map(torch.cat, zip(source.train, source.test, strict=True)))
    split_of = np.repeat(np.array([0, 1], np.uint8), [len(p.labels) for p in source[:2]])
    return part, split_of


def _as_npz(images: Images, train: Rows, test: Rows) -> bytes:
    """A data set of some of the rows."""
    part, split_of, classes = images
    pixels = part.images.permute(0, 2, 3, 1).numpy()
    labels, index = part.labels.numpy(), part.index.numpy()
    buffer = io.BytesIO()
    np.savez(  # not compressed: photographs hardly get smaller by it
        buffer, classes=np.array(classes),
        x_train=pixels[train], y_train=labels[train],
        index_train=index[train], split_train=split_of[train],
        x_test=pixels[test], y_test=labels[test],
        index_test=index[test], split_test=split_of[test],
    )  # fmt: skip
    return buffer.getvalue()


def picture(counts: NDArray[np.integer], classes: Sequence[str], title: str) -> bytes:
    """A PNG of the counts [clients, K], below the clients' sizes; white cells have no images."""
    clients, num_classes = counts.shape
    height = 1.2 + min(6.5, max(1.6, 0.24 * num_classes)) + 0.9  # inches
    fig = Figure(figsize=(7, height), layout="constrained")
    FigureCanvasAgg(fig)
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=[1, max(1.2, height - 2.1)])
    fig.suptitle(title, fontsize="medium")
    top.stairs(counts.sum(1), np.arange(clients + 1) - 0.5, fill=True)
    top.set(ylabel="images")
    shown, norm = np.ma.masked_equal(counts.T, 0), LogNorm(1, max(2, counts.max()))
    image = below.imshow(shown, "viridis_r", norm=norm, aspect="auto", interpolation="nearest")
    bar = fig.colorbar(image, ax=below, pad=0.015, label="images", format="{x:.0f}")
    bar.minorticks_off()
    below.set(xlabel="client", ylabel="class")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    if num_classes <= 30:
        below.set_yticks(range(num_classes), [name[:14] for name in classes])
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def as_json(about: dict[str, Any], counts: NDArray[np.integer]) -> str:
    """`about` and `counts` [clients, classes], one client a line."""
    head = json.dumps(about, indent=1, ensure_ascii=False).removesuffix("\n}")
    rows = ",\n".join(f"  {json.dumps(row)}" for row in counts.tolist())
    return f'{head},\n "counts": [\n{rows}\n ]\n}}\n'


def partition(args: argparse.Namespace, command: str) -> None:
    """Writes the partition. ValueError and OSError for bad input, before anything is written."""
    out = args.out or default_out(args)
    if any(out.glob("[!.]*")):
        raise ValueError(f"{out}: files are here; remove it, or use another --out")
    source = source_of(args.dataset, Path(args.data_root))
    part, split_of = merged(source, args.train_only)
    labels, classes = part.labels.numpy(), list(source.classes)
    per_client = args.classes_per_client
    if args.kind in ("pat", "exdir"):
        per_client = per_client or classes_per_client(len(classes))
    rng = np.random.default_rng(args.seed)
    rows = split(
        labels,
        args.clients,
        rng,
        sizes=args.sizes,
        kind=args.kind,
        alpha=args.alpha,
        per_client=per_client,
    )
    parts = [cut_test(r, args.test_share, rng) for r in rows]
    counts = np.stack([np.bincount(labels[r], minlength=len(classes)) for r in rows])

    lock(out)
    names, images = file_names(args.clients), (part, split_of, classes)
    for name, both in zip(names, parts, strict=True):
        write_bytes(out / name, _as_npz(images, *both))
    words = [args.labels, args.sizes, args.kind]
    title = " ".join([stem(args.dataset), *words])
    write_bytes(out / "classes.png", picture(counts, classes, title))
    about = {
        "dataset": args.dataset,
        "data": fingerprint_of([part]),
        "command": command,
        "words": words,
        "clients": args.clients,
        "alpha": args.alpha,
        "classes_per_client": per_client,
        "train_only": args.train_only,
        "test_share": args.test_share,
        "seed": args.seed,
        "classes": classes,
        "files": names,
        "train_images": [len(train) for train, _ in parts],
        "test_images": [len(test) for _, test in parts],
    }
    write_bytes(out / "partition.json", as_json(about, counts).encode())
    total, held = counts.sum(1), (counts > 0).sum(1)
    print(
        f"{out}: {args.clients} clients of {total.min()} to {total.max()} images "
        f"in {held.min()} to {held.max()} classes"
    )


@script
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    with one_line_errors():
        partition(args, shlex.join(["python", "-m", "data.partition", *map(str, given)]))


if __name__ == "__main__":
    main()
