"""What results/published holds: results/README.md's table of its folders."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from results.text import DASH, markdown, number, read

Entry = dict[str, Any]
STUDIES = {
    "all-rules": "every rule beside LeNet-5 and convnet (AVIF copies)",
    "benchmarks": "speed: one JSON for each claim of docs/speed.md",
    "cifar10-ceiling": "rejectors beside LeNet-5 by multiply-adds, and the ceiling (AVIF copies)",
    "cifar10-msdnet": "base and boosted, a small MSDNet (AVIF copies)",
    "cifar10-networks": "a report: three networks of growing size (AVIF copies)",
    "cifar10-people": "a report: a network and a person (AVIF copies)",
    "cifar10-exits-and-server": "an MSDNet with five exits, then EfficientNet-Lite0 (AVIF copies)",
    "cifar10-lite0": "LeNet-5 and a fine-tuned EfficientNet-Lite0 (AVIF copies)",
    "cifar10-resnets": "fixed ResNet-20 and ResNet-56, rejectors trained (AVIF copies)",
    "cifar10-people-server": "rejectors with people as the server (AVIF copies)",
    "digits": "the quick start",
    "digits-async": "S, adaptive S and an outage",
    "digits-noniid": "a local net that has not seen one class",
    "mnist-active": "active learning on 10,000 images of MNIST",
    "when-it-pays": "gain of a rejector over a threshold by regime (AVIF copies)",
    "router-made-up": "a report: a small and a large language model, made-up answers",
}


def folders(published: Path) -> str:
    """Folder, study, commits, seeds, hardware, and the files that it holds."""
    rows = []
    for folder in sorted(path for path in published.iterdir() if path.is_dir()):
        files = _files(folder)
        entries = _entries(folder)
        seeds = sorted({entry["args"]["seed"] for entry in entries if "args" in entry})
        commits = dict.fromkeys(entry["commit"][:7] for entry in entries)
        kinds = Counter(re.sub(r"^[\w+-]*-(?=\w+\.(json|npz)$)", "*-", p.name) for p in files)
        held = ", ".join(f"{count} `{name}`" for name, count in sorted(kinds.items()))
        size = number(sum(path.stat().st_size for path in files) / 1e6, 1)
        rows.append(
            [
                f"`{folder.name}`",
                STUDIES.get(folder.name, ""),
                ", ".join(commits),
                ", ".join(map(str, seeds)) or DASH,
                "; ".join(machines(folder)),
                f"{held} ({size} MB)",
            ]
        )
    return markdown(["folder", "study", "commit", "seeds", "hardware", "files"], rows)


def machines(folder: Path) -> list[str]:
    """The hardware that a folder's numbers were measured on."""
    return list(dict.fromkeys(entry["hardware"] for entry in _entries(folder)))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entries(folder: Path) -> list[Entry]:
    return [entry for path in _files(folder) for entry in _entries_of(path)]


def _entries_of(path: Path) -> list[Entry]:
    """Records with commit and hardware in a file: the runs of args.json, or a result itself."""
    if path.suffix != ".json":
        return []
    content = read(path)
    if path.name.endswith("args.json"):
        return list(content.values())
    if made := re.match(r"Run at commit (\w+), (.*)\.$", content.get("made_by", "")):
        return [{"commit": made[1], "hardware": made[2]}]
    if path.name.endswith("report.json") and content["data"].get("commit"):
        of_runs = zip(
            *(content["data"][key] for key in ("commit", "hardware", "seeds")), strict=True
        )
        return [
            {"commit": commit, "hardware": machine, "args": {"seed": seed}}
            for commit, machine, seed in of_runs
        ]
    return [content] if isinstance(content.get("hardware"), str) else []
