"""Results of rounds: what is read is what was written, and what does not fit is refused."""

import json

import numpy as np
import pytest

from active_learning import results
from active_learning.results import load, published
from tests.active_learning.made_study import write_round, write_study


def test_what_is_read_is_what_was_written(tmp_path):
    two = write_study(tmp_path, ("risk", "random", "DIAM"), (10, 9), range(3), dataset="letters")
    write_study(tmp_path, ("random",), (9,), range(2), model_num=3, unseen=0)
    three, study = load(tmp_path)
    assert (three.name, three.measures) == ("digits-3", ["top1", "worst", "risk"])
    assert (study.name, study.title) == ("letters-2", "letters, 2 targets, 60 test samples")
    assert list(study.methods) == ["random", "DIAM", "risk"]
    assert study.labelled == {0: 40, 1: 60, 2: 80}
    assert study.left_out() == []
    for (method, seed, r), (result, arrays) in two.items():
        assert list(study.methods[method]) == [9, 10]
        found = study.methods[method][seed][r]
        right = arrays["predicted"] == arrays["labels"]
        np.testing.assert_array_equal(found.right, right)
        np.testing.assert_array_equal(found.index, arrays["index"])
        assert found.targets == ("net0", "net1")
        assert found.unseen == ("other0",)
        assert found.cascade == result["cascade"]
        assert found.train_seconds == 10 + r
        assert np.isnan(found.select_seconds) if r == 0 else found.select_seconds == r / 2
        by_hand = [right[t].sum() / 60 for t in range(3)]
        assert found.value("top1") == pytest.approx((by_hand[0] + by_hand[1]) / 2)
        assert found.value("worst") == pytest.approx(min(by_hand[:2]))
        assert found.value("unseen") == pytest.approx(by_hand[2])
        assert found.value("risk") == pytest.approx(result["cascade"]["risk"])
        assert found.value("spread") == pytest.approx(abs(by_hand[0] - by_hand[1]))
        worst = right[int(np.argmin(by_hand[:2]))]
        np.testing.assert_array_equal(found.sums("worst"), worst)
        np.testing.assert_array_equal(found.sums("top1"), right[0].astype(int) + right[1])
    values = study.values("DIAM", "top1", [10, 9], [2, 0])
    assert values[0, 1] == study.methods["DIAM"][10][0].value("top1")
    assert values[1, 0] == study.methods["DIAM"][9][2].value("top1")


def test_one_seed_needs_no_folder_and_what_is_under_way_is_passed_over(tmp_path):
    for r in (0, 1, 2):
        write_round(tmp_path, round_=r)
    folder = tmp_path / "extracted_results/2/digits/random/2"
    (folder / "performances.json").unlink()
    (study,) = load(tmp_path)
    assert list(study.methods["random"][1]) == [0, 1]


def test_rounds_in_common(tmp_path):
    write_study(tmp_path, ("random", "DIAM"), (1, 2), range(3))
    write_study(tmp_path, ("random",), (2,), range(3, 5))
    (study,) = load(tmp_path)
    assert study.rounds(["random", "DIAM"]) == [0, 1, 2]
    assert study.rounds(["random"]) == [0, 1, 2]
    assert study.rounds(["random"], [2]) == [0, 1, 2, 3, 4]
    assert study.left_out() == [
        f"digits-2: round {r} is left out: random (seed 1), DIAM (seed 1), DIAM (seed 2) lack it"
        for r in (3, 4)
    ]


def test_published_rows_are_those_of_the_paper():
    rows = published("kmnist", 12)
    assert len(rows) == 7 + 10
    by_round = {r["labelled"]: r["top1"] for r in rows if r["method"] == "DIAM" and r["labelled"]}
    assert by_round == {3000: 63.33, 4500: 77.24, 7500: 86.60, 10500: 90.49, 18000: 94.11}
    assert all(r["labelled"] == 3000 + 1500 * r["round"] for r in rows if r["round"] is not None)
    means = {
        (data, t, r["method"]): r["top1"]
        for data in ("mnist", "kmnist")
        for t in (2, 12)
        for r in published(data, t)
        if r["round"] is None
    }
    assert len(means) == 28
    assert means["kmnist", 12, "random"] == 83.26
    assert means["mnist", 2, "DIAM"] == 98.16
    assert published("kmnist", 4) == published("digits", 2) == []


def nets(change):
    """Change both the first target's entry and nothing else of a result."""
    return lambda result, arrays: change(result["targets"][0])


SPOILT = {
    "is of round 9": lambda r, a: r.update(round=9),
    "is of method CAL": lambda r, a: r.update(method="CAL"),
    "is of seed 4, but lies in the folder of 1": lambda r, a: r.update(seed=4),
    "whole numbers": lambda r, a: r.update(round="1"),
    "has 1 targets, not 2": lambda r, a: r["targets"].pop(),
    "lacks 'cascade'": lambda r, a: r.pop("cascade"),
    "lacks 'top5'": nets(lambda net: net.pop("top5")),
    "is no result": nets(lambda net: net.update(top1="high")),
    "does not agree with performances.json": nets(lambda net: net.update(top5=net["top5"] + 2e-6)),
    "do not have the accuracies": lambda r, a: a["predicted"].__setitem__(0, 99),
    "do not have the risk": lambda r, a: a.update(cost=a["cost"] + 0.01),
    "lacks cost": lambda r, a: a.pop("cost"),
    "predicted is (3, 59), but must be (3, 60)": lambda r, a: a.update(
        predicted=a["predicted"][:, 1:]
    ),
    "index is (59,)": lambda r, a: a.update(index=a["index"][1:]),
    "another test set": lambda r, a: a.update(index=a["index"] + 1),
    "another list of targets": nets(lambda net: net.update(name="x")),
    "another cascade": lambda r, a: r["cascade"].update(cost_e=0.5),
    "labels, but": lambda r, a: r.update(labelled=61),
}


@pytest.mark.parametrize("telling", SPOILT)
def test_what_does_not_fit(tmp_path, telling):
    write_round(tmp_path / "seed-2", seed=2, round_=1)
    write_round(tmp_path / "seed-1", seed=1, round_=1, method="DIAM", change=SPOILT[telling])
    with pytest.raises(ValueError, match="seed-") as error:
        load(tmp_path)
    assert telling in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "telling"),
    [
        ("performances.json", b'{"dataset": ', "is no result"),
        ("performances.json", b"[]", "is no result"),
        ("performances.txt", b"90 95\nhigh 95\n", "is not rows"),
        ("performances.txt", b"90 95\n", "has 1 rows, not one for each of 2 targets"),
        ("performances.txt", b"90 95\n90 95\n", "does not agree"),
        ("performances.txt", None, "is not there"),
        ("answers.npz", b"PK\x03\x04 torn", "cannot be read"),
        ("answers.npz", None, "is not there"),
    ],
)
def test_broken_files(tmp_path, name, content, telling):
    write_round(tmp_path)
    path = tmp_path / "extracted_results/2/digits/random/0" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=telling) as error:
        load(tmp_path)
    assert str(path) in str(error.value)


def test_a_seed_twice(tmp_path):
    write_round(tmp_path)
    write_round(tmp_path / "seed-1")
    with pytest.raises(ValueError, match="both of seed 1"):
        load(tmp_path)


def test_nothing_there(tmp_path, refused):
    def nothing(*_):
        pytest.fail("there is nothing to draw")

    main = results.command("Nothing.", nothing, released=nothing)
    refused(main, tmp_path, telling="no extracted_results")
    write_round(tmp_path)
    (path,) = tmp_path.rglob("performances.json")
    path.write_text(json.dumps({"dataset": "digits"}))
    refused(main, tmp_path, telling="lacks")
    assert not (tmp_path / "figures").exists()
