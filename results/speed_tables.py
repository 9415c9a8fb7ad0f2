"""Tables of docs/speed.md."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from results.text import interval, markdown, number, ratio, read

Entry = dict[str, Any]


def benchmark(published: Path, name: str) -> Entry:
    return read(published / "benchmarks" / f"{name}-cpu.json")


def sweep(published: Path) -> str:
    """One pass for all settings against a plain run each; medians of 5 rounds."""
    rows = [
        [
            row["name"],
            number(row["plain_ms"], 2),
            number(row["ours_ms"], 2),
            row["runs"],
            ratio(row["ratio"], row["ratio_min"], row["ratio_max"], 1),
        ]
        for row in benchmark(published, "sweep")["rows"]
    ]
    return markdown(["", "plain, ms a step", "ours, ms a step", "runs", "ratio"], rows)


def paper_hours(published: Path) -> str:
    """The paper's protocol on CIFAR-10, extrapolated from steps: 15 epochs at batch 16."""
    rows = []
    for row in benchmark(published, "sweep")["rows"]:
        if row["name"] == "alexnet edge, 42 settings":
            hours = 15 * math.ceil(45000 / 16) / 3.6e6
            cells = [number(hours * row["ours_ms"], 1), number(hours * 42 * row["plain_ms"])]
            rows.append(["alexnet", "42 cost settings", *cells])
    for row in benchmark(published, "floor")["protocol"]:
        cells = [number(row["hours"], 1), number(row["plain_hours"])]
        rows.append([row["net"], "42 cost and 12 asynchronous settings", *cells])
    return markdown(["edge net", "settings", "hours", "hours as plain runs"], rows)


def amortized(published: Path) -> str:
    """One rejector for all costs against 42 stacked ones."""
    one = benchmark(published, "amortized")
    cells = [number(one["one_a_cost_seconds"]), number(one["amortized_seconds"], 1)]
    low, high = one["ratio_range"]
    cells.append(ratio(one["ratio"], low, high, 0))
    return markdown(["42 stacked rejectors, s", "one for all costs, s", "ratio"], [cells])


def report(published: Path) -> str:
    """A whole report, from the start of the process."""
    one = benchmark(published, "report")
    whole = f"predictions.npz, {number(one['test'])} test images, {one['settings']} settings"
    rows = [[whole, *_seconds_and_memory(one)]]
    for file in one.get("files", []):
        what = f"CSV, {number(file['rows'])} rows, {number(file['classes'])} classes"
        rows.append([what, *_seconds_and_memory(file)])
    return markdown(["input", "seconds", "highest memory, MB"], rows)


def _seconds_and_memory(one: dict) -> list[str]:
    seconds = ratio(one["median"], min(one["seconds"]), max(one["seconds"]), 1)
    return [seconds, number(one["megabytes"]) if "megabytes" in one else "–"]


def floor(published: Path) -> str:
    """A training step against what the hardware allows."""
    rows = []
    for row in benchmark(published, "floor")["rows"]:
        settings = f", {row['settings']} settings" if row["settings"] > 1 else ""
        way = row["way"].removesuffix(settings) + settings
        cells = [number(row[key], 1) for key in ("ms", "floor_ms", "times_floor")]
        rows.append([f"{row['net']}, {way}", *cells, number(row["plain_over_ms"], 2)])
    heads = ["net, way", "ms a step", "floor, ms", "times its floor", "plain / ms"]
    return markdown(heads, rows)


def stream(published: Path) -> str:
    """Training on pictures in files: images a second and memory, by number of pictures."""
    found = benchmark(published, "stream")
    names = {
        "plain": "plain, 1 setting",
        "ours": f"ours, {found['settings']} settings",
        "local": "the local net's pass, once",
    }
    frame = pd.DataFrame(found["rows"])
    rows = []
    for way, name in names.items():
        cells = []
        for row in frame[frame.way == way].sort_values("pictures").to_dict("records"):
            cells += [number(median(row["images_per_second"]), 1), number(row["megabytes"])]
        rows.append([name, *cells])
    counts = sorted(set(frame.pictures))
    heads = [f"{what}, {number(n)} pictures" for n in counts for what in ("images a second", "MB")]
    return markdown(["", *heads], rows)


def processes(published: Path) -> str:
    """Images a second by number of processes, and how many times those of one."""
    found = benchmark(published, "processes")
    rows, one = [], median(found["rows"][0]["images_a_second"])
    for row in found["rows"]:
        rates = row["images_a_second"]
        middle = median(rates)
        rate = f"{number(middle)} ({number(min(rates))} to {number(max(rates))})"
        rows.append([row["processes"], rate, number(middle / one, 2)])
    return markdown(["processes", "images a second", "times one"], rows)


def decoders(published: Path) -> str:
    """Milliseconds to decode a JPEG, and the ratio of the two decoders."""
    times: dict[int, dict[str, list[float]]] = {}
    for row in benchmark(published, "stream")["decoders"]:
        times.setdefault(row["size"], {})[row["way"]] = row["milliseconds"]
    rows = []
    for size, of in times.items():
        ours, other = of["Pillow"], of["torchvision.io"]
        ratios = sorted(a / b for a, b in zip(ours, other, strict=True))
        cells = [number(median(ours), 2), number(median(other), 2)]
        rows.append([f"{size} px", *cells, ratio(median(ratios), ratios[0], ratios[-1], 2)])
    return markdown(["JPEG", "Pillow, ms", "`torchvision.io`, ms", "ratio"], rows)


def evaluation(published: Path) -> str:
    """eval_all.py for 54 settings against one forward pass of the edge net."""
    found = benchmark(published, "evaluation")
    rows = []
    for row in found["rows"]:
        adds = row["multiply_adds"]
        others = adds["local"] + found["settings"] * adds["rejector"]
        cells = [number(median(row[key]), 2) for key in ("edge_seconds", "evaluate_seconds")]
        cells.append(ratio(row["ratio"], row["ratio_min"], row["ratio_max"], 2))
        cells += [number(1 + others / adds["edge"], 2), number(row["parts"]["rejectors"], 1)]
        rows.append([row["edge_net"], number(row["images"]), *cells])
    heads = ["edge net", "images", "edge alone, s", "all of it, s", "ratio", "at equal rates"]
    return markdown([*heads, "of it rejectors, s"], rows)


def scale(published: Path) -> str:
    """Time and memory of a step at the most settings; the formula's memory against the peak."""
    frame = pd.DataFrame(benchmark(published, "scale-settings")["rows"])
    frame["ms"] = frame.milliseconds.map(median)
    rows = []
    for net, part in frame.groupby("group", sort=False):
        one_pass = part[part.way == "one pass"].sort_values("x")
        alone = part[part.way == "edge alone"].ms.iloc[0]
        for row in one_pass.to_dict("records"):
            cells = [number(row["ms"]), number(row["ms"] / alone, 1)]
            cells += [number(row["bytes"] / 1e9, 2)]
            cells += [number(row["predicted_bytes"] / row["bytes"], 3)]
            rows.append([net, row["x"], *cells])
    heads = ["edge net", "settings", "ms a step", "times the edge alone", "peak memory, GB"]
    return markdown([*heads, "formula / peak"], rows)


def meta_gradient(published: Path) -> str:
    """L2W's meta-gradient in forward mode against double backward."""
    ratios = benchmark(published, "meta_gradient")["ratios"]
    names = {
        "": "the meta-gradient, to double backward",
        ", pruned": "the meta-gradient, to double backward pruned to the weight net",
        "step": "a whole half batch of training, to double backward",
    }
    keys = {"": ("time", "memory"), ", pruned": ("time, pruned", "memory, pruned")}
    keys["step"] = ("step time", "step memory")
    rows = [[names[k], *(number(ratios[name], 2) for name in keys[k])] for k in names]
    return markdown(["forward mode", "time", "memory"], rows)


WAYS = {
    "plain": "plain",
    "ours": "ours",
    "channels_last": "`--channels_last`",
    "bf16": "`--bf16`",
    "channels_last bf16": "both",
}


def exit_speed(published: Path) -> str:
    """Images a second by method and way, and l2w's time in multiples of base's."""
    found = benchmark(published, "early_exit_speed")
    rows = []
    for method, ways in found["methods"].items():
        cells = [number(ways["plain"]["images_per_second"], 1)]
        for way in list(WAYS)[1:]:
            one = ways[way]
            cells.append(f"{number(one['images_per_second'], 1)} ({number(one['ratio'], 2)})")
        rows.append([f"`{method}`", *cells])
    times = found["l2w_to_base"]
    for every in ("1", "2", "10", "100"):
        cells = [number(times[way]["by_meta_interval"][every], 2) for way in WAYS]
        rows.append([f"l2w : base, `--meta_interval {every}`", *cells])
    rows.append(["l2w : plain base", *(number(times[w]["to_plain_base"]["1"], 2) for w in WAYS)])
    rows.append(["l2w : base, range", *(interval_of(times[way]["range"]) for way in WAYS)])
    return markdown(["", *WAYS.values()], rows)


def interval_of(pair: list[float]) -> str:
    return interval(pair[0], pair[1], 2).replace("+", "")


def exit_speed_compile(published: Path) -> str:
    """With --compile: multiples of the plain way's images a second."""
    methods = read(published / "benchmarks" / "early_exit_speed-compile-cpu.json")["methods"]
    ways = {
        "ours": "ours",
        "compile": "`--compile`",
        "channels_last bf16 compile": "`--channels_last --bf16 --compile`",
    }
    rows = [[f"`{m}`", *(number(of[way]["ratio"], 2) for way in ways)] for m, of in methods.items()]
    return markdown(["", *ways.values()], rows)


def kcenter(published: Path) -> str:
    """Greedy k-center: seconds and memory, and the ratio to ours."""
    names = {"ours": "ours", "steps": "step by step", "matrix": "full matrix of distances"}
    rows = []
    for features, ways in benchmark(published, "kcenter")["features"].items():
        for way, name in names.items():
            one = ways[way]
            cells = [number(one["median"], 1), number(one["most_bytes"] / 1e6)]
            rows.append([features, name, *cells, number(one["ratio"])])
    return markdown(["features", "way", "seconds", "MB", "times ours"], rows)
