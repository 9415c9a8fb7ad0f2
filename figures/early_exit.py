"""Every figure and table of evaluated early-exit runs: anytime, budgeted, optimism.

python -m figures.early_exit RUN_DIR... [--out DIR] [--published]
"""

from pathlib import Path

from figures import anytime, budgeted, optimism
from figures.early_exit_runs import Network, command


def _optimism(network: Network, out: Path, forced: bool) -> list[Path]:
    """It has no published points to force."""
    return optimism.draw(network, out)


main = command(__doc__, anytime.draw, budgeted.draw, _optimism)

if __name__ == "__main__":
    main()
