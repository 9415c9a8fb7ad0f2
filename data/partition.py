"""Split the train images of a data set over the clients of federated learning, a file a client.

  python -m data.partition --dataset cifar100 --clients 1000 noniid balance dir
  python -m data.partition --dataset cifar10 --clients 100 noniid - pat --classes_per_client 2
  python -m data.partition --dataset digits --clients 10 iid balance -

The three words are which classes (iid, noniid), how many images (balance: all clients the same,
give or take one; -: not so), and what noniid means (dir: Dirichlet; pat: a few classes a client;
- with iid). Every train image goes to exactly one client; the test set to none.

Writes client-0000.npz and so on, each a data set by itself, for `--dataset` of any script: x_train,
y_train; x_test, y_test, the client's validation part; `classes`, the names of all K classes;
index_train, index_test, rows of the source's train set. With --pool 0.1 also all.npz, for a server
of all clients: x_train, all that clients train on when each cuts a val part of 0.1 off its own
(--val_size 0.1 --split_seed 0 of every script), so that the server has seen no client's val or test
images; x_test, all validation parts. Then classes.png and .pdf, who has what, and last
partition.json. CIFAR-100 takes seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.client_counts import LEAST, dirichlet, pathological, sizes
from data.command_line import Parser, fail, number, write
from data.datasets import NAMES, Source, count_of, cut, fingerprint_of, source_of, stem
from data.partition_plot import draw

ALPHA = 0.1
CLASSES_PER_CLIENT = 2  # McMahan et al.'s, and the fewest of which there is something to tell apart

Rows = NDArray[np.int64]


def split(
    labels: NDArray[np.integer],
    clients: int,
    rng: np.random.Generator,
    *,
    balance: bool,
    alpha: float | None = None,
    classes_per_client: int | None = None,
) -> list[Rows]:
    """The rows of each client, sorted: disjoint, and together all of 0..N-1.

    labels: integers [N] from 0. Noniid by a Dirichlet distribution where `alpha` is given, with a
    few classes a client where `classes_per_client` is (data/client_counts.py says how); else iid.
    Each client has `LEAST` images or more.

    Raises:
        ValueError: too few images, or what is asked for cannot be had of these labels. One line.
    """
    if not 1 <= clients * LEAST <= len(labels):
        raise ValueError(
            f"{clients} clients of {LEAST} images or more each: there are {len(labels)} images, "
            f"so give 1 to {len(labels) // LEAST} clients"
        )
    if alpha is None and classes_per_client is None:
        owner = np.repeat(np.arange(clients), sizes(len(labels), clients, balance, rng))
        return _by_owner(rng.permutation(len(labels)), owner)
    stock = np.bincount(labels)
    if classes_per_client is None:
        counts = dirichlet(stock, clients, balance, alpha, rng)
    else:
        counts = pathological(stock, clients, balance, classes_per_client, rng)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    every = np.tile(np.arange(clients), counts.shape[1])
    return _by_owner(by_class, np.repeat(every, counts.T.ravel()))


def _by_owner(rows: Rows, owner: Rows) -> list[Rows]:
    """Rows [N] put together by who owns each, every owner's sorted."""
    rows = rows[np.lexsort((rows, owner))]
    return np.split(rows, np.cumsum(np.bincount(owner))[:-1])


def cut_validation(rows: Rows, share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """A client's rows as training and validation part, both sorted.

    Validation is `share` of them, rounded; 1 at least, and 2 are left to train on.
    """
    count = min(max(1, round(len(rows) * share)), len(rows) - 2)
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[rng.permutation(len(rows))[:count]] = True
    return rows[~chosen], rows[chosen]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser("data.partition", __doc__)
    parser.add_argument("labels", choices=("iid", "noniid"), help="which classes a client has")
    parser.add_argument("sizes", choices=("balance", "-"), help="how many images")
    parser.add_argument("kind", choices=("dir", "pat", "-"), help="of noniid")
    parser.add_argument("--dataset", required=True, help=f"{', '.join(NAMES)}, DIR or .npz")
    parser.add_argument("--clients", type=number(int, 1), required=True, help="how many")
    parser.add_argument(
        "--alpha", type=number(float, 0, above=True),
        help=f"of dir: the smaller, the farther from iid (default: {ALPHA})",
    )  # fmt: skip
    parser.add_argument(
        "--classes_per_client", type=number(int, 1),
        help=f"of pat (default: {CLASSES_PER_CLIENT}, as McMahan et al.)",
    )  # fmt: skip
    parser.add_argument(
        "--val_share", type=number(float, 0, 1, above=True), default=0.2,
        help="of each client's images that are its validation part (default: 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--pool", type=number(float, 0, 1, above=True), metavar="VAL_SIZE",
        help="also all.npz: what all clients train on, less this share of each client's",
    )  # fmt: skip
    parser.add_argument("--seed", type=number(int, 0), default=0, help="(default: 0)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR",
        help="(default: in results/partitions, named by what is asked for)",
    )  # fmt: skip
    parser.add_argument(
        "--data_root", default="data_root", help="where data sets are kept (default: data_root)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace one that is there")
    args = parser.parse_args(argv)
    if (args.labels == "iid") != (args.kind == "-"):
        parser.error("give iid with -, as in iid balance -, and noniid with dir or pat")
    for flag, kind, default in (
        ("alpha", "dir", ALPHA),
        ("classes_per_client", "pat", CLASSES_PER_CLIENT),
    ):
        if args.kind != kind and getattr(args, flag) is not None:
            parser.error(f"--{flag} goes with {kind}, not with {args.kind}")
        if args.kind == kind and getattr(args, flag) is None:
            setattr(args, flag, default)
    return args


def default_out(args: argparse.Namespace) -> Path:
    """results/partitions/cifar100-1000-noniid-balance-dir-0.1-seed-0, say."""
    words = [stem(args.dataset), args.clients, args.labels]
    words += ["unbalanced" if args.sizes == "-" else args.sizes]
    if args.kind != "-":
        words += [args.kind, args.alpha or args.classes_per_client]
    return Path("results/partitions", "-".join(map(str, [*words, "seed", args.seed])))


def old_files(out: Path) -> list[Path]:
    """What a partition that is in `out` consists of, partition.json first if it is whole."""
    return [*out.glob("partition.json"), *sorted(out.glob("client-*.npz")), *out.glob("all.npz")]


def write_clients(out: Path, source: Source, parts: Sequence[tuple[Rows, Rows]]) -> list[str]:
    """Write every client's file; returns their names."""
    digits = max(4, len(str(len(parts) - 1)))
    names = []
    for client, both in enumerate(parts):
        names.append(f"client-{client:0{digits}}.npz")
        write(out / names[-1], _as_npz(source, *both))
    return names


def _as_npz(source: Source, train: Rows, test: Rows) -> bytes:
    """A data set of some of the source's train rows."""
    images = source.train.images.permute(0, 2, 3, 1).numpy()
    labels, index = source.train.labels.numpy(), source.train.index.numpy()
    arrays = {"classes": np.array(source.classes)}
    for name, rows in (("train", train), ("test", test)):
        arrays[f"x_{name}"] = images[rows]
        arrays[f"y_{name}"] = labels[rows]
        arrays[f"index_{name}"] = index[rows]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # not compressed: photographs hardly get smaller by it
    return buffer.getvalue()


def pooled(parts: Sequence[tuple[Rows, Rows]], val_size: float) -> tuple[Rows, Rows]:
    """What one server may train on and be tested on: rows of all clients together, sorted.

    Of each client's train rows without the val part that `data.load(..., val_size, seed=0)` cuts
    off; and of all validation parts.
    """
    kept = []
    for train, _ in parts:
        val = count_of("--pool", val_size, len(train))
        kept.append(train[~cut(len(train), [val], 0)[0].numpy()])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate([test for _, test in parts]))


def as_json(about: dict[str, Any], counts: NDArray[np.integer]) -> str:
    """`about` and `counts` [clients, classes], one client a line."""
    head = json.dumps(about, indent=1, ensure_ascii=False).removesuffix("\n}")
    rows = ",\n".join(f"  {json.dumps(row)}" for row in counts.tolist())
    return f'{head},\n "counts": [\n{rows}\n ]\n}}\n'


def partition(args: argparse.Namespace, command: str) -> None:
    """What `main` does. ValueError and OSError for bad input, before anything is written."""
    out = args.out or default_out(args)
    old = old_files(out)
    if old and not args.overwrite:
        what = "a" if old[0].suffix == ".json" else "an unfinished"
        raise ValueError(f"{out}: {what} partition is here; --overwrite replaces it")
    source = source_of(args.dataset, Path(args.data_root))
    labels, classes = source.train.labels.numpy(), list(source.classes)
    rng = np.random.default_rng(args.seed)
    rows = split(
        labels,
        args.clients,
        rng,
        balance=args.sizes == "balance",
        alpha=args.alpha,
        classes_per_client=args.classes_per_client,
    )
    parts = [cut_validation(r, args.val_share, rng) for r in rows]
    counts = np.stack([np.bincount(labels[r], minlength=len(classes)) for r in rows])
    both = pooled(parts, args.pool) if args.pool else None

    # partition.json goes first, so that what a kill leaves is never taken for whole.
    for path in old:
        path.unlink()
    files = write_clients(out, source, parts)
    if both:
        write(out / "all.npz", _as_npz(source, *both))
    words = [args.labels, args.sizes, args.kind]
    for suffix, picture in draw(counts, classes, " ".join([stem(args.dataset), *words])).items():
        write(out / f"classes.{suffix}", picture)
    about = {
        "dataset": args.dataset,
        "data": fingerprint_of([source.train]),
        "command": command,
        "words": words,
        "clients": args.clients,
        "alpha": args.alpha,
        "classes_per_client": args.classes_per_client,
        "val_share": args.val_share,
        "pool": args.pool,
        "seed": args.seed,
        "classes": classes,
        "files": files,
        "train_images": [len(train) for train, _ in parts],
        "validation_images": [len(validation) for _, validation in parts],
    }
    write(out / "partition.json", as_json(about, counts).encode())
    images, held = counts.sum(1), (counts > 0).sum(1)
    print(
        f"{out}: {args.clients} clients of {images.min()} to {images.max()} images "
        f"in {held.min()} to {held.max()} classes"
    )


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    try:
        partition(args, shlex.join(["python", "-m", "data.partition", *map(str, given)]))
    except OSError as e:
        fail(f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e))
    except ValueError as e:
        fail(str(e))


if __name__ == "__main__":
    main()
