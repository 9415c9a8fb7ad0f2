"""Flags, one-line errors and progress bars, the same in every script."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
from tqdm import tqdm

from experiment.trackers import USED

T = TypeVar("T")


def fail(message: str) -> NoReturn:
    """Print the message as one line on stderr and exit with status 2, as argparse does."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


class InputError(ValueError):
    """Input that turns out to be bad in the middle of the work; `script` prints it as one line."""


def is_follower() -> bool:
    """Whether torchrun has started this process, and another one on this host before it."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def worker_died(error: BaseException) -> str:
    """What the user is told of a data loader's process that was killed."""
    return (
        f"a process that reads pictures died ({' '.join(str(error).split())[:200]}), perhaps for "
        "want of memory or of shared memory (/dev/shm): give fewer --workers; --resume continues"
    )


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a ValueError or OSError of the block, which reads the user's input, into one line."""
    try:
        yield
    except (OSError, ValueError) as e:
        fail(error_line(e))


def error_line(error: Exception) -> str:
    """What the user is told of an OSError or a ValueError."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        """The help text with the default value appended, unless that is None or False."""
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse with defaults in `--help`, the docstring unwrapped, and one-line errors.

    module: the name of a script that is run by `python -m`. torchrun: whether several processes
    may run it together; otherwise that is an error.
    """

    def __init__(self, doc: str | None, module: str | None = None, *, torchrun: bool = False):
        super().__init__(
            prog=module and f"python -m {module}",
            description=doc,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        if not torchrun:
            self.one_process("this script has nothing to share")

    def one_process(self, reason: str) -> None:
        """Exit with an error if torchrun has started several processes."""
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            self.error(f"{reason}: start it with python, not torchrun")

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line, which the first of torchrun's processes prints."""
        if is_follower():
            raise SystemExit(2)
        fail(f"{message} ({self.prog} --help lists the flags)")

    def given(self, args: argparse.Namespace, argv: Sequence[str] | None) -> set[str]:
        """Names of the flags that `argv` contains, also those with their default value.

        args: the namespace that `argv` parsed to. argparse sets a default only where the namespace
        lacks the name, so a second parse into a filled namespace changes just the flags given.
        """
        unset = object()
        blank = argparse.Namespace(**dict.fromkeys(vars(args), unset))
        again = vars(self.parse_args(argv, blank))
        return {name for name, value in again.items() if value is not unset}

    def refuse(self, given: set[str], names: Iterable[str], reason: str) -> None:
        """Exit with an error if one of the flags `names` is given."""
        for name in names:
            if name in given:
                self.error(f"--{name}: {reason}")

    def add_common(
        self, seed: int, many: bool = True, logs: bool = False, saves: bool = False
    ) -> None:
        """The flags that every script has.

        many: add --seeds (see `each_seed`). logs: add --log_to, for scripts that write
        metrics.jsonl. saves: add
        --save_every, for those that resume in the middle of an epoch (experiment.within_epoch).
        """
        group = self.add_argument_group("common")
        group.add_argument("--data_root", default="data_root", help="folder of the data sets")
        group.add_argument("--device", default="best", help="cuda, cuda:1, mps, cpu or best")
        group.add_argument(
            "--seed", type=number(int, 0), default=seed, help="seed of all random numbers"
        )
        if many:
            group.add_argument(
                "--seeds",
                type=number(int, 0),
                nargs="+",
                help="in place of --seed: one run for each seed, in SAVE_DIR/seed-N",
            )
        if logs:
            group.add_argument(
                "--log_to",
                choices=USED,
                help="also write metrics.jsonl there, offline; needs requirements-extra.txt",
            )
        if saves:
            group.add_argument(
                "--save_every",
                type=number(float, 0, above=True),
                metavar="MINUTES",
                help="also write the state for --resume within an epoch, this often; it is written "
                "after each epoch in any case",
            )
        existing = group.add_mutually_exclusive_group()
        existing.add_argument("--overwrite", action="store_true", help="replace an existing run")
        existing.add_argument("--resume", action="store_true", help="continue a killed run")


def each_seed(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The arguments of one run for each of `--seeds`, or just `args` without it."""
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
    """An argparse type: a finite `kind` in [low, high]; `above` excludes low, `below` high."""

    def parse(text: str) -> Any:
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


def progress(steps: Iterable[T], total: int, label: str, done: int = 0) -> Iterable[T]:
    """`steps` with a progress bar on a terminal, without one in a log file; `done` came before."""
    return tqdm(
        steps,
        total=total,
        desc=label,
        initial=done,
        leave=False,
        disable=is_follower() or None,  # None: shown on a terminal
        dynamic_ncols=True,
    )
