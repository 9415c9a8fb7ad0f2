"""What a run of active learning has written, one `Study` for each data set and number of targets T.

A study is read from SAVE_DIR[/seed-N]/extracted_results or, where a folder has none, from the
NAME-methods.json that `active_learning.table` wrote. All runs of a study must have the same test
set, targets, costs and numbers of labels, because every comparison in it is paired. A round without
performances.json is unfinished and is skipped.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

import experiment
from active_learning import released_results
from active_learning.released_results import Tree, common_rounds, missing_rounds, order_of_method
from active_learning.round_results import MEASURES, Round, read_round
from figures.command import NotDrawn

REFERENCE = "random"


@dataclass(frozen=True, eq=False)
class Study:
    """All rounds of a data set and a number of targets."""

    dataset: str
    model_num: int
    targets: list[str]
    unseen: list[str]
    test_samples: int
    cascade: dict[str, float]  # local, edge, cost_1, cost_e
    made_by: str  # "Run at commit 0123456789, NVIDIA H200.", or empty
    # method -> seed -> round -> the numbers of a round (`Round.record`)
    records: dict[str, dict[int, dict[int, dict[str, Any]]]]
    # (method, seed, round) -> answers to every test sample; empty in a study read from a summary
    answers: dict[tuple[str, int, int], Round] = field(default_factory=dict)
    summary: dict[str, Any] | None = None  # NAME-methods.json, if the study was read from it

    @property
    def name(self) -> str:
        """Stem of its file names: "kmnist-12"."""
        return f"{self.dataset}-{self.model_num}"

    @property
    def title(self) -> str:
        """ "kmnist, 12 targets, 10000 test samples"."""
        return f"{self.dataset}, {self.model_num} targets, {self.test_samples} test samples"

    @property
    def measures(self) -> list[str]:
        """MEASURES, without unseen if there are no unseen nets."""
        return [m for m in MEASURES if m != "unseen" or self.unseen]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a round: method, seed, round, labelled, MEASURES, spread (best target minus worst),
        train_seconds and select_seconds. Accuracies are 0..1.
        """
        rows = []
        for method, seeds in self.records.items():
            for seed, rounds in seeds.items():
                for round_, record in rounds.items():
                    top1 = np.array(record["top1"])
                    unseen = record["unseen_top1"]
                    row = {"method": method, "seed": seed, "round": round_}
                    row |= {"top1": top1.mean(), "worst": top1.min(), "spread": np.ptp(top1)}
                    row["unseen"] = np.mean(unseen) if unseen else math.nan
                    copied = ("labelled", "risk", "train_seconds", "select_seconds")
                    rows.append(row | {key: record[key] for key in copied})
        return pd.DataFrame(rows)

    @property
    def labelled(self) -> dict[int, int]:
        """Number of labels by round."""
        return self.table.groupby("round").labelled.first().to_dict()

    def rounds(self, methods: Iterable[str], seeds: Iterable[int] | None = None) -> list[int]:
        """The rounds that all these methods have in all of `seeds` (default: all their seeds)."""
        rows = self.table[self.table.method.isin(list(methods))]
        return common_rounds(rows if seeds is None else rows[rows.seed.isin(list(seeds))], "seed")

    def seeds_with_reference(self, method: str, reference: str = REFERENCE) -> list[int]:
        """The seeds that both methods have: those of a paired comparison."""
        return sorted(self.records[method].keys() & self.records.get(reference, {}).keys())

    def values(
        self, method: str, measure: str, seeds: Sequence[int], rounds: Sequence[int]
    ) -> np.ndarray:
        """A column of `table` by seed and round, [S, R]."""
        rows = self.table[self.table.method == method]
        grid = rows.pivot(index="seed", columns="round", values=measure)
        return grid.loc[list(seeds), list(rounds)].to_numpy()

    def left_out(self) -> list[str]:
        """A line for each round that some run lacks, naming the runs that lack it."""
        return [
            f"{self.name}: {line}"
            for line in missing_rounds(self.table, "seed", "{method} (seed {run})")
        ]


def load(save_dir: str | Path) -> list[Study]:
    """Every study of a run directory, sorted by data set and number of targets.

    Methods are in the order of figures, seeds and rounds ascending. ValueError, one line: there are
    no results; a file is broken or contradicts another file or its folder's name; two runs have the
    same seed; rounds of one study differ in test set, targets, costs or numbers of labels.
    """
    save_dir = Path(save_dir)
    pattern = "extracted_results/*/*/*/*/performances.json"
    paths = sorted(save_dir.glob(pattern)) + sorted(save_dir.glob(f"seed-*/{pattern}"))
    summaries = sorted(save_dir.glob("*-methods.json"))
    if not paths and summaries:
        return [read_summary(path) for path in summaries]
    if not paths:
        raise ValueError(
            f"no extracted_results in {save_dir} or its seed-*; python -m "
            "active_learning.test_multi_models writes them"
        )
    by_study: dict[tuple[str, int], list[Round]] = defaultdict(list)
    for path in paths:
        round_ = read_round(path)
        by_study[round_.dataset, round_.model_num].append(round_)
    return [_study(rounds) for _, rounds in sorted(by_study.items())]


def read_summary(path: Path) -> Study:
    """The study that a NAME-methods.json summarises; ValueError if it is not such a file."""
    try:
        summary = _without_nulls(json.loads(path.read_text(encoding="utf-8")))
        records = {
            method: {
                int(seed): {int(r): record for r, record in rounds.items()}
                for seed, rounds in numbers["runs"].items()
            }
            for method, numbers in summary["methods"].items()
        }
        study = Study(
            summary["dataset"],
            summary["model_num"],
            summary["targets"],
            summary["unseen_nets"],
            summary["test_samples"],
            summary["cascade"],
            summary["made_by"],
            records,
            summary=summary,
        )
        _ = study.table
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError(f"{path}: not written by active_learning.table") from None
    return study


def comparable(study: Study, rounds: Iterable[int]) -> pd.DataFrame:
    """The published accuracies that these rounds of the study may be compared with.

    Rows of published.csv (Tang and Huang, 2022: means over the targets, one seed, top1 in percent):
    method, round, labelled, top1; `round` is NaN for the mean over rounds 0 to 10. Empty unless the
    study has the paper's numbers of labels, 3,000 and 1,500 more a round, and its targets, the
    first T of the twelve. Single rounds are those among `rounds`; the mean over rounds is included
    if these are the paper's, 0 to 10.
    """
    rounds = list(rounds)
    rows = pd.read_csv(Path(__file__).with_name("published.csv"))
    rows = rows[(rows.dataset == study.dataset) & (rows.model_num == study.model_num)]
    rows = rows.assign(round=pd.to_numeric(rows["round"], errors="coerce"))
    if rows.empty or any(labels != 3000 + 1500 * r for r, labels in study.labelled.items()):
        return rows.iloc[:0]
    from active_learning.target_models import TARGETS  # here: it takes as long as torch's import

    if study.targets != [target.name for target in TARGETS[: study.model_num]]:
        return rows.iloc[:0]
    is_mean = rows["round"].isna() & (rounds == list(range(11)))
    return rows[rows["round"].isin(rounds) | is_mean]


class Results(Protocol):
    """What figures and tables are made of: a Study or a Tree."""

    @property
    def name(self) -> str: ...

    def left_out(self) -> list[str]: ...


R = TypeVar("R", bound=Results)


def command(
    doc: str | None,
    *draws: Callable[[Study, Path], list[Path]],
    released: Callable[[Tree, Path], list[Path]],
) -> Callable[..., None]:
    """The `main` of plot and table: each of `draws` writes files of a study into a folder.

    `released` does so for results that have accuracies only, as the paper's release publishes them.
    Bad input ends in one line and status 2 before anything is written. Files that a study has no
    data for (NotDrawn) and rounds that are left out are reported on stderr.
    """

    @experiment.script
    def main(argv: list[str] | None = None) -> None:
        parser = experiment.Parser(doc)
        parser.add_argument(
            "save_dir",
            metavar="SAVE_DIR",
            type=Path,
            help="has extracted_results, seed-* or *-methods.json",
        )
        parser.add_argument("--out", type=Path, help="output folder (default: SAVE_DIR/figures)")
        args = parser.parse_args(argv)
        out = args.out or args.save_dir / "figures"
        with experiment.one_line_errors():
            trees = released_results.load(args.save_dir)
            studies = [] if trees else load(args.save_dir)
        for tree in trees:
            _write(tree, [released], out)
        for study in studies:
            _write(study, draws, out)

    return main


def _write(results: R, draws: Iterable[Callable[[R, Path], list[Path]]], out: Path) -> None:
    for line in results.left_out():
        print(line, file=sys.stderr)
    for draw in draws:
        try:
            for path in draw(results, out):
                print(path)
        except NotDrawn as reason:
            print(f"{results.name}: not drawn: {reason}", file=sys.stderr)


def _study(rounds: list[Round]) -> Study:
    """ValueError where the rounds cannot be compared."""
    first = rounds[0]
    by_number: dict[int, Round] = {}
    answers: dict[tuple[str, int, int], Round] = {}
    records: dict[str, dict[int, dict[int, dict[str, Any]]]] = {}
    for one in sorted(rounds, key=lambda r: (*order_of_method(r.method), r.seed, r.round)):
        for what, equal in (
            (
                "test set",
                all(
                    np.array_equal(getattr(one, k), getattr(first, k)) for k in ("labels", "index")
                ),
            ),
            ("list of targets", (one.targets, one.unseen) == (first.targets, first.unseen)),
            ("cascade", one.ends_and_costs == first.ends_and_costs),
        ):
            if not equal:
                raise ValueError(f"{one.source}: has another {what} than {first.source}")
        other = by_number.setdefault(one.round, one)
        if one.labelled != other.labelled:
            raise ValueError(
                f"{one.source}: has {one.labelled} labels, but {other.source} {other.labelled}"
            )
        other = answers.setdefault((one.method, one.seed, one.round), one)
        if other is not one:
            raise ValueError(f"{other.source} and {one.source}: both of seed {one.seed}")
        records.setdefault(one.method, {}).setdefault(one.seed, {})[one.round] = one.record()
    commits = [f"commit {r.commit[:10]}{r.commit[40:]}" for r in answers.values() if r.commit]
    machines = [r.hardware for r in answers.values() if r.hardware]
    origin = ", ".join(dict.fromkeys(commits + machines))
    return Study(
        first.dataset,
        first.model_num,
        list(first.targets),
        list(first.unseen),
        len(first.labels),
        first.ends_and_costs,
        f"Run at {origin}." if origin else "",
        records,
        answers,
    )


def _without_nulls(value: Any) -> Any:
    """JSON's null stands for NaN."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return math.nan if value is None else value
