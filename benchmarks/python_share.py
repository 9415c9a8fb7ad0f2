"""How much of the quick start's time is spent in Python and not in the libraries it calls.

  python -m benchmarks.python_share
  python -m benchmarks.python_share --out python-share.json

Runs quickstart.sh twice, as it is: once to time its program, once with it under cProfile.
cProfile's own work falls between calls, so it makes Python slower but hardly the calls into
compiled code: seconds in these come from the second run. What is left of the first is Python's; or
of the second where that was the faster, on a machine that has other work. Of cProfile's calls,
torch's, those of other libraries (numpy, matplotlib and those they need) and those that read,
write, load or wait are told by the name of what is called; everything else, dictionaries, strings
and regular expressions among it, is Python's.

So Python's share comes out too large rather than too small: an operator on arrays (a + b), a numpy
function that is no method and some of matplotlib's compiled code are no calls to cProfile, and
count as Python. `at most` is Python's share of the profiled run, cProfile's own work included: one
run, so that other work on the machine, which may slow one run and not the other, does not spoil it.
Imports are part of all columns. Takes somewhat more than twice the quick start's time; with --fast,
its FAST=1, starting is most of that.
"""

import argparse
import json
import os
import pstats
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import experiment
from benchmarks.points import about

KINDS = ("torch", "compiled", "files")
OWNERS = {
    "torch": ("torch",),
    "compiled": (
        "numpy", "matplotlib", "PIL", "ImagingEncoder", "ImagingDecoder", "ImagingCore", "scipy",
        "sklearn", "contourpy", "kiwisolver", "zlib", "_hashlib", "_blake2", "_sha2",
    ),
    "files": (
        "posix", "io", "_io", "_imp", "_ctypes", "_posixsubprocess", "select", "time", "fcntl",
    ),
}  # fmt: skip
TIMER = Path(__file__).with_name("timed_python.py")


def owner(name: str) -> str:
    """To whom a compiled call of cProfile belongs: one of KINDS, or "python".

    name: as cProfile has it, "<built-in method torch.conv2d>" or
    "<method 'add_' of 'torch._C.TensorBase' objects>".
    """
    told = re.fullmatch(r"<method '.*' of '(.*)' objects>|<built-in method (.*)>", name)
    whole = (told[1] or told[2]) if told else ""
    first = whole.split(".")[0].split(" ")[0]
    for kind, owners in OWNERS.items():
        if first in owners:
            return kind
    return "python"


def compiled_seconds(profile: str | Path) -> dict[str, float]:
    """Seconds in calls of each of KINDS, and in `all` of the profile, Python included."""
    found = dict.fromkeys((*KINDS, "all"), 0.0)
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(str(profile)).stats.items():
        found["all"] += own
        kind = owner(name) if file == "~" else "python"
        if kind != "python":
            found[kind] += own
    return found


def run(folder: Path, mode: str, script: Path) -> list[dict]:
    """Rows of timed_python.py for every program that `script` starts; ValueError if it fails.

    The script finds an environment whose Python is that timer.
    """
    venv = folder / "venv"
    python = venv / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-I", "-S", TIMER, folder, mode]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
    python.chmod(0o755)
    key = "cat requirements*.txt requirements.txt | cksum | cut -d ' ' -f 1"  # environment.sh's
    found = subprocess.run(["bash", "-c", key], cwd=script.parent, capture_output=True, text=True)
    (venv / f"whole-{found.stdout.strip()}").touch()
    done = subprocess.run(
        ["bash", script, folder / mode],
        cwd=script.parent,
        env=dict(os.environ) | {"VENV": str(venv)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise ValueError(f"{script}: failed: {' '.join(done.stderr.split()[-40:])}")
    return [json.loads(line) for line in (folder / f"{mode}.jsonl").read_text().splitlines()]


def shares(plain: dict, profiled: dict) -> dict:
    """One program's seconds: in all, in imports, of each of KINDS, Python's; and its two shares.

    plain, profiled: its rows of `run` in both modes.
    """
    calls = compiled_seconds(profiled["profile"])
    row = {"program": plain["program"], "seconds": plain["seconds"], "imports": plain["imports"]}
    row |= {kind: calls[kind] for kind in KINDS}
    within = sum(calls[kind] for kind in KINDS)
    row |= {"profiled_seconds": profiled["seconds"], "compiled_seconds": within}
    row["python"] = max(0.0, min(plain["seconds"], profiled["seconds"]) - within)
    return row | ratios(row)


def ratios(row: dict) -> dict:
    """Python's share of the run that it was told from, and of the profiled one."""
    share = row["python"] / (row["python"] + row["compiled_seconds"])
    return {"share": share, "at_most": 1 - row["compiled_seconds"] / row["profiled_seconds"]}


def total(rows: list[dict]) -> dict:
    """All programs together."""
    names = ("seconds", "imports", *KINDS, "python", "profiled_seconds", "compiled_seconds")
    whole = {name: sum(row[name] for row in rows) for name in names}
    return {"program": "all"} | whole | ratios(whole)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fast", action="store_true", help="quickstart.sh's FAST=1")
    parser.add_argument("--out", help="write the numbers there as JSON")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_args(argv)
    if args.fast:
        os.environ["FAST"] = "1"
    device = experiment.pick_device("cpu")
    print(f"{experiment.hardware(device)}, seconds")
    with tempfile.TemporaryDirectory() as folder, experiment.one_line_errors():
        script = experiment.ROOT / "quickstart.sh"
        both = [run(Path(folder), mode, script) for mode in ("plain", "profiled")]
        rows = [shares(*pair) for pair in zip(*both, strict=True)]
    columns = ("seconds", "imports", *KINDS, "python")
    print(f"{'program':22} {' '.join(f'{c:>8}' for c in columns)} {'share':>6} {'at most':>8}")
    for row in [*rows, total(rows)]:
        numbers = " ".join(f"{row[c]:8.2f}" for c in columns)
        print(f"{row['program']:22} {numbers} {row['share']:6.0%} {row['at_most']:8.0%}")
    if args.out:
        found = about(device, fast=args.fast, rows=rows, total=total(rows))
        experiment.write_json(Path(args.out), found)


if __name__ == "__main__":
    main()
