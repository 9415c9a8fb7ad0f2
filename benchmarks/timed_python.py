"""Stands in for Python in a shell script: runs it with the same words and notes what it took.

  python -I -S benchmarks/timed_python.py FOLDER plain|profiled WORDS...

Adds a line to FOLDER/MODE.jsonl: the program, its seconds, seconds in imports (plain) or the file
of its profile (profiled). Imports nothing but what Python comes with, so as to be at once there.
"""

import json
import os
import subprocess
import sys
import time


def imports(text: str) -> tuple[float, str]:
    """(seconds in imports, what else there is) from stderr under PYTHONPROFILEIMPORTTIME."""
    microseconds, rest = 0, []
    for line in text.splitlines(keepends=True):
        first, _, _ = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:"):
            microseconds += int(first) if first.strip().isdecimal() else 0
        else:
            rest.append(line)
    return microseconds / 1e6, "".join(rest)


def main(argv: list[str]) -> int:
    folder, mode, *words = argv
    program = words[1] if words[0] == "-m" else os.path.basename(words[0])
    if program == "pip":
        print("error: environment.sh wants to install; run quickstart.sh once", file=sys.stderr)
        return 2
    log = os.path.join(folder, f"{mode}.jsonl")
    row, own, flags = {"program": program}, dict(os.environ), []
    if mode == "plain":
        own["PYTHONPROFILEIMPORTTIME"] = "1"
    else:
        row["profile"] = os.path.join(folder, f"{time.time_ns()}.prof")
        flags = ["-m", "cProfile", "-o", row["profile"]]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *flags, *words], env=own, stderr=subprocess.PIPE, text=True
    )
    row["seconds"] = time.perf_counter() - start
    row["imports"], said = imports(done.stderr)
    sys.stderr.write(said)
    with open(log, "a") as f:
        f.write(json.dumps(row) + "\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
