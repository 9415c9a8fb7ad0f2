"""Shell scripts without their processes, and scripts on several processes."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def bash(script, *args, cwd=ROOT, **environment) -> subprocess.CompletedProcess:
    """Run a script whose Python prints its arguments: stdout is one command a line."""
    env = os.environ | {"PYTHON": "echo", "DATASETS": "digits"} | environment
    command = ["bash", ROOT / script, *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def commands(script, *args, **environment) -> list[str]:
    """The arguments of Python in each command that a script runs; it must succeed."""
    done = bash(script, *args, **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.splitlines()


def run(lines: list[str]) -> str:
    """Run such commands in this process; returns what they print."""
    output = io.StringIO()
    for line in lines:
        name, *argv = line.removeprefix("-m ").split()
        name = name.removesuffix(".py")
        if find_spec(name).submodule_search_locations:
            name += ".__main__"
        with contextlib.redirect_stdout(output):
            importlib.import_module(name).main(argv)
    return output.getvalue()


def torchrun(*command, flags=(), check=True) -> subprocess.CompletedProcess:
    """Run a script on two processes of this machine, each with as many threads as this one."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         *flags, *map(str, command)],
        cwd=ROOT, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done
