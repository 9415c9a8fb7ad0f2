"""quickstart.sh as a user runs it: by Python itself, on the digits, in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_quickstart(tmp_path):
    """In this environment (no install), with few epochs; its training steps resume."""
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
        "{ cat constraints.txt requirements*.txt requirements.txt; echo 0; } | cksum",
        shell=True, cwd=copy, capture_output=True, text=True,
    ).stdout.split()[0]  # fmt: skip
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / f".venv/whole-{key}").touch()
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "VENV", "NEWEST")}
    env["FAST"] = "1"
    (copy / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (copy / ".venv/bin/python").chmod(0o755)
    done = subprocess.run(
        ["bash", "quickstart.sh"], cwd=copy, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"rejector +never +always", done.stdout)
    assert "installing" not in done.stdout
    assert (copy / "results/runs/quickstart/figures/digits-risk.png").exists()
    assert (copy / "results/runs/quickstart/digits-report.html").exists()
    (copy / ".venv/bin/python").write_text('#!/bin/sh\necho "$@"\n')
    again = subprocess.run(
        ["bash", "quickstart.sh"], cwd=copy, env=env, capture_output=True, text=True
    )
    steps = again.stdout.splitlines()[:3]
    assert (again.returncode, len(steps)) == (0, 3)
    assert all(".py " in step and step.endswith("--resume") for step in steps), steps


def test_what_is_installed(tmp_path):
    """The exact versions of constraints.txt, or with NEWEST=1 the newest; only what has changed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)

    def install(**environment):
        command = "set -eu; source runs/environment.sh; make_environment requirements-dev.txt"
        env = {k: v for k, v in os.environ.items() if k not in ("CI", "NEWEST")}
        return subprocess.run(
            ["bash", "-c", command], cwd=ROOT, env=env | {"VENV": str(tmp_path)} | environment,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    assert install().endswith("-r requirements-dev.txt --constraint constraints.txt\n")
    assert install() == ""
    assert install(NEWEST="1").endswith("-r requirements-dev.txt\n")
    assert install(NEWEST="1") == ""
