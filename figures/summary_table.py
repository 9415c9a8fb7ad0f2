"""The tables of a run: what every rejector does, and how both nets do on what it kept and sent.

    python -m figures.summary_table results/runs/cifar10

Written as .md, .tex and .csv. The summary, which is printed too, has reject rate, accuracy and the
risk of every simple rule at every setting; thresholds are fitted on val, the rest is measured on
test. Bold is the lowest risk but for the oracle, which sees the labels.

The stage tables have the accuracy of the local net m, the edge net e and e - m on the data kept
(LOCAL) and sent (REMOTE): a row per (c_1, c_e), and, where one cost pair was trained at more than
one S, another table with a row per S. A rejector that helps keeps what m can do and sends what only
e can.
"""

from pathlib import Path
from typing import Any

from deferral.catalogue import SUMMARY
from deferral.predictions import Predictions
from deferral.summary import setting_name, summarise
from figures import settings, style
from figures.command import NotDrawn, command
from figures.tables import Column, fixed, plain, print_table, write_table

COSTS = [Column("cost_1", "c_1", plain, "$c_1$"), Column("cost_e", "c_e", plain, "$c_e$")]
REFRESH = Column("refresh", "S", tex="$S$")
SURROGATE = Column("surrogate", "surrogate")
COLUMNS = [
    *COSTS,
    REFRESH,
    Column("reject_rate", "reject %", fixed(1, 100)),
    Column("accuracy", "accuracy %", fixed(1, 100)),
    *(Column(f"risk_{rule.key}", rule.label, fixed(3), group="risk") for rule in SUMMARY),
]
SIDES = [
    column
    for side, group in (("kept", "LOCAL"), ("sent", "REMOTE"))
    for column in (
        Column(f"{side}_n", "n", group=group, tex="$n$"),
        Column(f"{side}_local_accuracy", "m", fixed(1, 100), group=group, tex="$m$"),
        Column(f"{side}_edge_accuracy", "e", fixed(1, 100), group=group, tex="$e$"),
        Column(f"{side}_gain", "e − m", fixed(1, 100), group=group, tex="$e - m$"),
    )
]


def draw(predictions: Predictions, out: Path, name: str) -> list[Path]:
    """name-summary_table, -stage_table and -stage_table_async (per S); NotDrawn for edge-only."""
    order = sorted(
        settings.rejectors(predictions),
        key=lambda s: (
            s["surrogate"],
            s["cost_1"],
            s["cost_e"],
            settings.often_first(s["async_freq"]),
        ),
    )
    by_row = [_row(row) for row in summarise(predictions)]
    rows, columns = [by_row[s["row"]] for s in order], COLUMNS
    nets = f"{style.nets(predictions)}, {style.tested(predictions)}"
    commit = style.made_by(predictions)
    about = nets
    if len({row["surrogate"] for row in rows}) > 1:
        columns = [SURROGATE, *columns]
    else:
        about += f", {rows[0]['surrogate']} surrogate"
    local, edge = (100 * rows[0][f"{net}_accuracy"] for net in ("local", "edge"))
    caption = f"{about}. Accuracy: local net {local:.1f} %, edge net {edge:.1f} %."
    caption += f" Run at {commit}." if commit else ""
    print_table(rows, columns, caption)
    paths = write_table(rows, columns, out, f"{name}-summary_table", caption, lowest_risk)

    about = "Accuracy (%) of the local net m and the edge net e on what a rejector kept and sent. "
    about += nets
    ending = f". Run at {commit}." if commit else "."
    sweep = settings.cost_sweep(predictions)
    rows = [by_row[s["row"]] for s in sweep]
    caption = f"{about}, {settings.in_words(sweep[0])}{ending}"
    paths += write_table(rows, COSTS + SIDES, out, f"{name}-stage_table", caption)
    try:
        rows = [by_row[s["row"]] for group in settings.async_sweeps(predictions) for s in group]
    except NotDrawn:
        return paths
    columns = [*COSTS, REFRESH, *SIDES]
    if len({row["surrogate"] for row in rows}) > 1:
        columns.insert(2, SURROGATE)
    return paths + write_table(rows, columns, out, f"{name}-stage_table_async", about + ending)


def lowest_risk(row: dict[str, Any]) -> set[str]:
    """The keys of the lowest risk but the oracle's; several where they print alike."""
    usable = [f"risk_{rule.key}" for rule in SUMMARY if rule.kind != "oracle"]
    risks = {key: row[key] for key in usable}
    least = min(risks.values())
    return {key for key, value in risks.items() if f"{value:.3f}" == f"{least:.3f}"}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    gains = {
        f"{side}_gain": row[f"{side}_edge_accuracy"] - row[f"{side}_local_accuracy"]
        for side in ("kept", "sent")
    }
    return row | gains | {"refresh": setting_name(row["async_freq"]).removeprefix("S = ")}


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
