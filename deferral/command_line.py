"""Flags and errors of one line, for the scripts of this folder."""

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn


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


class Parser(argparse.ArgumentParser):
    """argparse with defaults in `--help`, the docstring as it is, and errors of one line."""

    def __init__(self, module: str, doc: str | None):
        super().__init__(
            prog=f"python -m {module}",
            description=doc,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        fail(f"{message} ({self.prog} --help lists the flags)")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False
        return action.help if silent else super()._get_help_string(action)


def number(
    kind: type, low: float, high: float = math.inf, *, inside: bool = False
) -> Callable[[str], float]:
    """An argparse type: a finite `kind` in [low, high], or strictly between them if `inside`."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number ({kind.__name__})"
            ) from None
        if not (low < value < high if inside else low <= value <= high) or math.isinf(value):
            bounds = f"above {low:g} and below {high:g}" if inside else f"at least {low:g}"
            bounds += f" and at most {high:g}" if high < math.inf and not inside else ""
            raise argparse.ArgumentTypeError(f"{text} must be finite, {bounds}")
        return value

    return parse
