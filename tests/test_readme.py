"""Every command of the README exists and takes the flags that it is shown with."""

import csv
import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from active_learning.strategies import METHODS
from tests.active_learning.made_study import write_round

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SCRIPTS = ("train_localnet", "train_edgenet_async", "train_rejector", "eval_all", "eval_fprint")


# Modules whose commands are parsed here and run in tests of their own.
PARSED = ("early_exit.train", "early_exit.eval", "early_exit.infer", "data.partition")
PARSED += (
    "data.text.made_task",
    "deferral.join",
    "figures.exits_and_server",
)
PARSED += tuple(f"active_learning.{s}" for s in ("al_select", "train_net", "test_multi_models"))
EXITS = ROOT / "results" / "published" / "cifar10-exits"


def commands():
    """(environment, words) of every line of the bash blocks."""
    for block in re.findall(r"```bash\n(.*?)```", README, re.S):
        for line in block.splitlines():
            words = shlex.split(line)
            environment = {}
            while "=" in words[0] and not words[0].startswith("-"):
                name, _, value = words.pop(0).partition("=")
                environment[name] = value
            yield environment, words


ALL = list(commands())


def test_there_are_commands():
    assert len(ALL) >= 15
    assert ALL[0] == ({}, ["bash", "quickstart.sh"])
    assert ALL[1] == ({}, ["bash", "test.sh"])


@pytest.mark.parametrize(("environment", "words"), ALL, ids=lambda x: " ".join(x)[:60])
def test_command(environment, words, trained, tmp_path, capsys):
    if words[0] == "bash":
        script = ROOT / words[1]
        subprocess.run(["bash", "-n", script], check=True)
        if words[1] == "active_learning/iter_all.sh":
            assert words[2] == "cpu" or words[2].isdigit()
            assert int(words[3]) >= 2
            assert len(words) <= 5
            assert set(environment) <= set(re.findall(r"^#   ([A-Z]+)", script.read_text(), re.M))
            for name, module in (("EXTRA", "train_net"), ("CASCADE", "test_multi_models")):
                parse = importlib.import_module(f"active_learning.{module}").parse_args
                parse(shlex.split(environment.get(name, "")))
            for name in shlex.split(environment.get("METHODS", "")):
                assert name in METHODS
            return
        pipeline = "pipeline.sh" in script.read_text()
        assert len(words) == (3 if pipeline else 2)
        heads = script.read_text() + (script.parent / "pipeline.sh").read_text() * pipeline
        told = re.findall(r"^#   ([A-Z_]+)", heads, re.M)
        assert (
            set(environment) <= {*told, "SEEDS", "LOCAL_CLASSES"} if pipeline else not environment
        )
        study = words[1].startswith("early_exit/")
        for name, of_study in (("EXTRA", study), ("EXTRA_EXITS", True)):
            if name in environment:
                module = "early_exit.train" if of_study else "train_edgenet_async"
                importlib.import_module(module).parse_args(shlex.split(environment[name]))
    elif words[0] == "torchrun":
        assert words[1:5] == ["--nproc_per_node", "8", "-m", "early_exit.train"]
        importlib.import_module(words[4]).parse_args(words[5:])
    elif words[1] == "-m" and words[2] in PARSED:
        importlib.import_module(words[2]).parse_args(words[3:])
    elif words[1] == "-m" and words[2] in ("active_learning.plot", "active_learning.table"):
        write_round(tmp_path)
        importlib.import_module(words[2]).main([str(tmp_path), "--out", str(tmp_path / "out")])
        assert list((tmp_path / "out").iterdir())
    elif words[1] == "-m" and words[2] == "figures.early_exit":
        importlib.import_module(words[2]).main([str(EXITS), "--out", str(tmp_path)])
        assert list(tmp_path.iterdir())
    elif words[:2] == ["python", "-m"]:
        packages = ("figures", "deferral.report")
        name = f"{words[2]}.__main__" if words[2] in packages else words[2]
        module = importlib.import_module(name)
        module.main([str(trained), "--out", str(tmp_path), *words[4:]])
        assert list(tmp_path.iterdir())
    else:
        name = words[1].removesuffix(".py")
        assert name in SCRIPTS
        importlib.import_module(name).parse_args(words[2:])


def test_every_script_figure_and_pipeline_is_named():
    named = (
        [f"{s}.py" for s in SCRIPTS]
        + [f"early_exit/{p.name}" for p in ROOT.glob("early_exit/*-*.sh")]
        + [p.name for p in ROOT.glob("*-*.sh")]
        + [f"active_learning/{p.name}" for p in ROOT.glob("active_learning/*.sh")]
        + ["eval.sh", "plot.sh", "compare.sh", "early_exit/compare.sh"]
    )
    assert [n for n in named if n not in README] == []


def test_what_is_linked_is_there():
    for target in re.findall(r"\]\(([^)#][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_what_is_quoted_in_code_is_there():
    """File names in backquotes that hold no placeholder are files of the repository."""
    made = {"predictions.npz", "release.pth", "performances.json", "performances.txt"}
    for text in re.findall(r"`([\w./-]+\.(?:py|sh|md|cff|json|txt))`", README):
        assert text in made or (ROOT / text).exists(), text


def test_what_is_claimed_of_the_digits_is_published():
    """Below never and always in each of 24 settings and 3 seeds, below confidence in 61 of 72."""
    folder = ROOT / "results" / "published" / "digits"
    files = [folder / "digits-eval_all.json"]
    files += [folder / f"seed-{seed}" / "digits-eval_all.json" for seed in (44, 45)]
    risks = [row["risk"] for file in files for row in json.loads(file.read_text()).values()]
    assert len(risks) == 72
    assert all(r["rejector"] < min(r["all_local"], r["all_remote"]) for r in risks)
    below = sum(r["rejector"] < r["confidence"] for r in risks)
    assert f"in {below} of the 72 below the confidence threshold" in README
    mean = sum(r["rejector"] for r in risks) / 72
    assert f"rejector {mean:.3f} ±" in README


def test_what_is_claimed_of_cifar10_is_published():
    """Every number of the table of all rules is the published report's."""
    folder = ROOT / "results" / "published" / "cifar10-compare"
    report = json.loads((folder / "report.json").read_text())
    costs = [(1, 0.25), (1.25, 0), (1.25, 0.25)]
    at = {
        (s["cost_1"], s["cost_e"]): {r["name"]: r for r in s["rules"]} for s in report["settings"]
    }
    grid = {rule["name"]: rule for rule in report["grid"]["rules"]}
    assert len(report["grid"]["costs"]) == 42
    assert report["data"]["seeds"] == [0, 1, 2]
    rows = re.findall(r"^\| `([^`]+)` \| (0\.\d+ ± .*) \|$", README, re.M)
    assert {name for name, _ in rows} == set(at[costs[0]])
    for name, text in rows:
        cells = [cell.strip() for cell in text.split("|")]
        for pair, cell in zip(costs, cells, strict=False):
            rule = at[pair][name]
            assert cell == f"{rule['risk']:.3f} ± {rule['risk_std']:.3f}", (name, pair)
        mean = grid.get(name, {}).get("risk")
        if mean is not None:
            assert cells[3] == f"{mean:.4f} ± {grid[name]['risk_std']:.4f}"
            shown = [float(x.replace("−", "-")) for x in re.findall(r"[−+]\d\.\d+", cells[5])]
            keys = ("difference", "difference_low", "difference_high")
            assert shown == [round(grid[name][k], 4) for k in keys] or name == "margin"
            assert grid[name]["difference_verdict"] in cells[5] or name in ("margin", "oracle")
        assert cells[7] == (f"{rule['multiply_adds']:,}" if rule["multiply_adds"] else "")
    lowest = min(
        (r for r in grid.values() if r["kind"] != "oracle" and r["risk"]), key=lambda r: r["risk"]
    )
    assert rows[0][0] == lowest["name"] == "amortized, both"


def test_what_is_claimed_of_the_nines_is_published():
    report = json.loads((ROOT / "results/published/digits-noniid/report.json").read_text())
    classes = report["classes"]["classes"]
    unseen, seen = ([c for c in classes if c["seen"] == known] for known in (False, True))
    sent, total = (sum(c[key] for c in unseen) for key in ("sent", "total"))
    assert f"({sent} of {total})" in " ".join(README.split())
    rest = sum(c["sent"] for c in seen) / sum(c["total"] for c in seen)
    assert f"{100 * rest:.1f} % of the rest" in " ".join(README.split())
    at = {
        (s["cost_1"], s["cost_e"]): {r["name"]: r for r in s["rules"]} for s in report["settings"]
    }
    found = [at[1.25, 0.25][name] for name in ("stage_switching", "margin")]
    own, best = (f"{r['risk']:.3f} ± {r['risk_std']:.3f}" for r in found)
    assert f"its risk is {own} against {best}" in " ".join(README.split())


def test_what_is_claimed_of_the_asynchronous_study_is_published():
    """Refreshes, megabytes, and the mean risk of three cost pairs, over three seeds."""
    rows = re.findall(r"^\| (\S[^|]*?) \| (\d\S* \| \d\S* \| 0\.\d+ ± .*) \|$", README, re.M)
    claimed = {name.replace("\\", ""): cells.split(" | ") for name, cells in rows}
    checked = 0
    for column, link in ((0, "up"), (3, "outage")):
        found = {}
        for seed in (43, 44, 45):
            path = (
                ROOT / f"results/published/digits-async/{link}/seed-{seed}/digits-async_study.csv"
            )
            with open(path) as f:
                for row in csv.DictReader(f):
                    found.setdefault(row["refresh"], {}).setdefault(seed, []).append(row)
        for name in ("1", "10", "100", "adaptive, 0.02", "adaptive, 0.1"):
            each = list(found[name].values())
            assert all(len(rows) == 3 for rows in each)
            risk = np.mean([[float(r["risk_rejector"]) for r in rows] for rows in each], axis=1)
            refreshes = np.mean([float(rows[0]["refreshes"]) for rows in each])
            sent = np.mean([float(rows[0]["bytes_sent"]) for rows in each]) / 1e6
            expected = [f"{round(refreshes, 1):g}", f"{sent:.1f}"]
            expected.append(f"{risk.mean():.3f} ± {risk.std(ddof=1):.3f}")
            assert claimed[name][column : column + 3] == expected, (link, name)
            checked += 1
    assert checked == 10


def test_what_is_claimed_of_early_exits_is_published():
    """Accuracy of each exit, at half of the full cost, and the area: mean ± std of three seeds."""
    rows = re.findall(r"^\| `(base|boosted)` \| (\d\S* ± .*) \|$", README, re.M)
    assert [name for name, _ in rows] == ["base", "boosted"]
    for method, cells in rows:
        files = [EXITS / method / f"seed-{seed}" / "cifar10-eval.json" for seed in (0, 1, 2)]
        runs = [json.loads(file.read_text()) for file in files]
        assert [(run["method"], run["seed"]) for run in runs] == [(method, k) for k in (0, 1, 2)]
        numbers = [[row["accuracy"] for row in run["anytime"]] for run in runs]
        for found, run in zip(numbers, runs, strict=True):
            found += [run["at_share"]["0.5"], run["area"]]
        columns = 100 * np.array(numbers)
        expected = [f"{c.mean():.1f} ± {c.std(ddof=1):.1f}" for c in columns.T]
        assert cells.split(" | ") == expected, method


def test_what_is_claimed_of_exits_and_a_server_is_published():
    """Risk, difference with its interval, share sent, accuracy, multiply-adds of nine rules."""
    folder = ROOT / "results" / "published" / "cifar10-exits-and-server"
    with open(folder / "cifar10-exits_and_server.csv") as file:
        found = {row["label"]: row for row in csv.DictReader(file)}
    rules = {
        "last exit alone": "never",
        "first exit alone": "exit 1",
        "server always": "always",
        "exits, never asking": "exits only",
        "max softmax at exits and for the server": "max softmax",
        "margin at exits and for the server": "margin",
        "optimum (dynamic programming)": "optimum",
        "rejector on the last features": "amortized, features",
        "oracle (sees labels)": "oracle",
    }
    for said, rule in rules.items():
        row = found[rule]
        verdict = {"–": "", "better": ""}.get(row["verdict"], row["verdict"])
        number = {key: float(row[key]) for key in row if key not in ("label", "verdict")}
        apart = "{difference:+.4f} [{low:+.4f}, {high:+.4f}]".format(**number)
        shares = f"{100 * number['sent']:.1f} | {100 * number['accuracy']:.1f}"
        cells = [
            said,
            f"{number['risk']:.4f} ± {number['risk_std']:.4f}",
            "" if rule == "margin" else apart,
            verdict,
            f"{shares} | {number['multiply_adds'] / 1e6:.2f}",
        ]
        line = f"| {' | '.join(cells)} |"
        assert re.sub(r" +", " ", line) in README, line


def test_what_is_claimed_of_the_made_up_task_is_published():
    folder = ROOT / "results" / "published" / "made-task-bert"
    for method, label in (("base", "base"), ("l2w", "L2W (`--meta_interval 4`)"), ("boosted",) * 2):
        files = [folder / method / f"seed-{seed}" / "SST-2-eval.json" for seed in (0, 1, 2)]
        runs = [json.loads(file.read_text()) for file in files]
        numbers = [[row["accuracy"] for row in run["anytime"]] for run in runs]
        for found, run in zip(numbers, runs, strict=True):
            found += [run["at_share"]["0.5"], run["area"]]
        columns = 100 * np.array(numbers)
        cells = [f"{c.mean():.1f} ± {c.std(ddof=1):.1f}" for c in columns.T]
        assert f"| {label} | {' | '.join(cells)} |" in README
    infer = json.loads((folder / "base" / "seed-0" / "SST-2-infer.json").read_text())
    speed = {(r["way"], r["q"]): r for r in infer["latency"] if r["batch_size"] == 256}
    pair = speed["early exit", 0.5], speed["all exits", None]
    said = "{:,.0f} texts a second instead of {:,.0f}".format(
        *(row["images_per_second"] for row in pair)
    )
    assert said in " ".join(README.split())


def test_what_is_claimed_of_early_exit_speed_is_published():
    """The ratios of the meta-gradient, and images a second of every flag."""
    folder = ROOT / "results" / "published" / "benchmarks"
    text = " ".join(README.split())
    ratio = json.loads((folder / "meta_gradient-cpu.json").read_text())["ratios"]
    assert f"takes {ratio['time']:.2f} of the time and {ratio['memory']:.2f} of the memory" in text
    assert f"weight net alone, {ratio['time, pruned']:.2f} of the time" in text
    step = f"took {ratio['step time']:.2f} of the time and {ratio['step memory']:.2f} of the"
    assert step in text
    speed = json.loads((folder / "early_exit_speed-cpu.json").read_text())["methods"]
    for method, ways in speed.items():
        cells = [
            f"{way['images_per_second']:.1f}"
            + ("" if name == "plain" else f" ({way['ratio']:.2f})")
            for name, way in ways.items()
        ]
        assert f"| `{method}` | {' | '.join(cells)} |" in README
    ratios = json.loads((folder / "early_exit_speed-cpu.json").read_text())["l2w_to_base"]
    for n in ("1", "2", "10", "100"):
        cells = " | ".join(f"{row['by_meta_interval'][n]:.2f}" for row in ratios.values())
        assert f"| l2w : base, `--meta_interval {n}` | {cells} |" in README
    cells = " | ".join(f"{row['to_plain_base']['1']:.2f}" for row in ratios.values())
    assert f"| l2w : plain base | {cells} |" in README
    compiled = json.loads((folder / "early_exit_speed-compile-cpu.json").read_text())["methods"]
    for method, ways in compiled.items():
        names = ("ours", "compile", "channels_last bf16 compile")
        cells = " | ".join(f"{ways[name]['ratio']:.2f}" for name in names)
        assert f"| compiled, `{method}` | {cells} |" in README
    low, high = ratios["ours"]["range"]
    assert f"(l2w : base from {low:.2f} to {high:.2f} in `ours`)" in text
    counted = json.loads((folder / "early_exit_speed-cpu.json").read_text())["multiply_adds"]
    base = counted["ours, base"]
    assert f"the authors' way is {counted['plain, l2w'] / base:.2f} times base" in text


def test_what_is_claimed_of_a_step_and_of_evaluation_is_published():
    folder = ROOT / "results" / "published" / "benchmarks"
    text = " ".join(README.split())
    floor = json.loads((folder / "floor-cpu.json").read_text())
    rate = floor["rates"]
    said = f"{rate['float32'] / 1e12:.2f} Tflop/s in float32, {rate['bf16'] / 1e12:.2f} in bfloat16"
    assert f"{said} and {rate['bytes'] / 1e9:.0f} GB/s" in text
    for row in floor["rows"]:
        way = row["way"] + (f", {row['settings']} settings" if row["settings"] > 1 else "")
        cells = [f"{row[k]:.1f}" for k in ("ms", "floor_ms", "times_floor")]
        cells.append(f"{row['plain_over_ms']:.2f}")
        assert f"| {row['net']}, {way} | {' | '.join(cells)} |" in README
    for row in floor["protocol"]:
        hours = f"{row['hours']:.1f} hours instead of {row['plain_hours']:.0f}"
        assert f"`{row['net']}` {hours}" in text
    found = json.loads((folder / "evaluation-cpu.json").read_text())
    for row in found["rows"]:
        edge, whole = (np.median(row[f"{k}_seconds"]) for k in ("edge", "evaluate"))
        adds = row["multiply_adds"]
        least = 1 + (adds["local"] + found["settings"] * adds["rejector"]) / adds["edge"]
        cells = [row["edge_net"], f"{row['images']:,}", f"{edge:.2f}", f"{whole:.2f}"]
        cells.append(f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})")
        assert f"| {' | '.join(cells)} | {least:.2f} |" in README


def test_what_is_claimed_of_bf16_is_published():
    folder = ROOT / "results" / "published" / "cifar10-bf16"
    accuracy, risk = {}, {}
    for way in ("bf16", "f32"):
        runs = [json.loads((folder / way / f"seed-{s}" / "cifar10-eval_all.json").read_text())
                for s in range(3)]  # fmt: skip
        settings = [[*run.values()] for run in runs]
        accuracy[way] = np.array([s[0]["edge"]["correct"] / 100 for s in settings])
        risk[way] = np.array([np.mean([x["risk"]["rejector"] for x in s]) for s in settings])

    def both(found, digits):
        cells = [f"{x.mean():.{digits}f} ± {x.std(ddof=1):.{digits}f}" for x in found.values()]
        return " against ".join(cells)

    text, gain = " ".join(README.split()), accuracy["bf16"] - accuracy["f32"]
    assert f"the edge {both(accuracy, 1)} % on test" in text
    assert f"a difference of {gain.mean():+.1f} ± {gain.std(ddof=1):.1f} points" in text
    assert f"mean risk of the rejectors {both(risk, 3)}" in text


def test_what_is_claimed_of_active_learning_is_published():
    """The README's table is the published one, and that follows from every run's accuracies."""
    folder = ROOT / "results" / "published" / "mnist-active"
    table = (folder / "mnist10k-4-methods.md").read_text().splitlines()
    rows = [line for line in table if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(METHODS)
    result = json.loads((folder / "mnist10k-4-methods.json").read_text())
    for row in rows:
        assert row in README
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        found = result["methods"][cells[0]]
        means = []
        for rounds in found["runs"].values():
            used = [rounds[str(r)]["top1"] for r in result["rounds"]]
            assert all(len(top1) == 4 for top1 in used)
            means.append(100 * np.mean(used))
        told = [float(x) for x in cells[2].split(" ± ")]
        spread = [np.std(means, ddof=1)] if len(means) > 1 else []
        assert cells[1] == str(len(means))
        assert told == pytest.approx([np.mean(means), *spread], abs=0.0051)


def test_what_is_claimed_of_k_center_is_published():
    folder = ROOT / "results" / "published" / "benchmarks"
    found = json.loads((folder / "kcenter-cpu.json").read_text())["features"]
    text = " ".join(README.split())
    for ways in found.values():
        steps, matrix = (ways[name] for name in ("steps", "matrix"))
        ours = ways["ours"]
        said = f"{ours['median']:.1f} s and {ours['most_bytes'] / 1e6:.0f} MB"
        said += f" ({steps['ratio']:.0f} times less than step by step, {matrix['ratio']:.0f} than"
        assert said in text, said


def test_what_is_said_of_single_targets_is_published():
    """The prose on active learning: last rounds, the unseen nets, the cascade's risk."""
    path = ROOT / "results" / "published" / "mnist-active" / "mnist10k-4-methods.json"
    result = json.loads(path.read_text())
    text = " ".join(README.split())

    def percent(key, net, *rounds):
        """By method: the mean over seeds and rounds of one net."""
        return {
            method: 100
            * np.mean([run[str(r)][key][net] for run in found["runs"].values() for r in rounds])
            for method, found in result["methods"].items()
        }

    def between(values, *without):
        low_high = [v for method, v in values.items() if method not in ("random", *without)]
        return f"{min(low_high):.1f} to {max(low_high):.1f}"

    lenet, shuffle, convnet = (percent("top1", net, 5) for net in (0, 1, 3))
    said = f"`convnet` is at {convnet['random']:.1f} % with random labels and at {between(convnet)}"
    assert said in text
    assert f"LeNet-5 at {lenet['random']:.1f} and {between(lenet)}" in text
    assert f"is at {shuffle['random']:.1f} % with random" in text
    said = f"{shuffle['CAL']:.1f} with `CAL`, {shuffle['risk']:.1f} with `risk`, and at "
    assert said + between(shuffle, "CAL", "risk") in text
    mnasnet, small = (percent("unseen_top1", net, *range(6)) for net in (0, 1))
    assert f"{small['random']:.1f} % on the mean over rounds with random labels" in text
    assert f"{between(small)} % with the others" in text
    assert f"({min(mnasnet.values()):.0f} to {max(mnasnet.values()):.0f} %)" in text
    risks = {method: np.mean(found["risk"]) for method, found in result["methods"].items()}
    others = [r for method, r in risks.items() if method != "random"]
    said = f"risk {risks['random']:.4f} with random labels, {min(others):.4f} to {max(others):.4f}"
    assert said in text
    versus = {m: f["versus_random"] for m, f in result["methods"].items() if m != "random"}
    assert all(one["risk"]["high"] < 0 for one in versus.values())
    ours = versus["risk"]["risk"]
    told = [f"{ours[k]:.4f}" for k in ("difference", "low", "high")]
    assert f"({risks['risk']:.4f}; {told[0]}, {told[1]} to {told[2]})" in text
    assert f"{risks['entropy']:.4f}) or `DIAM` ({risks['DIAM']:.4f}" in text
    p = [one["top1"]["p_holm"] for m, one in versus.items() if len(one["top1"]["seeds"]) == 3]
    assert len(p) == 7
    assert min(p) == 1


def test_what_is_said_of_a_round_with_the_published_targets_is_published():
    path = ROOT / "results" / "published" / "benchmarks" / "active_round-cpu.json"
    found = json.loads(path.read_text())
    ours, plain = (found["extrapolated"][way] for way in ("ours", "plain"))
    ours, plain = ([f"{s / 60:,.0f}" for s in way.values()] for way in (ours, plain))
    said = f"{ours[0]} minutes to train and {ours[1]} to ask 40,000 images, in plain memory order "
    assert said + f"{plain[0]} and {plain[1]}." in " ".join(README.split())
