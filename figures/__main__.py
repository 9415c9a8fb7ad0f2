"""Every table and figure that the predictions in a folder give; prints the summary table.

python -m figures RUN_DIR [--out DIR]
"""

import functools

from figures import (
    async_study,
    bounded_rate,
    examples,
    loss_curves,
    per_class,
    reject_rate,
    risk,
    summary_table,
)
from figures.command import command

DRAW = (
    reject_rate.draw,
    risk.draw,
    loss_curves.draw,
    functools.partial(async_study.draw, show=False),
    bounded_rate.draw,
    examples.draw,
    functools.partial(per_class.draw, show=False),
    summary_table.draw,
)
main = command(__doc__, *DRAW)

if __name__ == "__main__":
    main()
