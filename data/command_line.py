"""Flags and errors of one line, for the scripts of this folder."""

from __future__ import annotations

import argparse
import math
import sys
from typing import NoReturn


def fail(message: str) -> NoReturn:
    """Say in one line what is wrong and leave with status 2, as argparse does."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse with the docstring as it is, and errors of one line."""

    def __init__(self, module: str, doc: str | None):
        super().__init__(
            prog=f"python -m {module}",
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        fail(f"{message} ({self.prog} --help lists the flags)")


def number(kind: type, low: float, high: float = math.inf, *, above: bool = False):
    """An argparse type: a `kind` in [low, high), or in (low, high) with `above`."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number ({kind.__name__})"
            ) from None
        if not (low < value if above else low <= value) or not value < high:
            bounds = f"{'above' if above else 'at least'} {low:g}"
            bounds += f" and below {high:g}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text} must be finite, {bounds}")
        return value

    return parse
