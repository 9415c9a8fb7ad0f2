"""ResNet-20 as the local net and people as the server: who should ask whom.

    python -m results.people_server results/runs/pair-answers/clean.npz cifar10h.npz people.json

cifar10h.npz: counts [N, 10], how many people named each class of CIFAR-10's test pictures, in the
order of the first file, by results.pair_answers (CIFAR-10H: Peterson, Battleday, Griffiths and
Russakovsky, ICCV 2019; CC BY-NC-SA 4.0, so the answers are not kept here).

`person`: the answer of one of the people, drawn at random for each picture. `majority`: what most
of them said. Everything is fitted on one half of the pictures and measured on the other; a seed
draws the person, and which pictures of the first half train the rejectors' student. Learning to
defer (Mozannar and Sontag, ICML 2020; Verma and Nalisnick, ICML 2022) trains classifier and
rejector jointly; here the classifier is fixed, and its losses fit the deferral score alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import experiment
from deferral.npz_checks import read_npz
from results import fitted_pair
from results.fitted_pair import Answers


def read_counts(path: Path, pictures: int) -> np.ndarray:
    """counts [N, K] int64; ValueError where they are not of `pictures`, or one has no answer."""
    counts = read_npz(path, ["counts"]).get("counts")
    if counts is None or counts.ndim != 2 or len(counts) != pictures:
        raise ValueError(f"{path}: needs counts of {pictures} pictures, [N, K]")
    if counts.dtype.kind not in "iu" or counts.min() < 0 or not counts.sum(1).all():
        raise ValueError(f"{path}: counts must be whole numbers >= 0, some for every picture")
    return counts.astype(np.int64)


def person(counts: np.ndarray, seed: int) -> np.ndarray:
    """The answer of one of the people for each picture, [N]."""
    place = np.random.default_rng(seed).random(len(counts)) * counts.sum(1)
    return (place[:, None] >= counts.cumsum(1)).sum(1)


def study(clean: Answers, counts: np.ndarray, seeds: list[int]) -> dict[str, dict]:
    """`fitted_pair.summary` by server."""
    servers = {
        "person": [person(counts, seed) for seed in seeds],
        "majority": [counts.argmax(1) for _ in seeds],
    }
    found = {}
    for name, answers in servers.items():
        runs = []
        for seed, answer in zip(seeds, answers, strict=True):
            remote = fitted_pair.logits_of(answer, counts.shape[1])
            fitting, test = fitted_pair.halves(clean._replace(remote=remote))
            runs.append(fitted_pair.decided(fitted_pair.fit(fitting, seed), fitting, test))
        found[name] = fitted_pair.summary(runs)
        print(f"{name}: decided, {len(seeds)} runs", flush=True)
    return found


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("answers", metavar="CLEAN_NPZ", type=Path, help="by results.pair_answers")
    parser.add_argument("people", metavar="PEOPLE_NPZ", type=Path, help="counts of answers")
    parser.add_argument("out", metavar="OUT.json", type=Path, help="the file to write")
    fitted_pair.add_seeds(parser)
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        clean = fitted_pair.read(args.answers)
        counts = read_counts(args.people, len(clean.labels))
        fitted_pair.write_study(
            args.out, args.seeds, lambda: {"servers": study(clean, counts, args.seeds)}
        )


if __name__ == "__main__":
    main()
