"""The input files of two worked examples: a classifier and people, and three networks.

    python -m results.pair_answers cifar10 RESNETS results/runs/pair-answers --mirrored
    python -m results.made_people_file results/runs/pair-answers cifar10h.npz results/runs/answers

The first argument is the folder that pair_answers writes. cifar10h.npz: counts [N, 10], how many
people named each class of CIFAR-10's test pictures, in order (CIFAR-10H: Peterson, Battleday,
Griffiths and Russakovsky, ICCV 2019; CC BY-NC-SA 4.0).

people.csv.gz      network: logits of ResNet-20. person: the answer of one of the people, drawn at
                   random. A person costs 1, the network 0: costs are people asked.
networks.csv.gz    resnet20, resnet56, and twice: the mean of ResNet-56's probabilities on the
                   picture and on its mirror image. Costs are millions of multiply-adds
                   (convolutions and the linear layer at 32 px).
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from scipy.special import softmax

import experiment
from results import fitted_pair
from results.fitted_pair import Answers
from results.people_server import person, read_counts

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MULTIPLY_ADDS = {"resnet20": 40.6, "resnet56": 125.5, "twice": 251.0}  # millions
DIGITS = 2  # of logits; no accuracy of these files depends on more


def lines(columns: dict[str, np.ndarray]) -> bytes:
    """A compressed CSV of these columns; the same bytes each time."""
    rows = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    return gzip.compress(("\n".join(rows) + "\n").encode(), 9, mtime=0)


def scores(name: str, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Columns NAME_CLASS."""
    written = np.char.mod(f"%.{DIGITS}f", logits)
    return {f"{name}_{word}": written[:, k] for k, word in enumerate(CLASSES)}


def constant(value: float, rows: int) -> np.ndarray:
    return np.full(rows, f"{value:g}")


def people(clean: Answers, counts: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The columns of people.csv."""
    words, n = np.array(CLASSES), len(counts)
    columns = {"label": words[clean.labels]} | scores("network", clean.local)
    columns |= {"answer_person": words[person(counts, seed)]}
    return columns | {"cost_network": constant(0, n), "cost_person": constant(1, n)}


def networks(clean: Answers, mirrored: Answers) -> dict[str, np.ndarray]:
    """The columns of networks.csv."""
    mean = np.mean([softmax(answers.remote, 1) for answers in (clean, mirrored)], axis=0)
    columns = {"label": np.array(CLASSES)[clean.labels]}
    columns |= scores("resnet20", clean.local) | scores("resnet56", clean.remote)
    columns |= {"answer_twice": np.array(CLASSES)[mean.argmax(1)]}
    costs = {f"cost_{name}": constant(c, len(mean)) for name, c in MULTIPLY_ADDS.items()}
    return columns | costs


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("answers", metavar="DIR", type=Path, help="by results.pair_answers")
    parser.add_argument("people", metavar="PEOPLE_NPZ", type=Path, help="counts of answers")
    parser.add_argument("out", metavar="DIR", type=Path, help="where the two files go")
    parser.add_argument(
        "--seed", type=experiment.number(int, 0), default=0, help="seed of the person drawn"
    )
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        clean = fitted_pair.read(args.answers / "clean.npz")
        mirrored = fitted_pair.read(args.answers / "mirrored.npz")
        counts = read_counts(args.people, len(clean.labels))
        files = {"people": people(clean, counts, args.seed), "networks": networks(clean, mirrored)}
        for name, columns in files.items():
            experiment.write_bytes(args.out / f"{name}.csv.gz", lines(columns))


if __name__ == "__main__":
    main()
