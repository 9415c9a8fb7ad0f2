"""Every table and figure that the predictions in a folder give; prints the summary table.

python -m figures RUN_DIR [--out DIR]
"""

import functools

from figures import (
    bounded_rate,
    examples,
    loss_curves,
    reject_rate,
    risk,
    stage_table,
    summary_table,
)
from figures.command import command

DRAW = (
    reject_rate.draw,
    risk.draw,
    loss_curves.draw,
    bounded_rate.draw,
    examples.draw,
    functools.partial(stage_table.draw, show=False),
    summary_table.draw,
)


def main(argv: list[str] | None = None) -> None:
    for draw in DRAW:
        command(__doc__, draw)(argv)


if __name__ == "__main__":
    main()
