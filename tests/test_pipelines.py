"""The shell chains once, small: DATASETS=digits FAST=1, to their tables and figures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def bash(script, *args, **environment):
    env = os.environ | {"PYTHON": sys.executable, "DATASETS": "digits", "FAST": "1"} | environment
    return subprocess.run(
        ["bash", script, *map(str, args)], cwd=ROOT, env=env, capture_output=True, text=True
    )


def ok(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


def test_conf_score(run):
    ok(bash("train-conf-score.sh", run, EXTRA="--epochs 1"))
    ok(bash("eval.sh", run))
    said = ok(bash("plot.sh", run))
    assert "confidence" in said
    folder = run / "conf-score"
    assert len(list(folder.glob("digits-edgenet-async-1-*.pth"))) == 42
    names = {p.name for p in (folder / "figures").iterdir()}
    for figure in ("risk", "reject_rate", "bounded_rate", "examples"):
        assert {f"digits-{figure}.pdf", f"digits-{figure}.png"} <= names
    for table in ("summary_table", "stage_table"):
        assert {f"digits-{table}.{kind}" for kind in ("md", "tex", "csv")} <= names


def test_again_it_skips_what_is_complete(run):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.pth")}
    said = ok(bash("train-conf-score.sh", run, EXTRA="--epochs 1"))
    assert said.count(": complete") == 2
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.pth")} == before


def test_async(run):
    ok(bash("train-async.sh", run, EXTRA="--epochs 1"))
    ok(bash("eval-async.sh", run))
    ok(bash("plot-async.sh", run))
    folder = run / "async"
    assert len(list(folder.glob("digits-edgenet-async-*.pth"))) == 12
    names = {p.name for p in (folder / "figures").iterdir()}
    assert {"digits-loss_curves.pdf", "digits-stage_table_async.tex"} <= names


def test_edge_only(run):
    ok(bash("train-edgeonly.sh", run, EXTRA="--epochs 1"))
    assert (run / "edgeonly" / "digits-eval_all.json").exists()


@pytest.mark.parametrize("script", sorted(p.name for p in ROOT.glob("*-*.sh")) + ["eval.sh"])
def test_usage(script):
    done = bash(script)
    assert done.returncode != 0
    assert "usage: [DATASETS=...] [EXTRA=...] [FAST=1] bash" in done.stderr


def test_a_stage_without_the_one_before(tmp_path):
    done = bash("eval.sh", tmp_path / "run")
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "train_edgenet_async.py makes it" in done.stderr


def test_every_shell_script_parses():
    scripts = [*ROOT.glob("*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) >= 11
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)


def test_quickstart(tmp_path):
    """In this environment (no install), with few epochs; then again, which skips it all."""
    copy = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for name in tracked.splitlines():
        if not name.startswith(("tests/", "results/")) and (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    if not tracked:
        pytest.skip("not a git checkout")
    key = subprocess.run(
        "cat requirements.txt requirements.txt | cksum | cut -d ' ' -f 1",
        shell=True, cwd=ROOT, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (copy / ".venv/bin/python").chmod(0o755)
    (copy / f".venv/whole-{key}").touch()
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "VENV")} | {"FAST": "1"}
    for again in (False, True):
        done = subprocess.run(
            ["bash", "quickstart.sh"], cwd=copy, env=env, capture_output=True, text=True
        )
        said = ok(done)
        assert "rejector  never  always" in said
        assert said.count(": complete") == (3 if again else 0)
    assert (copy / "results/runs/quickstart/figures/digits-risk.png").exists()
