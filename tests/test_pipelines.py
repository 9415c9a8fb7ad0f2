"""The shell pipelines: the commands they run, and each once, small, to its tables and figures."""

import importlib
import re
import subprocess

import pytest
import torch

from deferral import predictions as saved
from early_exit.flags import arch_settings
from losses.surrogates import COST_FREE
from models.cost import parameters
from models.exit_nets import EXIT_NETS
from tests.made import make_npz
from tests.shell import ROOT, bash, commands, run

ROOT_SCRIPTS = ("train-conf-score", "eval", "plot", "train-async", "eval-async", "plot-async")
ROOT_SCRIPTS += ("train-edgeonly",)
RUNS = ("noniid", "compare", "exits-and-server", "l2w-cifar", "l2w-imagenet", "boosted-cifar")
RUNS += ("compare-exits", "ceiling")
PIPELINES = [f"{name}.sh" for name in ROOT_SCRIPTS] + [f"runs/{name}.sh" for name in RUNS]


def test_these_are_all_scripts():
    at_root = {p.name for p in ROOT.glob("*.sh")}
    assert at_root == {f"{name}.sh" for name in (*ROOT_SCRIPTS, "quickstart", "test")}
    in_runs = {p.stem for p in (ROOT / "runs").glob("*.sh")}
    assert in_runs == {*RUNS, "common", "environment", "iter_all"}


def test_every_shell_script_parses():
    scripts = [*ROOT.glob("*.sh"), *ROOT.glob("[a-z]*/*.sh"), ROOT / ".ci" / "run"]
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
        strict = re.search("^set -euo pipefail$|/common.sh", script.read_text(), re.M)
        assert strict or script.name == "environment.sh"


@pytest.mark.parametrize("script", PIPELINES)
def test_without_a_run_from_another_directory(script, tmp_path):
    """As the release's README has it, bash train-edgeonly.sh: RUN is results/runs/default."""
    done = bash(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    for line in done.stdout.splitlines():
        assert " results/runs/default/" in line


@pytest.mark.parametrize("script", [*PIPELINES, "runs/iter_all.sh"])
def test_usage(script):
    args = ["cpu", "2"] if script == "runs/iter_all.sh" else []
    done = bash(script, *args, "one", "two")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert f"{script}" in done.stderr


REFUSED = {
    "--seeds has no effect here": [(s, {"EXTRA": "--seeds 3 4"}) for s in PIPELINES[8:]]
    + [("runs/iter_all.sh", {"EXTRA": "--seeds=3"})],
    "SEEDS has no effect here": [
        (s, {"SEEDS": "3 4"}) for s in (*PIPELINES[:2], *PIPELINES[3:5], *PIPELINES[6:8])
    ],
    "DATASETS: give ImageNet's folder": [("runs/l2w-imagenet.sh", {"DATASETS": ""})],
}


@pytest.mark.parametrize("message", REFUSED)
def test_variables_without_effect_are_refused(message):
    for script, environment in REFUSED[message]:
        args = ["cpu", "2"] if script == "runs/iter_all.sh" else []
        done = bash(script, *args, "r", **environment)
        assert done.returncode == 2, script
        assert done.stderr.startswith("error: "), script
        assert message in done.stderr
        assert done.stdout == ""


def test_a_failing_step_ends_the_script():
    done = bash("train-async.sh", "r", PYTHON="false")
    assert (done.returncode, done.stdout) == (1, "")


def test_which_local_net():
    """The non-IID study trains a local net of its own, on LOCAL_CLASSES (0-8 by default)."""
    environment = {"EXTRA_LOCAL": "--lr 1", "localnet": "elsewhere"}
    local, edge, *_ = commands("runs/noniid.sh", "a/run", **environment)
    assert "--save_dir a/run/noniid-localnet --resume" in local
    assert local.endswith("--local_classes 0-8 --lr 1")
    assert "--save_dir a/run/noniid --resume" in edge
    assert "--local_path a/run/noniid-localnet/digits-localnet.pth" in edge
    assert "local_classes" not in edge
    environment["LOCAL_CLASSES"] = "0,2"
    assert "--local_classes 0,2 " in commands("runs/noniid.sh", "a/run", **environment)[0]
    local, edge = commands("train-async.sh", "a/run", **environment)
    assert "--save_dir a/run/localnet --resume" in local
    assert "--local_path a/run/localnet/digits-localnet.pth" in edge
    assert "local_classes" not in local + edge


def test_whose_flags_are_whose():
    """EXTRA is for the edge's training, except what all take; EXTRA_EVAL is for the evaluation."""
    extra = "--epochs 2 --device cpu --batch_size 8 --data_root=/d --lr 0.1"
    environment = {"EXTRA": extra, "EXTRA_EVAL": "--batch_size 50"}
    local, edge = commands("train-async.sh", "r", **environment)
    assert local.endswith("/localnet --resume --device cpu --data_root=/d")
    assert edge.endswith(extra)
    (evaluation,) = commands("eval-async.sh", "r", **environment)
    assert evaluation.endswith("/async --resume --device cpu --data_root=/d --batch_size 50")
    assert commands("plot-async.sh", "r", **environment) == ["-m figures results/runs/r/async"]
    edge, evaluation = commands("train-edgeonly.sh", "r", **environment)
    assert edge.endswith(f"--edge_only {extra}")
    assert evaluation.endswith("/edgeonly --resume --device cpu --data_root=/d --batch_size 50")
    for line in commands("runs/compare-exits.sh", "r", **environment)[:-1]:
        assert "--resume --device cpu --data_root=/d" in line
        assert line.endswith(extra) == ("early_exit.train" in line)


def test_streaming_goes_to_every_script_of_learning_to_help():
    environment = {"EXTRA": "--stream --stream_size 64 --workers=2 --lr 0.1"}
    local, _ = commands("train-conf-score.sh", "r", **environment)
    assert local.endswith("--resume --stream --stream_size 64 --workers=2")
    (evaluation,) = commands("eval.sh", "r", **environment)
    assert evaluation.endswith("--resume --stream --stream_size 64 --workers=2")
    *scripts, _ = commands("runs/compare.sh", "r", SEEDS="0", **environment)
    assert [line.count("--stream --stream_size 64 --workers=2") for line in scripts] == [1, 2, 1, 1]
    _, evaluating, _, _ = commands("runs/compare-exits.sh", "r", SEEDS="0", **environment)[:4]
    assert "--stream" not in evaluating


def test_several_seeds_have_local_nets_of_their_own():
    environment = {"EXTRA": "--lr 0.1 --seeds 3 4"}
    local, edge = commands("train-async.sh", "r", **environment)
    assert local.endswith("--save_dir results/runs/r/async --resume --seeds 3 4")
    assert "--local_path" not in edge
    (evaluation,) = commands("eval-async.sh", "r", **environment)
    assert evaluation.endswith("/async --resume --seeds 3 4")


def test_fast_trains_a_small_edge_net():
    edge, _ = commands("train-edgeonly.sh", "r", FAST="1", EXTRA="--epochs 1")
    assert edge.endswith("--edge_net resnet18 --epochs 2 --batch_size 64 --lr 0.02 --epochs 1")


# ---- The pipelines in this process, on 120 pictures of 10 classes

FEW = "--epochs 1 --edge_net tiny --device cpu"


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Run the commands of a script, perhaps with one of its figures; returns what they print."""
    tiny = make_npz(tmp_path_factory.mktemp("data") / "tiny.npz", classes=10)
    few = {"DATASETS": str(tiny), "EXTRA_LOCAL": "--epochs 1", "EXTRA": FEW, "FAST": "1"}

    def chain(script, *args, figures="figures", **more):
        lines = commands(script, *args, **few | more)
        return run([line.replace("-m figures ", f"-m {figures} ") for line in lines])

    return chain


def test_conf_score(chain, tmp_path):
    """42 settings in one pass, to figures and tables; a second call skips the training."""
    for script in ("train-conf-score.sh", "eval.sh"):
        chain(script, tmp_path)
    assert "max softmax" in chain("plot.sh", tmp_path)
    folder = tmp_path / "conf-score"
    assert len(list(folder.glob("tiny-edgenet-async-1-*.pth"))) == 42
    names = {p.name for p in (folder / "figures").iterdir()}
    for figure in ("risk", "reject_rate", "bounded_rate", "examples"):
        assert {f"tiny-{figure}.pdf", f"tiny-{figure}.png"} <= names
    for table in ("summary_table", "stage_table"):
        assert {f"tiny-{table}.{kind}" for kind in ("md", "tex", "csv")} <= names
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.pth")}
    assert chain("train-conf-score.sh", tmp_path).count(": complete") == 2
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.pth")} == before


def test_async(chain, tmp_path):
    for script in ("train-async.sh", "eval-async.sh"):
        chain(script, tmp_path)
    for figure in ("loss_curves", "summary_table"):
        chain("plot-async.sh", tmp_path, figures=f"figures.{figure}")
    assert len(list((tmp_path / "async").glob("tiny-edgenet-async-*.pth"))) == 12
    names = {p.name for p in (tmp_path / "async" / "figures").iterdir()}
    assert {"tiny-loss_curves.pdf", "tiny-stage_table_async.tex"} <= names


def test_noniid(chain, tmp_path):
    """A local net of its own, on some classes; edge and test keep all ten."""
    chain("runs/noniid.sh", tmp_path, figures="figures.per_class", LOCAL_CLASSES="0-7")
    assert {p.name for p in tmp_path.iterdir()} == {"noniid", "noniid-localnet"}
    predictions = saved.load(tmp_path / "noniid" / "tiny-predictions.npz")
    assert predictions.settings["local_classes"] == list(range(8))
    assert set(predictions.part("test").labels) == set(range(10))
    costs = {(s["cost_1"], s["cost_e"]) for s in predictions.settings["rejectors"]}
    assert costs >= {(1, 0.25), (1.25, 0), (1.25, 0.25)}
    names = {p.name for p in (tmp_path / "noniid" / "figures").iterdir()}
    assert {f"tiny-per_class.{kind}" for kind in ("pdf", "png", "md", "tex", "csv")} <= names


def test_edge_only(chain, tmp_path):
    chain("train-edgeonly.sh", tmp_path)
    assert (tmp_path / "edgeonly" / "tiny-eval_all.json").exists()
    with pytest.raises(SystemExit) as stop:
        chain("eval.sh", tmp_path)  # nothing was trained for it
    assert stop.value.code == 2


def test_compare(tmp_path, chain, quick):
    """All rules, one report."""
    data = make_npz(tmp_path / "tiny.npz", train=200, size=16)
    chain("runs/compare.sh", tmp_path / "run", DATASETS=str(data), SEEDS="3")
    folder = tmp_path / "run" / "compare"
    assert (folder / "tiny-report.html").exists()
    predictions = saved.load(folder / "tiny" / "seed-3" / "tiny-predictions.npz")
    assert predictions.settings["seed"] == 3
    assert len(predictions.settings["rejectors"]) == 42 + 2 * 8 + 3 * 3 * 42
    assert len(predictions.settings["estimators"]) == len(COST_FREE) + 3
    text = (folder / "tiny-report.json").read_text()
    assert "amortized, both" in text
    assert "stage_switching, features" in text


def test_ceiling(tmp_path, chain):
    """Two seeds and both students: the table has them as rejectors and as the local net."""
    chain("runs/ceiling.sh", tmp_path, SEEDS="3 4", EXTRA_STUDENT="--augment none")
    text = (tmp_path / "ceiling/tiny/figures/tiny-ceiling.md").read_text()
    for row in ("amortized, features", "amortized, both, small", "amortized, both, large"):
        assert f"| {row} |" in text
    assert "ceiling (sees the remote's scores)" in text
    assert "amortized, both, large: its student as the local net, never" in text


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
    """Every flag is known, and gives the published networks and settings."""
    counts = set()
    for line in commands(f"runs/{script}.sh", tmp_path, DATASETS=dataset):
        module, *argv = line.removeprefix("-m ").split()
        if module == "figures.early_exit":
            continue
        args = importlib.import_module(module).parse_args(argv)
        if module == "early_exit.train":
            cls = EXIT_NETS[args.arch]
            size = 224 if args.stream else 32
            with torch.device("meta"):
                net = cls.from_settings(arch_settings(args, cls), 100 if size == 32 else 1000, size)
            counts.add(parameters(net))
            assert (args.batch_size, args.lr, args.label_smoothing) == settings
            if args.method == "boosted":
                boosted = args.equilibrium or net.equilibrium
                assert boosted == {"msdnet": "coarsest", "ranet": "none"}[args.arch]
    assert counts == networks
