"""What a run of active learning left behind, study by study.

A study is a data set and a number of targets T, from SAVE_DIR[/seed-N]/extracted_results. Its
methods, seeds and rounds have one test set, the same targets, costs and numbers of labels; that is
checked, for all that is said about a study is paired. A round without performances.json is still
under way and is passed over.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import experiment
from active_learning import released_results
from active_learning.released_results import Tree
from active_learning.round_results import MEASURES, Round, read_round
from figures import style
from figures.command import NotDrawn

REFERENCE = "random"


@dataclass(frozen=True, eq=False)
class Study:
    """All rounds of a data set and a number of targets: methods[method][seed][round]."""

    dataset: str
    model_num: int
    methods: dict[str, dict[int, dict[int, Round]]]

    @property
    def name(self) -> str:
        """That of its files: "kmnist-12"."""
        return f"{self.dataset}-{self.model_num}"

    @property
    def first(self) -> Round:
        return self._all()[0]

    @property
    def labelled(self) -> dict[int, int]:
        """How many labels every round has."""
        return {found.round: found.labelled for found in self._all()}

    @property
    def measures(self) -> list[str]:
        """MEASURES, without unseen where there is no unseen net."""
        return [m for m in MEASURES if m != "unseen" or self.first.unseen]

    @property
    def title(self) -> str:
        """ "kmnist, 12 targets, 10000 test samples"."""
        return f"{self.dataset}, {self.model_num} targets, {len(self.first.labels)} test samples"

    @property
    def made_by(self) -> str:
        """ " Run at commit 0123456789, NVIDIA H200."; all of them where they differ."""
        rounds = self._all()
        commits = dict.fromkeys(
            f"commit {r.commit[:10]}{r.commit[40:]}" for r in rounds if r.commit
        )
        machines = dict.fromkeys(r.hardware for r in rounds if r.hardware)
        return f" Run at {', '.join([*commits, *machines])}." if commits or machines else ""

    def rounds(self, methods: Iterable[str], seeds: Iterable[int] | None = None) -> list[int]:
        """Those that all these methods have, in all of `seeds` or, if none are given, of theirs."""
        seeds = None if seeds is None else list(seeds)
        have = [
            set(found)
            for method in methods
            for seed, found in self.methods[method].items()
            if seeds is None or seed in seeds
        ]
        return sorted(set.intersection(*have)) if have else []

    def seeds_with_reference(self, method: str) -> list[int]:
        """The seeds that both the method and random have, which a paired comparison is over."""
        return sorted(self.methods[method].keys() & self.methods.get(REFERENCE, {}).keys())

    def values(self, method: str, measure: str, seeds: list[int], rounds: list[int]) -> np.ndarray:
        """A measure by seed and round, [S, R]."""
        found = self.methods[method]
        return np.array([[found[s][r].value(measure) for r in rounds] for s in seeds])

    def left_out(self) -> list[str]:
        """A line for every round that not all methods have in all their seeds: who lacks it."""
        common = self.rounds(self.methods)
        lines = []
        for round_ in sorted(self.labelled.keys() - set(common)):
            lacking = [
                f"{method} (seed {seed})"
                for method, seeds in self.methods.items()
                for seed, found in seeds.items()
                if round_ not in found
            ]
            lines.append(f"{self.name}: round {round_} is left out: {', '.join(lacking)} lack it")
        return lines

    def _all(self) -> list[Round]:
        seeds = [seed for method in self.methods.values() for seed in method.values()]
        return [found for seed in seeds for found in seed.values()]


def load(save_dir: str | Path) -> list[Study]:
    """Every study of a run directory, by data set, then number of targets.

    Methods come in the order of figures, seeds and rounds rising. ValueError, one line: nothing is
    there; a file that is broken, or contradicts another or its place; a seed twice; rounds of one
    study that differ in test set, targets, costs or numbers of labels.
    """
    save_dir = Path(save_dir)
    pattern = "extracted_results/*/*/*/*/performances.json"
    paths = sorted(save_dir.glob(pattern)) + sorted(save_dir.glob(f"seed-*/{pattern}"))
    if not paths:
        raise ValueError(
            f"no extracted_results in {save_dir} or its seed-*; python -m "
            "active_learning.test_multi_models writes them"
        )
    found = defaultdict(list)
    for path in paths:
        one = read_round(path)
        found[one.dataset, one.model_num].append(one)
    return [_study(*key, rounds) for key, rounds in sorted(found.items())]


def published(dataset: str, model_num: int) -> list[dict[str, Any]]:
    """Rows of published.csv for a data set and T: method, round, labelled, top1 in percent.

    Tang and Huang (2022): means over the targets, one seed, 3,000 labels and 1,500 more a round.
    `round` is a number, or None for the mean over rounds 0 to 10.
    """
    with open(Path(__file__).with_name("published.csv"), newline="") as file:
        rows = [
            r
            for r in csv.DictReader(file)
            if (r["dataset"], r["model_num"]) == (dataset, str(model_num))
        ]
    return [
        {
            "method": row["method"],
            "round": None if row["round"] == "0-10" else int(row["round"]),
            "labelled": int(row["labelled"] or 0),
            "top1": float(row["top1"]),
        }
        for row in rows
    ]


def comparable(study: Study, rounds: Iterable[int]) -> list[dict[str, Any]]:
    """Rows of `published` that these rounds of the study may be held against.

    None unless the study has the paper's labels in every round, 3,000 and 1,500 more each time, and
    its targets, the first T of the twelve. Of single rounds those among `rounds`; the mean over
    rounds where these are the paper's, 0 to 10.
    """
    rounds = list(rounds)
    rows = published(study.dataset, study.model_num)
    if not rows or any(labels != 3000 + 1500 * r for r, labels in study.labelled.items()):
        return []
    from active_learning.target_models import TARGETS  # here: it takes as long as torch's import

    if list(study.first.targets) != [target.name for target in TARGETS[: study.model_num]]:
        return []
    whole = rounds == list(range(11))
    return [r for r in rows if (whole if r["round"] is None else r["round"] in rounds)]


def command(
    doc: str,
    *draws: Callable[[Study, Path], list[Path]],
    released: Callable[[Tree, Path], list[Path]],
) -> Callable[[list[str] | None], None]:
    """The `main` of plot and table: each of `draws` writes files of a study into a folder.

    Where there are the accuracies alone, as the release has them, `released` writes files of these.
    Bad input ends in one line and status 2 before anything is written. What a study has nothing
    for (NotDrawn) and the rounds left out are said on stderr.
    """

    @experiment.script
    def main(argv: list[str] | None = None) -> None:
        parser = experiment.Parser(doc)
        parser.add_argument(
            "save_dir", metavar="SAVE_DIR", type=Path, help="holds extracted_results or seed-*"
        )
        parser.add_argument("--out", type=Path, help="where files go (default: SAVE_DIR/figures)")
        args = parser.parse_args(argv)
        out = args.out or args.save_dir / "figures"
        with experiment.one_line_errors():
            trees = released_results.load(args.save_dir)
            studies = [] if trees else load(args.save_dir)
        for one in [*trees, *studies]:
            for line in one.left_out():
                print(line, file=sys.stderr)
            for draw in (released,) if trees else draws:
                try:
                    for path in draw(one, out):
                        print(path)
                except NotDrawn as reason:
                    print(f"{one.name}: not drawn: {reason}", file=sys.stderr)

    return main


def _study(dataset: str, model_num: int, rounds: list[Round]) -> Study:
    """Rounds by method, seed and number; ValueError where they cannot be compared."""
    first = rounds[0]
    labelled: dict[int, Round] = {}
    for one in rounds:
        same = {
            "test set": all(
                np.array_equal(getattr(one, k), getattr(first, k)) for k in ("labels", "index")
            ),
            "list of targets": (one.targets, one.unseen) == (first.targets, first.unseen),
            "cascade": all(
                one.cascade[k] == first.cascade[k] for k in ("local", "edge", "cost_1", "cost_e")
            ),
        }
        for what, equal in same.items():
            if not equal:
                raise ValueError(f"{one.source}: has another {what} than {first.source}")
        other = labelled.setdefault(one.round, one)
        if one.labelled != other.labelled:
            raise ValueError(
                f"{one.source}: has {one.labelled} labels, but {other.source} {other.labelled}"
            )
    order = list(style.QUERIES)
    by_method: dict[str, dict[int, dict[int, Round]]] = {}
    for one in sorted(
        rounds,
        key=lambda r: (
            order.index(r.method) if r.method in order else len(order),
            r.method,
            r.seed,
            r.round,
        ),
    ):
        of_seed = by_method.setdefault(one.method, {}).setdefault(one.seed, {})
        if (other := of_seed.setdefault(one.round, one)) is not one:
            raise ValueError(f"{other.source} and {one.source}: both of seed {one.seed}")
    return Study(dataset, model_num, by_method)
