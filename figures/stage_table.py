"""Tables of the local net m, the edge net e and e - m, on the data kept (LOCAL) and sent (REMOTE).

    python -m figures.stage_table results/runs/cifar10

One table per (c_1, c_e), and, where one cost pair was trained at more than one S, one per S.
Accuracies in %, on test. A rejector that helps keeps what m can do and sends what only e can.
"""

from pathlib import Path
from typing import Any

from deferral.predictions import Predictions
from deferral.summary import setting_name, summarise
from figures import settings, style
from figures.command import NotDrawn, command
from figures.tables import Column, fixed, plain, print_table, write_table

COSTS = [Column("cost_1", "c_1", plain, "$c_1$"), Column("cost_e", "c_e", plain, "$c_e$")]
REFRESH = Column("refresh", "S", tex="$S$")
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


def draw(predictions: Predictions, out: Path, name: str, show: bool = True) -> list[Path]:
    """name-stage_table (per cost) and name-stage_table_async (per S), as .md, .tex and .csv.

    With `show` they are printed too.
    """
    sweep = settings.cost_sweep(predictions)
    rows = [_row(row) for row in summarise(predictions)]
    about = "Accuracy (%) of the local net m and the edge net e on what a rejector kept and sent. "
    about += f"{style.nets(predictions)}, {style.tested(predictions)}"
    made_by = f". Run at {made_by}." if (made_by := style.made_by(predictions)) else "."
    caption = f"{about}, {settings.in_words(sweep[0])}{made_by}"
    chosen = [rows[s["row"]] for s in sweep]
    paths = _table(chosen, COSTS + SIDES, out, f"{name}-stage_table", caption, show)
    try:
        by_refresh = [s for group in settings.async_sweeps(predictions) for s in group]
    except NotDrawn:
        return paths
    chosen = [rows[s["row"]] for s in by_refresh]
    columns = [*COSTS, REFRESH, *SIDES]
    if len({row["surrogate"] for row in chosen}) > 1:
        columns.insert(2, Column("surrogate", "surrogate"))
    return paths + _table(chosen, columns, out, f"{name}-stage_table_async", about + made_by, show)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    gains = {
        f"{side}_gain": row[f"{side}_edge_accuracy"] - row[f"{side}_local_accuracy"]
        for side in ("kept", "sent")
    }
    return row | gains | {"refresh": setting_name(row["async_freq"]).removeprefix("S = ")}


def _table(
    rows: list, columns: list[Column], out: Path, name: str, caption: str, show: bool
) -> list[Path]:
    if show:
        print_table(rows, columns, caption)
    return write_table(rows, columns, out, name, caption)


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
