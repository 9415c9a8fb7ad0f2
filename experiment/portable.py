"""Paths as records name them: nothing in args.json says where on a machine a run was made."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiment.files import sha256
from experiment.machine import ROOT


def portable(value: Any) -> Any:
    """A flag's value, or a list of such, without directories outside the repository.

    Absolute paths and paths with ".." become relative to the repository if they lie inside it, and
    the last name of the path if not. Everything else is returned as it is.
    """
    if isinstance(value, Path):
        return portable(str(value))
    if isinstance(value, str):
        return _portable_text(value)
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def shell_command(argv: Iterable[str]) -> str:
    """A command as typed in a shell, its paths portable, those in --flag=PATH too."""
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if word.startswith("--") and equals:
            words.append(f"{flag}={portable(value)}")
        else:
            words.append(str(portable(word)))
    return shlex.join(words)


def files_outside(values: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256, by name, of every existing file outside the repository that a flag names."""
    paths = [Path(text) for text in _texts(values.values()) if _is_path(text)]
    return {
        path.name: sha256(path) for path in paths if path.is_file() and _inside(str(path)) is None
    }


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str | Path):
            yield str(value)
        elif isinstance(value, list | tuple):
            yield from _texts(value)


def _is_path(text: str) -> bool:
    return os.path.isabs(text) or ".." in Path(text).parts


def _inside(text: str) -> str | None:
    """The path relative to the repository; None if it lies outside."""
    for path in (Path(os.path.abspath(text)), Path(os.path.realpath(text))):
        if path.is_relative_to(ROOT):
            return path.relative_to(ROOT).as_posix()
    return None


def _portable_text(text: str) -> str:
    if not _is_path(text):
        return text
    inside = _inside(text)
    return Path(os.path.abspath(text)).name if inside is None else inside
