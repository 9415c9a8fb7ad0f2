"""The records in a run directory: the entries of args.json and the lines of metrics.jsonl."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from experiment.files import read_json, write_bytes


def read_args(directory: Path) -> dict[str, Any]:
    """The entries of args.json by stem; {} if there is no such file."""
    path = directory / "args.json"
    entries = read_json(path) if path.exists() else {}
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{path}: does not describe runs of this project; move it away")
    return entries


def trim_metrics(path: Path, stem: str, epochs: int, overwritten: Collection[str]) -> None:
    """Drop the lines of a stem after `epochs`, and all lines of overwritten runs."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            logged = json.loads(line)
        except json.JSONDecodeError:  # truncated by a kill or a full disk
            continue
        run = logged.get("run")
        if run not in (stem, *overwritten) or (run == stem and logged["epoch"] <= epochs):
            kept.append(line + "\n")
    write_bytes(path, "".join(kept).encode())
