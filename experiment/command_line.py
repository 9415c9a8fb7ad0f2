"""Flags, errors of one line, and progress: how every script talks to its user."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from experiment.trackers import USED


def fail(message: str) -> NoReturn:
    """Say in one line what is wrong and leave with status 2, as argparse does."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Around the part of a script that reads input: its ValueError and OSError are the user's."""
    try:
        yield
    except OSError as e:
        fail(f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e))
    except ValueError as e:
        fail(str(e))


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        """The default behind the help, where there is one to speak of."""
        silent = action.default is None or action.default is False
        return action.help if silent else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse with defaults in `--help`, the docstring as it is, and errors of one line.

    module: of a script that is run by `python -m`.
    """

    def __init__(self, doc: str | None, module: str | None = None):
        super().__init__(
            prog=module and f"python -m {module}",
            description=doc,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        fail(f"{message} ({self.prog} --help lists the flags)")

    def given(self, args: argparse.Namespace, argv: Sequence[str] | None) -> set[str]:
        """The flags, by name, that `argv` gives, whatever their values; args is what it gave.

        argparse sets a default only where the namespace lacks the name.
        """
        unset = object()
        blank = argparse.Namespace(**dict.fromkeys(vars(args), unset))
        again = vars(self.parse_args(argv, blank))
        return {name for name, value in again.items() if value is not unset}

    def refuse(self, given: set[str], names: Iterable[str], reason: str) -> None:
        """End in one line where one of these flags is given."""
        for name in names:
            if name in given:
                self.error(f"--{name}: {reason}")

    def add_common(self, seed: int, many: bool = True, logs: bool = False) -> None:
        """The flags that every script has.

        many: it runs for several seeds (`each_seed`). logs: it trains, and so has metrics.
        """
        group = self.add_argument_group("common")
        group.add_argument("--data_root", default="data_root", help="where data sets are kept")
        group.add_argument("--device", default="best", help="cuda, cuda:1, mps, cpu or best")
        group.add_argument(
            "--seed", type=number(int, 0), default=seed, help="of all random numbers"
        )
        if many:
            group.add_argument(
                "--seeds",
                type=number(int, 0),
                nargs="+",
                help="one run each, in SAVE_DIR/seed-N, in place of --seed",
            )
        if logs:
            group.add_argument(
                "--log_to",
                choices=USED,
                help="mirror metrics.jsonl, offline; needs requirements-extra.txt",
            )
        again = group.add_mutually_exclusive_group()
        again.add_argument("--overwrite", action="store_true", help="replace a run that is there")
        again.add_argument("--resume", action="store_true", help="continue a killed run")


def each_seed(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The arguments of each run that `--seeds` asks for, or just `args`."""
    if args.seeds is None:
        yield args
    for seed in dict.fromkeys(args.seeds or []):
        one = {"seed": seed, "seeds": None, "save_dir": os.path.join(args.save_dir, f"seed-{seed}")}
        yield argparse.Namespace(**vars(args) | one)


def number(
    kind: type,
    low: float,
    high: float = float("inf"),
    *,
    above: bool = False,
    below: bool = False,
) -> Callable[[str], Any]:
    """An argparse type: a finite `kind` in [low, high]; without low by `above`, high by `below`."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number ({kind.__name__})"
            ) from None
        fits = (low < value if above else low <= value) and (
            value < high if below else value <= high
        )
        if not fits or abs(value) == np.inf:
            bounds = f"{'above' if above else 'at least'} {low:g}"
            if high < np.inf:
                bounds += f" and {'below' if below else 'at most'} {high:g}"
            raise argparse.ArgumentTypeError(f"{text} must be finite, {bounds}")
        return value

    return parse


def progress(steps, total: int, label: str):
    """A bar on a terminal, nothing in a log."""
    return tqdm(steps, total=total, desc=label, leave=False, disable=None, dynamic_ncols=True)
