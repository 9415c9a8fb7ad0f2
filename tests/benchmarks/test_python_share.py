"""benchmarks.python_share: whose a compiled call is, and a script's programs timed both ways."""

import cProfile
import hashlib
import os
import shutil
import time

import pytest
import torch

import experiment
from benchmarks import python_share, timed_python


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("<built-in method torch.conv2d>", "torch"),
        ("<built-in method torch._C._nn.linear>", "torch"),
        ("<method 'run_backward' of 'torch._C._EngineBase' objects>", "torch"),
        ("<method 'reduce' of 'numpy.ufunc' objects>", "compiled"),
        ("<built-in method matplotlib.ft2font.set_text>", "compiled"),
        ("<built-in method _hashlib.openssl_sha256>", "compiled"),
        ("<built-in method posix.fsync>", "files"),
        ("<method 'write' of '_io.BufferedWriter' objects>", "files"),
        ("<built-in method _imp.create_dynamic>", "files"),
        ("<built-in method builtins.isinstance>", "python"),
        ("<method 'get' of 'dict' objects>", "python"),
        ("<built-in method __new__ of type object at 0x7f0000000000>", "python"),
        ("torchlight", "python"),
    ],
)
def test_owner(name, kind):
    assert python_share.owner(name) == kind


def busy():
    """Some of every kind; the loop is Python's."""
    x = torch.ones(300, 300)
    for _ in range(5):
        x = torch.mm(x, x).clamp(0, 1)
    hashlib.sha256(bytes(4_000_000)).hexdigest()
    time.sleep(0.02)
    return sum(k % 7 for k in range(100_000))


def test_seconds_of_a_profile(tmp_path):
    profile = cProfile.Profile()
    start = time.perf_counter()
    profile.runcall(busy)
    took = time.perf_counter() - start
    profile.dump_stats(tmp_path / "busy.prof")
    found = python_share.compiled_seconds(tmp_path / "busy.prof")
    assert found["files"] >= 0.02
    assert min(found["torch"], found["compiled"]) > 0
    compiled = sum(found[kind] for kind in python_share.KINDS)
    assert compiled < found["all"] <= took


def test_shares_add_up(tmp_path):
    profile = cProfile.Profile()
    profile.runcall(busy)
    profile.dump_stats(tmp_path / "busy.prof")
    plain = {"program": "busy", "seconds": 10.0, "imports": 1.0}
    profiled = {"seconds": 20.0, "profile": tmp_path / "busy.prof"}
    row = python_share.shares(plain, profiled)
    compiled = sum(row[kind] for kind in python_share.KINDS)
    assert row["python"] == pytest.approx(10 - compiled)
    assert row["share"] == pytest.approx(1 - compiled / 10)
    assert row["at_most"] == pytest.approx(1 - compiled / 20)
    disturbed = python_share.shares(plain | {"seconds": 30.0}, profiled)
    assert disturbed["python"] == pytest.approx(20 - compiled)
    assert disturbed["share"] == pytest.approx(disturbed["at_most"])
    whole = python_share.total([row, row])
    assert whole["python"] == pytest.approx(2 * row["python"])
    assert whole["share"] == pytest.approx(row["share"])


def test_imports_are_summed_and_taken_out_of_what_is_said():
    said = "import time: self [us] | cumulative | imported package\n"
    said += "import time:      1500 |       2500 | a\nerror: no\nimport time: 500 | 500 |   b\n"
    assert timed_python.imports(said) == (0.002, "error: no\n")


@pytest.fixture
def script(tmp_path):
    """A repository with two programs and a script as quickstart.sh is, environment.sh included."""
    (tmp_path / "first.py").write_text("import sys, zlib\nprint(sys.argv[1:])\n")
    (tmp_path / "second.py").write_text("print('second')\n")
    for name in ("environment.sh", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(experiment.ROOT / name, tmp_path / name)

    def write(*lines):
        head = ["set -euo pipefail", 'cd "$(dirname "$0")"', "source ./environment.sh"]
        lines = [*head, "make_environment requirements.txt", *lines]
        (tmp_path / "quick.sh").write_text("\n".join(lines) + "\n")
        return tmp_path / "quick.sh"

    return write


def test_programs_of_a_script(script, tmp_path):
    path = script('"$python" first.py "$1" "two words" > "$1.txt"', '"$python" -m second')
    folder = tmp_path / "folder"
    for mode in ("plain", "profiled"):
        rows = python_share.run(folder, mode, path)
        assert [row["program"] for row in rows] == ["first.py", "second"]
        assert all(0 < row["seconds"] < 60 for row in rows)
        said = (folder / f"{mode}.txt").read_text()
        assert said == f"{[str(folder / mode), 'two words']}\n"
        assert (rows[0]["imports"] > 0) is (mode == "plain")
    found = python_share.compiled_seconds(rows[0]["profile"])
    assert 0 < found["files"] < found["all"] < rows[0]["seconds"]


def test_a_script_that_fails_says_why(script, tmp_path):
    with pytest.raises(ValueError, match=r"quick\.sh: failed: .*No module named nowhere"):
        python_share.run(tmp_path / "f", "plain", script('"$python" -m nowhere'))


def test_nothing_is_installed(script, tmp_path):
    path = script('"$python" -m pip install nothing')
    with pytest.raises(ValueError, match=r"run quickstart\.sh once"):
        python_share.run(tmp_path / "f", "plain", path)
    assert os.listdir(tmp_path / "f") == ["venv"]
