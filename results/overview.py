"""The README's table of results, and results/README.md's table of published folders."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from results import cascade_tables as cascade
from results import rule_tables
from results.study_tables import active, evaluations
from results.text import DASH, markdown, number, plus_minus, read, spread, summaries

Entry = dict[str, Any]
STUDIES = {
    "benchmarks": "speed: one JSON for each claim of docs/speed.md",
    "cifar10-bf16": "the edge net in bfloat16 and in float32 (JPEG copies)",
    "cifar10-compare": "all rules on CIFAR-10 (JPEG copies)",
    "cifar10-cpu": "the 42 and the 12 settings with a small edge training (JPEG copies)",
    "cifar10-networks": "a report: three networks of growing size (AVIF copies)",
    "cifar10-people": "a report: a network and a person (AVIF copies)",
    "cifar10-resnets": "fixed ResNet-20 and ResNet-56, rejectors trained (AVIF copies)",
    "cifar10-people-server": "rejectors with people as the server (AVIF copies)",
    "cifar10-exits": "base and boosted, a small MSDNet (JPEG copies)",
    "cifar10-exits-and-server": "a small MSDNet and a server behind it (JPEG copies)",
    "digits": "the quick start",
    "digits-async": "S, adaptive S and an outage",
    "digits-noniid": "a local net that has not seen one class",
    "made-task-bert": "base, l2w and boosted, a small BERT on a made-up task",
    "mnist-active": "active learning on 10,000 images of MNIST",
    "when-it-pays": "gain of a rejector over a threshold by regime (AVIF copies)",
    "router-made-up": "a report: a small and a large language model, made-up answers",
}


def overview(published: Path) -> str:
    """Study and measure, the paper's number, ours, and what it shows."""
    rows = [
        *_learning_to_help(published),
        [
            "L2W: CIFAR-10, budgeted, %",
            "base 92.0, l2w 92.3 (300 epochs, 10 million multiply-adds)",
            f"base {_exits(published, 'base', 'half')} (4 epochs, a smaller net, JPEG copies, half "
            "of the cost)",
            "nothing about the paper's claim",
        ],
        [
            "boosted: area under the budgeted curve, CIFAR-10, %",
            DASH,
            f"boosted {_exits(published, 'boosted', 'area')}, base "
            f"{_exits(published, 'base', 'area')} (4 epochs, JPEG copies)",
            "nothing about the paper's claim",
        ],
        _active_learning(published),
        _exits_and_server(published),
    ]
    return markdown(["study, measure", "paper", "ours", "what it shows"], rows)


def _learning_to_help(published: Path) -> list[list[str]]:
    frame = summaries(published / "digits")
    at = frame[(frame.async_freq == 1) & (frame.cost_1 == 1.25) & (frame.cost_e == 0.2)]
    names = ("rejector", "confidence", "never", "always")
    digits = ", ".join(f"{name} {spread(at[f'risk_{name}'], 3)}" for name in names)
    report = read(published / "digits-noniid" / "report.json")
    best = report["grid"]["best_confidence"]
    here = cascade.at_costs(report, 1.25, 0.25)
    unseen = f"rejector {cascade.risk(cascade.rule_named(here, 'stage_switching'), 3)}, "
    unseen += f"best threshold {cascade.risk(cascade.rule_named(here, best), 3)}"
    compare = read(published / "cifar10-compare" / "report.json")["grid"]
    of = {
        label: cascade.risk(cascade.rule_named(compare["rules"], name), 4)
        for label, name in (
            ("paper's rejector", "stage_switching"),
            (f"{compare['best_confidence']} threshold", compare["best_confidence"]),
            ("amortized rejector", "amortized, both"),
        )
    }
    fixed = rule_tables.means(rule_tables.compared(published / "cifar10-resnets")[0])
    people = read(published / "cifar10-people-server" / "people.json")["servers"]["person"]["rows"]
    blind = read(published / "when-it-pays" / "when-it-pays.json")["regimes"]["blind"]["rows"]
    return [
        [
            "learning to help: risk, digits with two unseen classes, c_1 = 1.25, c_e = 0.2",
            DASH,
            digits,
            "the rejector helps where classes are unknown to the local net",
        ],
        [
            "learning to help: risk, digits with one unseen class, c_1 = 1.25, c_e = 0.25",
            DASH,
            unseen,
            "the same",
        ],
        [
            "learning to help: risk, CIFAR-10 (JPEG copies), mean of 42 costs",
            DASH,
            ", ".join(f"{label} {value}" for label, value in of.items()),
            "the paper's rejector loses to a threshold; one rejector for all costs beats it",
        ],
        [
            "learning to help: risk, CIFAR-10, fixed ResNet-20 and ResNet-56, mean of 42 costs",
            DASH,
            _of_rules(fixed, "amortized, both", "ceiling"),
            "beside a good local net no rejector beats a threshold",
        ],
        [
            "learning to defer: risk, CIFAR-10, ResNet-20 and a person, mean of 42 costs",
            DASH,
            _of_rules(people, "one_vs_all, calibrated", "ceiling"),
            "the same, with people as the server",
        ],
        [
            "learning to help: risk, the same pair, two classes unknown to ResNet-20",
            DASH,
            _of_rules(blind, "amortized, features", "ceiling"),
            "a rejector pays where the local net has a blind spot",
        ],
        [
            "learning to help: risk of the release's stored CIFAR-10 output, c_1 = 1.2, c_e = 0.2",
            "0.667 (never 0.613, always 0.679)",
            DASH,
            "the release's loss has the sign of c_1 inverted",
        ],
    ]


def _of_rules(rows: list[Entry], *names: str) -> str:
    """The best threshold's mean risk and that of these rules."""
    of = {row["rule"]: row for row in rows}
    best = rows[0]["reference"]
    shown = [("best threshold", best), *((of[name]["label"], name) for name in names)]
    return "; ".join(
        f"{label.split(' (')[0]} {plus_minus(of[name]['risk'], of[name]['risk_std'], 4)}"
        for label, name in shown
    )


def _exits(published: Path, method: str, what: str) -> str:
    runs = evaluations(published / "cifar10-exits")[method]
    values = [run["area"] if what == "area" else run["at_share"]["0.5"] for run in runs]
    return spread(values, 1, 100)


def _active_learning(published: Path) -> list[str]:
    methods = active(published)["methods"]
    diam, random = (spread(methods[name]["top1"], 2, 100) for name in ("DIAM", "random"))
    return [
        "DIAM: mean top-1 %, MNIST",
        "DIAM 97.34, random 97.03 (12 targets, 3,000 labels up, 1 seed)",
        f"DIAM {diam}, random {random} (4 targets, 200 to 600 labels)",
        "no method beats random beyond what 3 seeds can show",
    ]


def _exits_and_server(published: Path) -> list[str]:
    rules = read(published / "cifar10-exits-and-server" / "report.json")["grid"]
    names = {"both, margin": "margin", "exits alone": "exits only", "always asking": "always"}
    values = {k: cascade.risk(cascade.rule_named(rules["rules"], n), 4) for k, n in names.items()}
    return [
        "exits and server: risk, CIFAR-10 (JPEG copies), mean of ten c_e",
        DASH,
        "; ".join(f"{label} {value}" for label, value in values.items()),
        "exits and server together are better than either",
    ]


def folders(published: Path) -> str:
    """Folder, study, commits, seeds, hardware, and the files that it holds."""
    rows = []
    for folder in sorted(path for path in published.iterdir() if path.is_dir()):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        entries = [entry for path in files for entry in _entries(path)]
        seeds = sorted({entry["args"]["seed"] for entry in entries if "args" in entry})
        commits = dict.fromkeys(entry["commit"][:7] for entry in entries)
        machines = dict.fromkeys(entry["hardware"] for entry in entries)
        kinds = Counter(re.sub(r"^[\w+-]*-(?=\w+\.(json|npz)$)", "*-", p.name) for p in files)
        held = ", ".join(f"{count} `{name}`" for name, count in sorted(kinds.items()))
        size = number(sum(path.stat().st_size for path in files) / 1e6, 1)
        rows.append(
            [
                f"`{folder.name}`",
                STUDIES.get(folder.name, ""),
                ", ".join(commits),
                ", ".join(map(str, seeds)) or DASH,
                "; ".join(machines),
                f"{held} ({size} MB)",
            ]
        )
    return markdown(["folder", "study", "commit", "seeds", "hardware", "files"], rows)


def _entries(path: Path) -> list[Entry]:
    """Records with commit and hardware in a file: the runs of args.json, or a result itself."""
    if path.suffix != ".json":
        return []
    content = read(path)
    if path.name.endswith("args.json"):
        return list(content.values())
    if made := re.match(r"Run at commit (\w+), (.*)\.$", content.get("made_by", "")):
        return [{"commit": made[1], "hardware": made[2]}]
    return [content] if isinstance(content.get("hardware"), str) else []
