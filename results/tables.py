"""Write every table of measured numbers in README.md, docs/ and results/README.md.

    python -m results.tables            # write them
    python -m results.tables --check    # status 1, and their names, if any differs
    python -m results.tables --published results/runs/NAME/kept --show NAME    # print one

A page marks the place of a table by its name here:

    <!-- table: digits -->
    ...
    <!-- end -->

What stands between the two lines is replaced. The numbers come from results/published: from kept
predictions where a study has them, and from its JSON and CSV files where not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import experiment
from results import (
    cascade_tables,
    claims,
    exit_tables,
    folders,
    rule_tables,
    speed_tables,
    study_tables,
)

TABLES: dict[str, Callable[[Path], str]] = {
    "claims": claims.claims,
    "folders": folders.folders,
    "cifar10-resnets": partial(rule_tables.study, name="cifar10-resnets"),
    "cifar10-lite0": partial(rule_tables.behind_lite0, name="cifar10"),
    "cifar100-lite0": partial(rule_tables.behind_lite0, name="cifar100"),
    "all-rules": rule_tables.all_rules,
    "l2h-cifar10": lambda published: rule_tables.of_report(
        published / "l2h-cifar10" / "l2h-cifar10-report.json"
    ),
    "l2h-cifar10-async": partial(cascade_tables.asynchronous, study="l2h-cifar10"),
    "cifar10-async": partial(cascade_tables.asynchronous, study="cifar10-async"),
    "cifar10-ceiling": partial(rule_tables.ceilings, name="cifar10-ceiling"),
    "cifar10-lite0-ceiling": partial(rule_tables.ceilings, name="cifar10-lite0-ceiling"),
    "cifar10-people-server": partial(rule_tables.people_server, server="person"),
    "cifar10-people-server-majority": partial(rule_tables.people_server, server="majority"),
    "when-it-pays": rule_tables.when_it_pays,
    "digits": cascade_tables.digits,
    "digits-mean": cascade_tables.digits_mean,
    "digits-noniid": cascade_tables.noniid,
    "digits-noniid-classes": cascade_tables.noniid_classes,
    "digits-async": cascade_tables.digits_async,
    "cifar10-exits-and-server": partial(cascade_tables.exits_and_server, cost_1=1),
    "cifar10-exits-and-server-1.25": partial(cascade_tables.exits_and_server, cost_1=1.25),
    "cifar10-msdnet": partial(study_tables.exit_accuracy, folder="cifar10-msdnet/exits"),
    "cifar10-msdnet-optimism": partial(study_tables.optimism, folder="cifar10-msdnet/exits"),
    "mnist-active": study_tables.mnist_active,
    "mnist-active-risk": study_tables.mnist_active_risk,
    "mnist-active-targets": study_tables.mnist_active_targets,
    "glue-minilm": exit_tables.glue_minilm,
    "glue-minilm-speed-up": exit_tables.glue_minilm_speed_up,
    "mnist-kmnist-active": study_tables.mnist_kmnist_active,
    "sweep": speed_tables.sweep,
    "paper-hours": speed_tables.paper_hours,
    "amortized": speed_tables.amortized,
    "report": speed_tables.report,
    "floor": speed_tables.floor,
    "stream": speed_tables.stream,
    "decoders": speed_tables.decoders,
    "processes": speed_tables.processes,
    "evaluation": speed_tables.evaluation,
    "scale": speed_tables.scale,
    "meta-gradient": speed_tables.meta_gradient,
    "early-exit-speed": speed_tables.exit_speed,
    "early-exit-speed-compile": speed_tables.exit_speed_compile,
    "kcenter": speed_tables.kcenter,
}
PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)


def pages(root: Path) -> list[Path]:
    """The pages below a repository's root that may hold tables."""
    return [root / "README.md", *sorted(root.glob("docs/*.md")), root / "results" / "README.md"]


def fill(text: str, published: Path) -> tuple[str, list[str]]:
    """A page with its tables written anew, and the names of those that differ.

    ValueError for a place whose table is unknown, or whose end is missing.
    """
    changed = []

    def table(place: re.Match[str]) -> str:
        if (name := place[2]) not in TABLES:
            raise ValueError(f"table {name!r} is unknown: there are {', '.join(TABLES)}")
        new = f"{place[1]}{TABLES[name](published)}\n{place[3]}"
        if new != place[0]:
            changed.append(name)
        return new

    filled, places = PLACE.subn(table, text)
    if places != text.count("<!-- table:") or places != text.count("<!-- end -->"):
        raise ValueError("a place of a table has no begin or no end")
    return filled, changed


def update(root: Path, check: bool = False) -> list[str]:
    """Write the tables of all pages, unless `check`; returns the names of those that differ."""
    changed = []
    for page in pages(root):
        try:
            filled, names = fill(page.read_text(), root / "results" / "published")
        except ValueError as e:
            raise ValueError(f"{page}: {e}") from None
        changed += names
        if names and not check:
            experiment.write_bytes(page, filled.encode())
    return changed


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if a table differs"
    )
    parser.add_argument(
        "--root", type=Path, default=experiment.ROOT, help="the repository (default: this one)"
    )
    parser.add_argument(
        "--published", type=Path, help="folder of the studies (default: results/published)"
    )
    parser.add_argument("--show", nargs="+", default=[], metavar="TABLE", help="print, write none")
    args = parser.parse_args(argv)
    if args.published and not args.show:
        parser.error("--published goes with --show")
    with experiment.one_line_errors():
        for name in args.show:
            if name not in TABLES:
                raise ValueError(f"table {name!r} is unknown: there are {', '.join(TABLES)}")
            print(TABLES[name](args.published or args.root / "results" / "published"))
        if args.show:
            return
        changed = update(args.root, args.check)
    for name in changed:
        print(f"{name}: {'differs' if args.check else 'written'}")
    if args.check and changed:
        sys.exit(1)


if __name__ == "__main__":
    main()
