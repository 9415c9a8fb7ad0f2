"""The tables of a study of active learning, for each data set and number of targets.

    python -m active_learning.table results/runs/active

NAME-methods, a row a method: test top-1 of the targets over the rounds, of the worst target and of
unseen nets, the cascade's risk, and the seconds of a round. NAME-differences: each of these minus
random's of the same seeds, with an interval over seeds and test samples and a paired test over
seeds. Both are printed, and written as .md, .tex and .csv; NAME-methods.json has every number
unrounded, and a folder with that file alone gives the same tables again. Rounds that some method
lacks in some seed are left out for all methods and named on stderr.

If extracted_results has performances.txt alone, as the paper's release does, it writes the paper's
table, NAME-targets for each data set: methods by T, the mean over rounds of the targets' mean top-1
± that of the standard deviation over the targets, the best of each T in bold; .json has every
number.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import experiment
from active_learning.comparison import summarise
from active_learning.released_results import Tree
from active_learning.results import Study, command
from figures.command import NotDrawn
from figures.tables import Column, Row, fixed, print_table, spread, write_table

ALPHA = 0.05
WORDS = {"top1": "mean top-1", "worst": "worst target", "unseen": "unseen", "risk": "cascade risk"}
UNITS = {"top1": 100, "worst": 100, "unseen": 100, "risk": 1}  # points, points, points, risk


def p_value(p: float) -> str:
    """Three digits; a dash if there is no test."""
    return "< 0.001" if p < 0.001 else fixed(3)(p)


METHODS = [
    Column("method", "method"),
    Column("n", "n"),
    Column("top1", "mean", group="top-1 %"),
    Column("last", "last round", group="top-1 %"),
    Column("worst", "worst", group="top-1 %"),
    Column("unseen", "unseen", group="top-1 %"),
    Column("risk", "risk"),
    Column("difference", "points", group="minus random"),
    Column("verdict", "verdict", group="minus random"),
    Column("p_holm", "p (Holm)", p_value, group="minus random"),
    Column("train_seconds", "to train", fixed(1), group="seconds"),
    Column("select_seconds", "to select", fixed(2), group="seconds"),
    Column("published", "paper", fixed(2)),
]
DIFFERENCES = [
    Column("measure", "measure"),
    Column("method", "method"),
    Column("n", "n"),
    Column("difference", "minus random"),
    Column("t_interval", "95 % over seeds"),
    Column("verdict", "verdict"),
    Column("p", "p", p_value, tex="$p$"),
    Column("p_holm", "p (Holm)", p_value, tex="$p$ (Holm)"),
]


def draw(study: Study, out: Path) -> list[Path]:
    """Writes the two tables and the JSON of a study; NotDrawn if its runs have no common round."""
    result = summarise(study)
    about = f"{study.title}, {round_range(result['rounds'])}, {labels(study, result['rounds'])}"
    origin = f" {study.made_by}".rstrip()
    numbers = result["methods"].values()
    absent = set() if study.unseen else {"unseen"}
    if all(math.isnan(method["published"]) for method in numbers):
        absent.add("published")
    columns = [column for column in METHODS if column.key not in absent]
    caption = (
        f"{about}. Test top-1 of the targets: mean over rounds, last round, worst target of each "
        "round; risk of the cascade; mean ± standard deviation over n seeds. Minus random with the "
        "same seeds, without round 0: difference of the mean in points [95 % bootstrap interval, "
        "seeds and test samples crossed], verdict of that interval, p of a paired t test over "
        "seeds, corrected by Holm; seconds of a round."
    )
    if "published" not in absent:
        caption += " Paper: Tang and Huang (2022), mean over rounds 0 to 10 of one seed."
    paths = _table(method_rows(result), columns, caption + origin, out, f"{study.name}-methods")
    rows = difference_rows(result)
    if rows:
        caption = (
            f"{about}, without round 0. Each method minus random with the same n seeds, mean over "
            "rounds; accuracies in points, risk in units of one local error. In brackets the 95 % "
            f"bootstrap interval ({result['draws']} draws, seeds and test samples crossed), which "
            "gives the verdict. It is too narrow with few seeds; with one seed it is over samples "
            "alone, and the worst target is that of the whole test set. Beside it Student's "
            "interval over seeds alone. p: paired t test over seeds, then Holm's correction over "
            f"the methods of a measure; bold where that is at most {ALPHA:g}.{origin}"
        )
        paths += _table(rows, DIFFERENCES, caption, out, f"{study.name}-differences")
    experiment.write_json(out / f"{study.name}-methods.json", _nulls(result))
    return [*paths, out / f"{study.name}-methods.json"]


def draw_released(tree: Tree, out: Path) -> list[Path]:
    """Writes the paper's table of a data set; NotDrawn if its runs have no common round."""
    if not tree.rounds:
        raise NotDrawn("there is no round that all methods have with every T")
    numbers = tree.summary()
    rows: list[Row] = [{"method": method} for method in tree.methods]
    best = {t: max(n["mean"] for n in methods.values()) for t, methods in numbers.items()}
    for row in rows:
        for t, methods in numbers.items():
            cell = methods.get(row["method"])
            row[t] = f"{cell['mean']:.2f} ± {cell['std']:.2f}" if cell else "–"
    columns = [Column("method", "method"), *(Column(t, t, group="T, targets") for t in numbers)]
    caption = (
        f"{tree.dataset}, {round_range(tree.rounds)}. Test top-1 in %: mean ± standard deviation "
        "over the T targets (divided by T), both averaged over the rounds; the best mean of each T "
        "is bold."
    )

    def bold(row: Row) -> list[str]:
        return [t for t in best if numbers[t].get(row["method"], {}).get("mean") == best[t]]

    paths = _table(rows, columns, caption, out, tree.name, bold)
    result = {"dataset": tree.dataset, "rounds": tree.rounds, "left_out": tree.left_out()}
    experiment.write_json(out / f"{tree.name}.json", result | {"targets": numbers})
    return [*paths, out / f"{tree.name}.json"]


def method_rows(result: dict[str, Any]) -> list[Row]:
    """Rows of METHODS; a dash where there is no number."""
    rows = []
    for method, numbers in result["methods"].items():
        versus = numbers["versus_random"].get("top1")
        rows.append(
            {
                "method": method,
                "n": str(len(numbers["seeds"])),
                **{m: spread(numbers[m], 2, 100) for m in ("top1", "last", "worst")},
                "unseen": spread(numbers.get("unseen", [math.nan]), 2, 100),
                "risk": spread(numbers["risk"], 4),
                "difference": _with_interval(versus, "top1", numbers["seeds"]) if versus else "–",
                "verdict": versus["verdict"] if versus else "–",
                "p_holm": versus["p_holm"] if versus else math.nan,
                **{k: numbers[k] for k in ("train_seconds", "select_seconds", "published")},
            }
        )
    return rows


def difference_rows(result: dict[str, Any]) -> list[Row]:
    """Rows of DIFFERENCES: measure by measure, all methods."""
    rows = []
    for measure, words in WORDS.items():
        for method, numbers in result["methods"].items():
            if not (versus := numbers["versus_random"].get(measure)):
                continue
            ends = [_signed(versus[k], measure) for k in ("t_low", "t_high")]
            rows.append(
                {
                    "measure": words,
                    "method": method,
                    "n": str(len(versus["seeds"])),
                    "difference": _with_interval(versus, measure, versus["seeds"]),
                    "t_interval": f"[{', '.join(ends)}]" if len(versus["seeds"]) > 1 else "–",
                    **{k: versus[k] for k in ("verdict", "p", "p_holm")},
                }
            )
    return rows


def round_range(rounds: list[int]) -> str:
    """ "rounds 0–10", or "rounds 0, 1, 4"; "round 0"."""
    if len(rounds) == 1:
        return f"round {rounds[0]}"
    if rounds == list(range(rounds[0], rounds[-1] + 1)):
        return f"rounds {rounds[0]}–{rounds[-1]}"
    return f"rounds {', '.join(map(str, rounds))}"


def labels(study: Study, rounds: list[int]) -> str:
    """ "3000 to 18000 labels"."""
    counts = list(dict.fromkeys(study.labelled[r] for r in (rounds[0], rounds[-1])))
    return f"{' to '.join(map(str, counts))} labels"


def _table(
    rows: list[Row],
    columns: list[Column],
    caption: str,
    out: Path,
    name: str,
    bold: Callable[[Row], list[str]] | None = None,
) -> list[Path]:
    print_table(rows, columns, caption)
    return write_table(rows, columns, out, name, caption, bold or _significant)


def _signed(value: float, measure: str) -> str:
    digits = 2 if UNITS[measure] == 100 else 4
    text = f"{round(value * UNITS[measure], digits) + 0.0:+.{digits}f}"
    return text.replace("-", "−")


def _with_interval(versus: dict[str, Any], measure: str, row: list[int]) -> str:
    """ "+0.52 [+0.31, +0.70]"; with n if these are not all the seeds of the row."""
    value, low, high = (_signed(versus[k], measure) for k in ("difference", "low", "high"))
    count = len(versus["seeds"])
    return f"{value} [{low}, {high}]" + (f" (n = {count})" if count != len(row) else "")


def _significant(row: Row) -> list[str]:
    """In bold: a difference whose corrected p is at most ALPHA."""
    return ["difference", "p_holm"] if row["p_holm"] <= ALPHA else []


def _nulls(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {key: _nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_nulls(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


main = command(__doc__, draw, released=draw_released)

if __name__ == "__main__":
    main()
