"""How much of what estimates can gain each rule has: a table and a figure over the paper's costs.

    python -m figures.ceiling results/runs/ceiling/cifar10

Takes every *-predictions.npz of eval_all.py in or below the folder; several of one data set are
runs of several seeds. Risks are means over c_1 in {1, 1.25} and c_e in {0, 0.025, ..., 0.5}. The
gain is the way from the confidence rule of least risk on val, 0, to the ceiling, 1: estimates that
also see the remote's scores, which no rule on the device has. Differences and gains have 95 %
paired bootstrap intervals over test samples and runs.

A student on the image alone is also a classifier: "as the local net" it answers in place of m, with
its multiply-adds instead of m's, and never asks or asks by the best threshold on its own answers.
The figure has the rules whose multiply-adds are known.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import ticker

import experiment
from deferral.bootstrap import interval
from deferral.catalogue import RULES
from deferral.compare import Comparison, compare
from deferral.predictions import Predictions
from deferral.risk import PAPER_COSTS
from figures import style
from figures.command import read
from figures.tables import Column, fixed, print_table, write_table

COLUMNS = [
    Column("rule", "rule"),
    Column("multiply_adds", "multiply-adds", lambda count: f"{count:,}" if count else ""),
    Column("risk", "risk", fixed(4)),
    Column("risk_std", "± std", fixed(4)),
    Column("sent", "sent %", fixed(1, 100)),
    Column("accuracy", "accuracy %", fixed(1, 100)),
    Column("gain", "gain %", fixed(0, 100)),
    Column("low", "low", fixed(0, 100), group="95 % interval"),
    Column("high", "high", fixed(0, 100), group="95 % interval"),
]
STUDENT = ": its student as the local net, "


def with_student(run: Predictions, student: int) -> Predictions:
    """The run with the answers of one of its students in place of the local net's."""
    if run.student_logits is None:
        raise ValueError(f"{run.source}: holds no students, as other runs of its data set do")
    return replace(
        run,
        stage_logits=np.stack([run.student_logits[student], run.stage_logits[-1]]),
        scores=run.scores[:0],
        estimates=None,
        settings=run.settings | {"rejectors": [], "estimators": []},
    )


def share(gain: np.ndarray, way: np.ndarray) -> np.ndarray:
    """gain / way; nan where the ceiling is no lower than the confidence rule."""
    return np.where(way > 0, gain / np.where(way > 0, way, 1), np.nan)


def table(runs: list[Predictions], comparison: Comparison) -> list[dict[str, Any]]:
    """Rows of COLUMNS, with the `difference` in risk to the `reference`; lowest risk last.

    comparison: of all rules of these runs at PAPER_COSTS; students have as many bootstrap draws.

    The reference is the rule of gain 0; the interval is difference_low to difference_high. Rules
    that do not exist at all of PAPER_COSTS are left out.
    ValueError where the runs have other students, and as `compare`.
    """
    settings = runs[0].settings
    names = [run.settings.get("students", []) for run in runs]
    if any(other != names[0] for other in names):
        raise ValueError(
            f"{runs[0].source}: other runs of {settings['dataset']} have other students"
        )
    adds = {e["name"]: e.get("multiply_adds") for e in settings.get("estimators") or []}
    place = {rule.name: r for r, rule in enumerate(comparison.rules)}
    zero, one = place[comparison.best_confidence], place["ceiling"]
    from_zero = comparison.risk[zero, -1], comparison.draws[:, zero, -1]
    way = from_zero[0] - comparison.risk[one, -1], from_zero[1] - comparison.draws[:, one, -1]

    def row(of: Comparison, r: int, name: str, before: str = "") -> dict[str, Any]:
        less = from_zero[1] - of.draws[:, r, -1]
        low, high = interval(share(less, way[1]), comparison.level)
        least, most = interval(-less, comparison.level)
        return {
            "rule": before + of.rules[r].label,
            "reference": comparison.rules[zero].label,
            "multiply_adds": adds.get(name),
            "difference": of.risk[r, -1] - from_zero[0],
            "difference_low": least,
            "difference_high": most,
            "risk": of.risk[r, -1],
            "risk_std": of.risk_std[r, -1],
            "sent": of.reject_rate[r, -1],
            "accuracy": of.accuracy[r, -1],
            "gain": float(share(from_zero[0] - of.risk[r, -1], way[0])),
            "low": low,
            "high": high,
        }

    rows = [row(comparison, r, name) for name, r in place.items()]
    for k, name in enumerate(names[0]):
        # The same test rows and seed, so the same draws: gains stay paired.
        students = [with_student(run, k) for run in runs]
        alone = compare(students, PAPER_COSTS, len(comparison.draws))
        for r, rule in enumerate(alone.rules):
            if rule.name in ("never", alone.best_confidence):
                rows.append(row(alone, r, name, f"{name}{STUDENT}"))
    whole = [row for row in rows if not np.isnan(row["risk"])]
    return sorted(whole, key=lambda row: -row["risk"])


def draw(rows: list[dict[str, Any]], out: Path, name: str, title: str) -> list[Path]:
    """name-ceiling.pdf and .png from rows of `table`; none if no rule has multiply-adds."""
    priced = [row for row in rows if row["multiply_adds"]]
    if not priced:
        return []
    by_rule = {row["rule"]: row for row in rows}
    best = next(name for name, rule in RULES.items() if rule.label == rows[0]["reference"])
    zero = by_rule[rows[0]["reference"]]["risk"]
    way = zero - by_rule[RULES["ceiling"].label]["risk"]
    fig, (ax,) = style.panels(1, 1, 3.4)
    for rule in (best, "ceiling", "oracle"):
        ax.axhline(by_rule[RULES[rule].label]["risk"], **style.rule(rule, marker=""))
    kinds = {
        "rejector beside the local net": ("o", "#0072B2", lambda rule: STUDENT not in rule),
        "its student as the local net, never asks": ("v", "#D55E00", lambda r: r.endswith("never")),
        "the same, asks by a threshold": ("D", "#AA3377", lambda r: not r.endswith("never")),
    }
    for label, (marker, color, of_kind) in kinds.items():
        found = [row for row in priced if of_kind(row["rule"])]
        priced = [row for row in priced if row not in found]
        risk = np.array([row["risk"] for row in found])
        ends = zero - way * np.array([[row["high"], row["low"]] for row in found]).reshape(-1, 2).T
        adds = np.array([row["multiply_adds"] / 1e6 for row in found])
        look: dict[str, Any] = {
            "fmt": marker,
            "color": color,
            "label": label,
            "markersize": 6,
            "capsize": 2,
        }
        ax.errorbar(adds, risk, np.maximum([risk - ends[0], ends[1] - risk], 0), **look)
        for row, x in zip(found, adds, strict=True):
            if STUDENT not in row["rule"]:
                ax.annotate(
                    row["rule"], (x, row["risk"]), xytext=(7, 3), textcoords="offset points"
                )
    ax.set_xlim(left=0, right=1.3 * ax.get_xlim()[1])
    ax.set_xlabel("multiply-adds of the rejector, or of its student as the local net, in millions")
    ax.set_ylabel("mean risk on test data")
    if way > 0:
        right = ax.secondary_yaxis(
            "right", functions=(lambda y: 100 * (zero - y) / way, lambda y: zero - way * y / 100)
        )
        right.set_ylabel("of the way to the ceiling, %")
        right.yaxis.set_major_locator(ticker.MaxNLocator(6))
    style.finish(fig, title, 2)
    return style.save(fig, out, f"{name}-ceiling")


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="holds *-predictions.npz")
    parser.add_argument(
        "--draws", type=experiment.number(int, 1), default=1000, help="bootstrap draws"
    )
    parser.add_argument("--out", type=Path, help="where they go (default: RUN_DIR/figures)")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        by_data = defaultdict(list)
        for predictions in read(args.run_dir).values():
            by_data[predictions.settings["dataset"]].append(predictions)
        tables = {
            name: table(runs, compare(runs, PAPER_COSTS, args.draws))
            for name, runs in by_data.items()
        }
    for name, rows in tables.items():
        runs = by_data[name]
        nets = " and ".join(str(runs[0].settings[k]) for k in ("local", "edge"))
        title = f"{name}: {nets}, {style.tested(runs[0])}, {len(runs)} runs"
        caption = (
            f"{title}. Mean over {len(PAPER_COSTS)} costs; fitted on val. Gain: 0 is the best "
            f"confidence rule on val, 100 the ceiling. Evaluated at {style.made_by(runs[0])}."
        )
        print_table(rows, COLUMNS, caption)
        out = args.out or args.run_dir / "figures"
        for path in [
            *write_table(rows, COLUMNS, out, f"{name}-ceiling", caption),
            *draw(rows, out, name, f"{title}, {len(PAPER_COSTS)} costs"),
        ]:
            print(path)


if __name__ == "__main__":
    main()
