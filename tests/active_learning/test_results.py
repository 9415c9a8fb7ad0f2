"""Results of rounds: files are read as they were written, contradictions are refused."""

import json

import numpy as np
import pytest

from active_learning import plot, table
from active_learning.results import load
from tests.active_learning.made_study import write_round, write_study
from tests.made import one_line_error


def test_a_study_has_the_numbers_of_its_files(tmp_path):
    files = write_study(tmp_path, ("risk", "random", "DIAM"), (10, 9), range(3), dataset="letters")
    write_study(tmp_path, ("random",), (9,), range(2), model_num=3, unseen=0)
    three, study = load(tmp_path)
    assert (three.name, three.measures) == ("digits-3", ["top1", "worst", "risk"])
    assert (study.name, study.title) == ("letters-2", "letters, 2 targets, 60 test samples")
    assert list(study.records) == ["random", "DIAM", "risk"]
    assert study.labelled == {0: 40, 1: 60, 2: 80}
    assert (study.targets, study.unseen, study.left_out()) == (["net0", "net1"], ["other0"], [])
    for (method, seed, r), (result, arrays) in files.items():
        assert list(study.records[method]) == [9, 10]
        right = arrays["predicted"] == arrays["labels"]
        first, second, unseen = right.mean(1)
        expected = {"top1": (first + second) / 2, "worst": min(first, second), "unseen": unseen}
        expected |= {"spread": abs(first - second), "risk": result["cascade"]["risk"]}
        for measure, value in expected.items():
            assert study.values(method, measure, [seed], [r])[0, 0] == pytest.approx(value)
        answers = study.answers[method, seed, r]
        np.testing.assert_array_equal(answers.sums("top1"), right[:2].sum(0))
        np.testing.assert_array_equal(answers.sums("worst"), right[int(second < first)])
        np.testing.assert_array_equal(answers.sums("unseen"), right[2])
        np.testing.assert_array_equal(answers.sums("risk"), arrays["cost"])
    order = study.values("DIAM", "top1", [10, 9], [2, 0])
    assert order[0, 1] == study.values("DIAM", "top1", [10], [0])[0, 0]
    assert order[1, 0] == study.values("DIAM", "top1", [9], [2])[0, 0]


def test_unfinished_rounds_are_skipped_and_one_seed_needs_no_folder(tmp_path):
    for r in (0, 1, 2):
        write_round(tmp_path, round_=r)
    (tmp_path / "extracted_results/2/digits/random/2/performances.json").unlink()
    (study,) = load(tmp_path)
    assert list(study.records["random"][1]) == [0, 1]


def test_common_rounds(tmp_path):
    write_study(tmp_path, ("random", "DIAM"), (1, 2), range(3))
    write_study(tmp_path, ("random",), (2,), range(3, 5))
    (study,) = load(tmp_path)
    assert study.rounds(["random", "DIAM"]) == study.rounds(["random"]) == [0, 1, 2]
    assert study.rounds(["random"], [2]) == [0, 1, 2, 3, 4]
    assert study.left_out() == [
        f"digits-2: round {r} is left out: random (seed 1), DIAM (seed 1), DIAM (seed 2) lack it"
        for r in (3, 4)
    ]


def test_a_summary_alone_gives_the_same_study_and_tables(tmp_path, capsys):
    write_study(tmp_path / "run", ("random", "DIAM"), (1, 2), range(3))
    table.main([str(tmp_path / "run")])
    figures = tmp_path / "run" / "figures"
    table.main([str(figures), "--out", str(tmp_path / "again")])
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (figures / path.name).read_bytes()
    (from_files,), (from_summary,) = load(tmp_path / "run"), load(figures)
    assert from_files.table.equals(from_summary.table)
    assert from_files.title == from_summary.title


def change_net(change):
    """Change the first target's entry of a result."""
    return lambda result, arrays: change(result["targets"][0])


CONTRADICTIONS = {
    "is of round 9": lambda r, a: r.update(round=9),
    "is of seed 4, but lies in the folder of 1": lambda r, a: r.update(seed=4),
    "whole numbers": lambda r, a: r.update(round="1"),
    "has 1 targets, not 2": lambda r, a: r["targets"].pop(),
    "lacks 'cascade'": lambda r, a: r.pop("cascade"),
    "is no result": change_net(lambda net: net.update(top1="high")),
    "does not agree with": change_net(lambda net: net.update(top5=net["top5"] + 2e-6)),
    "do not have the accuracies": lambda r, a: a["predicted"].__setitem__(0, 99),
    "do not have the risk": lambda r, a: a.update(cost=a["cost"] + 0.01),
    "lacks cost": lambda r, a: a.pop("cost"),
    "index is (59,)": lambda r, a: a.update(index=a["index"][1:]),
    "another test set": lambda r, a: a.update(index=a["index"] + 1),
    "another list of targets": change_net(lambda net: net.update(name="x")),
    "another cascade": lambda r, a: r["cascade"].update(cost_e=0.5),
    "labels, but": lambda r, a: r.update(labelled=61),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradictions_are_refused(tmp_path, message):
    write_round(tmp_path / "seed-2", seed=2, round_=1)
    change = CONTRADICTIONS[message]
    write_round(tmp_path / "seed-1", seed=1, round_=1, method="DIAM", change=change)
    with one_line_error("seed-", message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("performances.json", b'{"dataset": ', "is no result"),
        ("performances.txt", b"90 95\n90 95\n", "does not agree"),
        ("performances.txt", None, "is not there"),
        ("answers.npz", b"PK\x03\x04 torn", "cannot be read"),
        ("answers.npz", None, "is not there"),
    ],
)
def test_broken_files_are_refused(tmp_path, name, content, message):
    write_round(tmp_path)
    path = tmp_path / "extracted_results/2/digits/random/0" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path)
    assert str(path) in str(error.value)


def test_a_seed_twice_is_refused(tmp_path):
    write_round(tmp_path)
    write_round(tmp_path / "seed-1")
    with pytest.raises(ValueError, match="both of seed 1"):
        load(tmp_path)


def test_bad_folders_are_one_line_and_nothing_is_written(tmp_path, refused):
    refused(plot.main, tmp_path, telling="no extracted_results")
    (tmp_path / "digits-2-methods.json").write_text(json.dumps({"methods": {"DIAM": {}}}))
    refused(plot.main, tmp_path, telling="not written by active_learning.table")
    write_round(tmp_path)
    (path,) = tmp_path.rglob("performances.json")
    path.write_text(json.dumps({"dataset": "digits"}))
    refused(table.main, tmp_path, telling="lacks")
    assert not (tmp_path / "figures").exists()
