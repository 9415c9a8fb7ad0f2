"""A made-up task in the layout of GLUE's SST-2, to try networks that read text without GLUE.

  python -m data.text.made_task results/runs/glue/made-task
  python -m early_exit.train --dataset made-task --task SST-2 --data_root results/runs/glue \\
      --arch bert --epochs 10 --optimizer adamw --lr 1e-3 --save_dir results/runs/bert

A text is praise if more of its opinions praise than blame. An opinion is one of 12 words, half of
them praise, and `not` before it turns it round; among them stand words that say nothing. How many
more opinions are of one kind than of the other makes a text easy or hard: one, mostly. None of this
is English, and nothing that is measured on it says anything about GLUE.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

from experiment import Parser, fail, number, script, write_bytes

PRAISE = ("fine", "bright", "lovely", "warm", "clever", "tender")
BLAME = ("dull", "cold", "poor", "flat", "weary", "crude")
NOT = 0.4  # share of opinions that are turned round
OPINIONS = (1, 7)  # in a text, an odd number
NEUTRAL = 300  # words that say nothing


def text(draw: random.Random) -> tuple[str, int]:
    """One text and its label, 1 for praise."""
    count = draw.randrange(OPINIONS[0], OPINIONS[1] + 1, 2)
    praises = [draw.random() < 0.5 for _ in range(count)]
    words = []
    for praise in praises:
        words += [f"word{draw.randrange(NEUTRAL)}" for _ in range(draw.randint(0, 4))]
        turned = draw.random() < NOT
        words += ["not"] if turned else []
        words.append(draw.choice(PRAISE if praise != turned else BLAME))
    words += [f"word{draw.randrange(NEUTRAL)}" for _ in range(draw.randint(0, 4))]
    return " ".join(words), int(2 * sum(praises) > count)


def write_task(folder: Path, train: int, dev: int, seed: int) -> None:
    """train.tsv and dev.tsv, of so many texts each."""
    draw = random.Random(seed)
    for name, count in (("train", train), ("dev", dev)):
        rows = "".join("{}\t{}\n".format(*text(draw)) for _ in range(count))
        write_bytes(folder / f"{name}.tsv", f"sentence\tlabel\n{rows}".encode())


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "data.text.made_task")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where train.tsv and dev.tsv go")
    parser.add_argument("--train", type=number(int, 1), default=6000, help="texts")
    parser.add_argument("--dev", type=number(int, 1), default=2000, help="texts")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="of the texts")
    parser.add_argument("--overwrite", action="store_true", help="replace one that is there")
    return parser.parse_args(argv)


@script
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    there = [p for p in (args.folder / "train.tsv", args.folder / "dev.tsv") if p.exists()]
    if there and not args.overwrite:
        fail(f"{there[0]}: a task is here; --overwrite replaces it")
    write_task(args.folder, args.train, args.dev, args.seed)
    print(f"{args.folder}: {args.train} training and {args.dev} dev texts")


if __name__ == "__main__":
    main()
