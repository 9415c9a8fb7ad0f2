"""The input files of two worked examples: a classifier and people, and three networks.

    python -m results.made_people_file nets.npz cifar10h.npz results/runs/answers

nets.npz: labels [N], and the logits [N, 10] resnet20, resnet56 and resnet56_mirrored (of the
mirrored picture) of CIFAR-10's test pictures, by the networks of
https://github.com/akamaster/pytorch_resnet_cifar10. cifar10h.npz: counts [N, 10], how many people
named each class, in the same order (CIFAR-10H: Peterson, Battleday, Griffiths and Russakovsky,
ICCV 2019; CC BY-NC-SA 4.0).

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

import experiment
from deferral.npz_checks import read_npz

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MULTIPLY_ADDS = {"resnet20": 40.6, "resnet56": 125.5, "twice": 251.0}  # millions
DIGITS = 2  # of logits; no accuracy of these files depends on more


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of [N, K]."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


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


def people(nets: dict[str, np.ndarray], counts: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The columns of people.csv."""
    words, n = np.array(CLASSES), len(counts)
    place = np.random.default_rng(seed).random(n) * counts.sum(1)
    person = (place[:, None] >= counts.cumsum(1)).sum(1)
    columns = {"label": words[nets["labels"]]} | scores("network", nets["resnet20"])
    columns |= {"answer_person": words[person]}
    return columns | {"cost_network": constant(0, n), "cost_person": constant(1, n)}


def networks(nets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of networks.csv."""
    parts = [probabilities(nets[name]) for name in ("resnet56", "resnet56_mirrored")]
    mean = np.mean(parts, axis=0)
    columns = {"label": np.array(CLASSES)[nets["labels"]]}
    columns |= scores("resnet20", nets["resnet20"]) | scores("resnet56", nets["resnet56"])
    columns |= {"answer_twice": np.array(CLASSES)[mean.argmax(1)]}
    costs = {f"cost_{name}": constant(c, len(mean)) for name, c in MULTIPLY_ADDS.items()}
    return columns | costs


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("nets", metavar="NETS_NPZ", type=Path, help="labels and logits")
    parser.add_argument("people", metavar="PEOPLE_NPZ", type=Path, help="counts of answers")
    parser.add_argument("out", metavar="DIR", type=Path, help="where the two files go")
    parser.add_argument(
        "--seed", type=experiment.number(int, 0), default=0, help="seed of the person drawn"
    )
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        nets, counts = read_npz(args.nets), read_npz(args.people)["counts"].astype(np.int64)
        files = {"people": people(nets, counts, args.seed), "networks": networks(nets)}
        for name, columns in files.items():
            experiment.write_bytes(args.out / f"{name}.csv.gz", lines(columns))


if __name__ == "__main__":
    main()
