"""The table of a run: reject rate, accuracy, and the risk of every simple rule at every setting.

    python -m figures.summary_table results/runs/cifar10

Printed, and written as .md, .tex and .csv. Thresholds are fitted on val, the rest is measured on
test. Bold is the lowest risk but for the oracle, which sees the labels.
"""

from pathlib import Path
from typing import Any

from deferral.catalogue import SUMMARY
from deferral.predictions import Predictions
from deferral.summary import setting_name, summarise
from figures import settings, style
from figures.command import command
from figures.tables import Column, fixed, plain, print_table, write_table

COLUMNS = [
    Column("cost_1", "c_1", plain, "$c_1$"),
    Column("cost_e", "c_e", plain, "$c_e$"),
    Column("refresh", "S", tex="$S$"),
    Column("reject_rate", "reject %", fixed(1, 100)),
    Column("accuracy", "accuracy %", fixed(1, 100)),
    *(Column(f"risk_{rule.key}", rule.label, fixed(3), group="risk") for rule in SUMMARY),
]


def draw(predictions: Predictions, out: Path, name: str) -> list[Path]:
    """name-summary_table.md, .tex and .csv, after printing it; NotDrawn for an edge-only run."""
    order = sorted(
        settings.rejectors(predictions),
        key=lambda s: (
            s["surrogate"],
            s["cost_1"],
            s["cost_e"],
            settings.often_first(s["async_freq"]),
        ),
    )
    summary = summarise(predictions)
    rows = [_row(summary[s["row"]]) for s in order]
    columns = COLUMNS.copy()
    about = f"{style.nets(predictions)}, {style.tested(predictions)}"
    if len({row["surrogate"] for row in rows}) > 1:
        columns.insert(0, Column("surrogate", "surrogate"))
    else:
        about += f", {rows[0]['surrogate']} surrogate"
    local, edge = (100 * rows[0][f"{net}_accuracy"] for net in ("local", "edge"))
    caption = f"{about}. Accuracy: local net {local:.1f} %, edge net {edge:.1f} %."
    caption += f" Run at {made_by}." if (made_by := style.made_by(predictions)) else ""
    print_table(rows, columns, caption)
    return write_table(rows, columns, out, f"{name}-summary_table", caption, lowest_risk)


def lowest_risk(row: dict[str, Any]) -> set[str]:
    """The keys of the lowest risk but the oracle's; several where they print alike."""
    usable = [f"risk_{rule.key}" for rule in SUMMARY if rule.kind != "oracle"]
    risks = {key: row[key] for key in usable}
    least = min(risks.values())
    return {key for key, value in risks.items() if f"{value:.3f}" == f"{least:.3f}"}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"refresh": setting_name(row["async_freq"]).removeprefix("S = ")}


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
