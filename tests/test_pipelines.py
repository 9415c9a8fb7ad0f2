"""The shell chains once, small: FAST=1 on made-up pictures, to their tables and figures.

Their scripts are processes of the fixture `python`, which starts them at once. The quick start,
which Python itself runs, has a file of its own.
"""

import functools
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deferral import predictions as saved
from early_exit.flags import arch_settings
from models.cost import parameters
from models.exit_nets import EXIT_NETS
from tests.made import make_npz

ROOT = Path(__file__).resolve().parent.parent
FEW = "--epochs 1 --edge_net mobilenet_v3_small --device cpu"


def bash(script, *args, **environment):
    env = os.environ | {"PYTHON": sys.executable, "DATASETS": "digits", "FAST": "1"} | environment
    return subprocess.run(
        ["bash", script, *map(str, args)], cwd=ROOT, env=env, capture_output=True, text=True
    )


def ok(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def chain(python, tmp_path_factory):
    """`bash` with a quick Python, on 120 pictures of 10 classes."""
    tiny = make_npz(tmp_path_factory.mktemp("data") / "tiny.npz", classes=10)
    few = {"PYTHON": python, "DATASETS": str(tiny), "EXTRA_LOCAL": "--epochs 1"}
    return functools.partial(bash, **few)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


def test_conf_score(run, chain):
    """One EXTRA for the three scripts of the chain, flags of training in it."""
    ok(chain("train-conf-score.sh", run, EXTRA=FEW))
    ok(chain("eval.sh", run, EXTRA=FEW))
    said = ok(chain("plot.sh", run, EXTRA=FEW))
    assert "max softmax" in said
    folder = run / "conf-score"
    assert len(list(folder.glob("tiny-edgenet-async-1-*.pth"))) == 42
    names = {p.name for p in (folder / "figures").iterdir()}
    for figure in ("risk", "reject_rate", "bounded_rate", "examples"):
        assert {f"tiny-{figure}.pdf", f"tiny-{figure}.png"} <= names
    for table in ("summary_table", "stage_table"):
        assert {f"tiny-{table}.{kind}" for kind in ("md", "tex", "csv")} <= names


def test_again_it_skips_what_is_complete(run, chain):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.pth")}
    said = ok(chain("train-conf-score.sh", run, EXTRA=FEW))
    assert said.count(": complete") == 2
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.pth")} == before


def test_async(run, chain):
    ok(chain("train-async.sh", run, EXTRA=FEW))
    ok(chain("eval-async.sh", run))
    ok(chain("plot-async.sh", run))
    folder = run / "async"
    assert len(list(folder.glob("tiny-edgenet-async-*.pth"))) == 12
    names = {p.name for p in (folder / "figures").iterdir()}
    assert {"tiny-loss_curves.pdf", "tiny-stage_table_async.tex"} <= names


def test_noniid(tmp_path, chain):
    """A local net of its own, on some classes; edge and test keep all ten."""
    run = tmp_path / "run"
    assert "max softmax" in ok(chain("runs/noniid.sh", run, EXTRA=FEW, LOCAL_CLASSES="0-7"))
    assert {p.name for p in run.iterdir()} == {"noniid", "noniid-localnet"}
    predictions = saved.load(run / "noniid" / "tiny-predictions.npz")
    assert predictions.settings["local_classes"] == list(range(8))
    assert set(predictions.part("test").labels) == set(range(10))
    costs = {(s["cost_1"], s["cost_e"]) for s in predictions.settings["rejectors"]}
    assert costs >= {(1, 0.25), (1.25, 0), (1.25, 0.25)}
    names = {p.name for p in (run / "noniid" / "figures").iterdir()}
    assert {f"tiny-per_class.{kind}" for kind in ("pdf", "png", "md", "tex", "csv")} <= names


@pytest.fixture
def dry(tmp_path):
    """The environment of a pipeline whose Python prints its arguments instead of running them."""
    (tmp_path / "dry").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "dry").chmod(0o755)
    return {"PYTHON": str(tmp_path / "dry")}


def test_which_local_net(dry):
    """The non-IID study trains a local net of its own, on LOCAL_CLASSES (0-8 by default)."""
    environment = dry | {"EXTRA_LOCAL": "--lr 1", "localnet": "elsewhere"}
    local, edge, *_ = ok(bash("runs/noniid.sh", "a/run", **environment)).splitlines()
    assert "--save_dir a/run/noniid-localnet --resume" in local
    assert local.endswith("--local_classes 0-8 --lr 1")
    assert "--save_dir a/run/noniid --resume" in edge
    assert "--local_path a/run/noniid-localnet/digits-localnet.pth" in edge
    assert "local_classes" not in edge
    environment["LOCAL_CLASSES"] = "0,2"
    local, *_ = ok(bash("runs/noniid.sh", "a/run", **environment)).splitlines()
    assert "--local_classes 0,2 " in local
    local, edge = ok(bash("train-async.sh", "a/run", **environment)).splitlines()
    assert "--save_dir a/run/localnet --resume" in local
    assert "--local_path a/run/localnet/digits-localnet.pth" in edge
    assert "local_classes" not in local + edge


ROOT_SCRIPTS = ("train-conf-score", "eval", "plot", "train-async", "eval-async", "plot-async")
ROOT_SCRIPTS += ("train-edgeonly",)
RUNS = ("noniid", "compare", "exits-and-server", "l2w-cifar", "l2w-imagenet", "boosted-cifar")
RUNS += ("compare-exits",)
PIPELINES = [f"{name}.sh" for name in ROOT_SCRIPTS] + [f"runs/{name}.sh" for name in RUNS]


def test_these_are_all_scripts():
    at_root = {p.name for p in ROOT.glob("*.sh")}
    assert at_root == {f"{name}.sh" for name in (*ROOT_SCRIPTS, "quickstart", "test")}
    in_runs = {p.stem for p in (ROOT / "runs").glob("*.sh")}
    assert in_runs == {*RUNS, "common", "environment", "iter_all"}


@pytest.mark.parametrize("script", PIPELINES)
def test_without_a_run_from_another_directory(script, dry, tmp_path):
    """As the release's README has it, bash train-edgeonly.sh: RUN is results/runs/default."""
    done = subprocess.run(
        ["bash", ROOT / script],
        cwd=tmp_path, env=os.environ | {"DATASETS": "digits"} | dry, capture_output=True, text=True,
    )  # fmt: skip
    for line in ok(done).splitlines():
        assert " results/runs/default/" in line


def test_whose_flags_are_whose(dry):
    """EXTRA is for the edge's training, except what all take; EXTRA_EVAL is for the evaluation."""
    extra = "--epochs 2 --device cpu --batch_size 8 --data_root=/d --lr 0.1"
    environment = dry | {"EXTRA": extra, "EXTRA_EVAL": "--batch_size 50", "FAST": "0"}
    local, edge = ok(bash("train-async.sh", "r", **environment)).splitlines()
    assert local.endswith("/localnet --resume --device cpu --data_root=/d")
    assert edge.endswith(extra)
    evaluation = ok(bash("eval-async.sh", "r", **environment)).strip()
    assert evaluation.endswith("/async --resume --device cpu --data_root=/d --batch_size 50")
    assert ok(bash("plot-async.sh", "r", **environment)) == "-m figures results/runs/r/async\n"
    edge, evaluation = ok(bash("train-edgeonly.sh", "r", **environment)).splitlines()
    assert edge.endswith(f"--edge_only {extra}")
    assert evaluation.endswith("/edgeonly --resume --device cpu --data_root=/d --batch_size 50")
    lines = ok(bash("runs/compare-exits.sh", "r", **environment)).splitlines()
    for line in lines[:-1]:
        assert "--resume --device cpu --data_root=/d" in line
        assert line.endswith(extra) == ("early_exit.train" in line)


def test_several_seeds_have_local_nets_of_their_own(dry):
    environment = dry | {"EXTRA": "--lr 0.1 --seeds 3 4", "FAST": "0"}
    local, edge = ok(bash("train-async.sh", "r", **environment)).splitlines()
    assert local.endswith("--save_dir results/runs/r/async --resume --seeds 3 4")
    assert "--local_path" not in edge
    assert ok(bash("eval-async.sh", "r", **environment)).endswith("/async --resume --seeds 3 4\n")


REFUSED = {
    "--seeds has no effect here": [(s, {"EXTRA": "--seeds 3 4"}) for s in PIPELINES[8:]]
    + [("runs/iter_all.sh", {"EXTRA": "--seeds=3"})],
    "SEEDS has no effect here": [
        (s, {"SEEDS": "3 4"}) for s in (*PIPELINES[:2], *PIPELINES[3:5], *PIPELINES[6:8])
    ],
    "DATASETS: give ImageNet's folder": [("runs/l2w-imagenet.sh", {"DATASETS": ""})],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_effect_is_refused(message, dry):
    for script, environment in REFUSED[message]:
        args = ["cpu", "2"] if script == "runs/iter_all.sh" else []
        done = bash(script, *args, "r", **dry | environment)
        assert done.returncode == 2, script
        assert done.stderr.startswith("error: "), script
        assert message in done.stderr
        assert done.stdout == ""


def test_compare(tmp_path, chain):
    """Two seeds, all rules, one report."""
    data, run = make_npz(tmp_path / "tiny.npz", train=200), tmp_path / "run"
    ok(chain("runs/compare.sh", run, DATASETS=str(data), SEEDS="3 4", EXTRA=FEW))
    folder = run / "compare"
    report = json.loads((folder / "tiny-report.json").read_text())
    assert (folder / "tiny-report.html").exists()
    for seed in (3, 4):
        predictions = saved.load(folder / "tiny" / f"seed-{seed}" / "tiny-predictions.npz")
        assert predictions.settings["seed"] == seed
        assert len(predictions.settings["rejectors"]) == 42 + 2 * 8 + 3 * 3 * 42
        assert len(predictions.settings["estimators"]) == 2 + 3
    text = json.dumps(report)
    assert "amortized, both" in text
    assert "stage_switching, features" in text


def test_edge_only(run, chain):
    """On the edge net that FAST=1 takes by itself."""
    ok(chain("train-edgeonly.sh", run, EXTRA="--epochs 1"))
    asked = json.loads((run / "edgeonly" / "args.json").read_text())["tiny-edgenet"]["args"]
    assert asked["edge_net"] == "resnet18"
    assert (run / "edgeonly" / "tiny-eval_all.json").exists()


@pytest.mark.parametrize("script", [*PIPELINES, "runs/iter_all.sh"])
def test_usage(script):
    args = ["cpu", "2"] if script == "runs/iter_all.sh" else []
    done = bash(script, *args, "one", "two")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert f"bash {script}" in done.stderr


def test_a_stage_without_the_one_before(tmp_path, chain):
    done = chain("eval.sh", tmp_path / "run")
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "train_edgenet_async.py makes it" in done.stderr


def test_every_shell_script_parses():
    scripts = [*ROOT.glob("*.sh"), *ROOT.glob("[a-z]*/*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) >= 20
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        assert re.search("^set -euo pipefail$|/common.sh", script.read_text(), re.M) or (
            script.name == "environment.sh"
        )


def test_early_exit(tmp_path, chain):
    """base, l2w and boosted: trained, evaluated, stopped early and drawn."""
    ok(chain("runs/compare-exits.sh", tmp_path / "run", SEEDS="0"))
    folder = tmp_path / "run" / "compare-exits"
    for method in ("base", "l2w", "boosted"):
        result = json.loads((folder / method / "seed-0" / "tiny-eval.json").read_text())
        assert result["method"] == method
        assert {row["fitted_on"] for row in result["optimism"]} == {"train", "val", "test"}
        infer = json.loads((folder / method / "seed-0" / "tiny-infer.json").read_text())
        assert sum(point["differences"] for point in infer["points"]) == 0
    names = {p.name for p in (folder / "figures").iterdir()}
    assert {"tiny-msdnet-anytime.png", "tiny-msdnet-budgeted.pdf"} <= names


@pytest.mark.parametrize(
    ("script", "dataset", "networks", "settings"),
    [
        ("l2w-cifar", "cifar10", {2_078_924}, (1024, 0.8, 0.0)),
        ("l2w-cifar", "cifar100", {2_852_392}, (1024, 0.8, 0.0)),
        ("boosted-cifar", "digits", {4_955_644, 3_354_710}, (64, 0.1, 0.0)),
        ("l2w-imagenet", "digits", {62_314_472}, (4096, 0.8, 0.0)),
    ],
)
def test_early_exit_commands(script, dataset, networks, settings, tmp_path):
    """Every flag that these give is known, and means the published networks and settings."""
    shown = tmp_path / "python"
    shown.write_text('#!/bin/bash\nshift\necho "$@"\n')
    shown.chmod(0o755)
    said = ok(bash(f"runs/{script}.sh", tmp_path, PYTHON=str(shown), DATASETS=dataset, FAST="0"))
    found = set()
    for line in said.splitlines():
        module, *argv = line.split()
        if module == "figures.early_exit":
            continue
        args = importlib.import_module(module).parse_args(argv)
        if module == "early_exit.train":
            cls = EXIT_NETS[args.arch]
            size = 224 if args.stream else 32
            with torch.device("meta"):
                net = cls.from_settings(arch_settings(args, cls), 100 if size == 32 else 1000, size)
            found.add(parameters(net))
            assert (args.batch_size, args.lr, args.label_smoothing) == settings
            if args.method == "boosted":
                boosted = args.equilibrium or net.equilibrium
                assert boosted == {"msdnet": "coarsest", "ranet": "none"}[args.arch]
    assert found == networks
