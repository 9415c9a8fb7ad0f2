"""experiment.in_turn: programs in one Python do what each does by itself."""

import json
import subprocess
import sys

import pytest

import experiment
from experiment import in_turn
from tests.made import quiet

TELL = """import json, os, sys
with open({out!r}, "a") as f:
    print(json.dumps([__name__, sys.argv, sys.path[0]]), file=f)
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else None)
"""


@pytest.fixture
def tell(tmp_path):
    """A program that notes how it was started and leaves with the status it is given."""
    path, out = tmp_path / "tell.py", tmp_path / "told"
    path.write_text(TELL.format(out=str(out)))
    return path, lambda: [json.loads(line) for line in out.read_text().splitlines()]


def test_as_if_started_by_itself(tell, monkeypatch, capsys):
    path, told = tell
    subprocess.run([sys.executable, path, "0", "two words"], check=True)
    before = sys.argv, list(sys.path)
    in_turn.main([str(path), "0", "two words", "--then", str(path)])
    assert (sys.argv, list(sys.path)) == before
    alone, first, second = told()
    assert first == alone
    assert second == ["__main__", [str(path)], str(path.parent)]
    in_turn.main(["-m", "deferral.report", "--help"])
    assert capsys.readouterr().out.startswith("usage: python -m deferral.report")


def test_the_first_failure_is_the_chains(tell):
    path, told = tell
    with pytest.raises(SystemExit) as stop:
        in_turn.main([str(path), "0", "--then", str(path), "3", "--then", str(path), "0"])
    assert stop.value.code == 3
    assert [argv[1] for _, argv, _ in told()] == ["0", "3"]


@pytest.mark.parametrize(
    ("words", "telling"),
    [
        ([], "a program is missing"),
        (["TELL", "0", "--then"], "a program is missing"),
        (["TELL", "0", "--then", "-m"], "a program is missing"),
        (["TELL", "0", "--then", "nowhere.py"], "nowhere.py: no such program"),
        (["TELL", "0", "--then", "-m", "nowhere"], "-m nowhere: no such program"),
        (["TELL", "0", "--then", "-m", "nowhere.at_all"], "-m nowhere.at_all: no such program"),
    ],
)
def test_bad_words_start_nothing(tell, refused, words, telling):
    path, _ = tell
    words = [str(path) if word == "TELL" else word for word in words]
    refused(in_turn.main, *words, telling=telling)
    assert not (path.parent / "told").exists()


def test_the_same_weights_as_one_by_one(npz, tmp_path):
    """Nothing of a program, random numbers or matplotlib, is left over for the next."""
    script = str(experiment.ROOT / "train_localnet.py")
    words = [script, "--dataset", str(npz), "--epochs", "1", "--save_dir"]
    runs = [str(tmp_path / name) for name in ("first", "second")]
    quiet(in_turn.main, *words, runs[0], "--seed", 7, "--then", *words, runs[1])
    subprocess.run(
        [sys.executable, *words, str(tmp_path / "alone")], check=True, capture_output=True
    )
    weights = [
        experiment.load_checkpoint(tmp_path / name / "tiny-localnet.pth")["state_dict"]
        for name in ("first", "second", "alone")
    ]
    assert all(weights[1][name].equal(value) for name, value in weights[2].items())
    assert not weights[0]["conv1.weight"].equal(weights[1]["conv1.weight"])
    commands = json.loads((tmp_path / "second" / "args.json").read_text())
    assert commands["tiny-localnet"]["command"].startswith("train_localnet.py --dataset")
