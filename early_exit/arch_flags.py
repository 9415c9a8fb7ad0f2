"""`--arch` and, once it is known, the flags of that architecture alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from models.exit_net import ExitNet
from models.exit_nets import EXIT_NETS, flag_names


def add_arch_flags(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, default: str | None = "msdnet"
) -> type[ExitNet] | None:
    """Add --arch, and the flags of the architecture that `argv` (None: sys.argv) names.

    Returns its class. Where argv names none that is known it is the default's, or None and no
    flags where there is no default; `parser` itself refuses a name that is wrong.
    """
    look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    look.add_argument("--arch", nargs="?", default=default)
    name = look.parse_known_args(sys.argv[1:] if argv is None else argv)[0].arch
    name = name if name in EXIT_NETS else default
    group = parser.add_argument_group(f"network: {name}" if name else "network")
    group.add_argument(
        "--arch",
        choices=EXIT_NETS,
        default=default,
        help="architecture; --arch NAME --help shows the flags of that one",
    )
    if name is None:
        return None
    EXIT_NETS[name].add_flags(group)
    return EXIT_NETS[name]


def arch_settings(args: argparse.Namespace, cls: type[ExitNet]) -> dict[str, Any]:
    """The values of that architecture's flags: the `settings` of its `from_settings`."""
    return {name: getattr(args, name) for name in flag_names(cls)}
