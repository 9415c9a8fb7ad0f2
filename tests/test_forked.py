"""The quick Python that chains are tested with: scripts cannot tell it from Python."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import json, os, sys
print(json.dumps([__name__, sys.argv, sys.path[0], os.getcwd(), os.environ.get("SAID")]))
print("and this", file=sys.stderr)
if sys.argv[1] == "raise":
    raise ValueError("no")
sys.exit(int(sys.argv[1]))
"""
ENDLESS = """
import time
while True:
    with open("beats", "a") as f:
        f.write("x")
    print("a beat", flush=True)
    time.sleep(0.001)
"""


@pytest.mark.parametrize("words", [["script.py"], ["folder/script.py"], ["-m", "folder.script"]])
@pytest.mark.parametrize("end", ["0", "3", "raise"])
def test_what_a_script_sees_and_says(words, end, python, tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "script.py", tmp_path / "folder/script.py"):
        path.write_text(SCRIPT)
    env = os.environ | {"SAID": "ä\n"}
    theirs, ours = (
        subprocess.run([p, *words, end, "--flag", ""], cwd=tmp_path, env=env, capture_output=True)
        for p in (sys.executable, python)
    )
    assert ours.stdout == theirs.stdout != b""
    assert ours.returncode == theirs.returncode
    assert ours.stderr.splitlines()[0] == b"and this"
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1]


def test_a_killed_command_takes_its_script_along(python, tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    process = subprocess.Popen([python, "endless.py"], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"a beat\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    beats = (tmp_path / "beats").stat().st_size
    time.sleep(0.05)
    assert (tmp_path / "beats").stat().st_size == beats
