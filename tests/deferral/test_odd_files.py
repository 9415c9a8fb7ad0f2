"""Files and flags that a report once misread: what is read instead, and what is refused."""

import json
from collections import Counter

import numpy as np
import pytest

from deferral import apply
from deferral.external import Reading, load
from deferral.policy import Policy
from deferral.report import __main__ as report
from tests.deferral.answers_files import reported, table, write
from tests.deferral.reports import run
from tests.deferral.test_report_exits import write as write_exits
from tests.figures.conftest import synthetic

pytestmark = pytest.mark.usefixtures("quick")
N = 200


def answers(words=4, n=N, seed=0):
    """Two models that answer with words, the first with a score."""
    rng = np.random.default_rng(seed)
    label, wrong = rng.integers(0, words, (2, n))
    texts = np.array([f"w{k}" for k in range(words)])
    score = rng.random(n)
    small = np.where(rng.random(n) < score, label, wrong)
    large = np.where(rng.random(n) < 0.9, label, wrong)
    return {
        "label": texts[label],
        "answer_small": texts[small],
        "score_small": score,
        "answer_large": texts[large],
    }


def test_answers_in_free_text_make_no_tables_of_classes(tmp_path, no_page):
    columns = answers(words=5000, n=300)
    found, policy = reported(write(tmp_path / "a.csv", columns))
    assert found["classes"] is None
    assert found["data"]["classes"] == 0
    assert policy is not None
    assert len(json.dumps(found)) < 400_000


def test_of_many_classes_the_most_frequent_errors_are_kept(tmp_path, no_page):
    columns = answers(words=30, n=400)
    columns["split"] = np.where(np.arange(400) % 2, "val", "test")
    found, _ = reported(write(tmp_path / "a.csv", columns), "--cost_e", 0)
    classes = found["classes"]
    assert classes["confusion_kept"] is classes["confusion_sent"] is None
    of = {row["name"]: row for row in found["choice"]["rules"]}["score"]
    (t,) = of["thresholds"]
    pairs = Counter()
    for k in range(0, 400, 2):
        sent = -columns["score_small"][k] > t
        pair = columns["label"][k], columns["answer_large" if sent else "answer_small"][k]
        pairs[(sent, *pair)] += pair[0] != pair[1]
    for side, name in ((False, "kept"), (True, "sent")):
        errors = {(y, a): c for y, a, c in classes[f"errors_{name}"]}
        assert len(errors) == min(12, sum(c > 0 for (s, *_), c in pairs.items() if s == side))
        assert all(pairs[(side, *pair)] == count for pair, count in errors.items())


@pytest.mark.parametrize(
    ("table_", "said"),
    [
        ({"correct": [0, 1]}, "the share of right answers"),
        ({"label": [0, 0], "quality": [0.25, 1]}, "the mean of the file's qualities"),
    ],
)
def test_what_quality_is(table_, said, tmp_path):
    columns = {
        f"{name}_{model}" if name != "label" else name: np.tile(values, 100)
        for name, values in table_.items()
        for model in ("small", "large")
    }
    path = write(tmp_path / "a.csv", columns)
    run(path, "--draws", 9)
    assert f"Quality is {said}" in path.with_name("a-report.html").read_text()


def test_a_price_of_the_device_is_no_column_of_the_file(tmp_path):
    path = write_exits(tmp_path)
    run(path, "--draws", 9, "--out", tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert json.loads((tmp_path / "a.json").read_text())["choice"]["unit"] == "local errors"
    assert "column cost_e" not in text
    assert "what cost_e says" not in text


def test_pictures_have_qualities(tmp_path, no_page):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N)
    arrays = {f"{name}_logits": rng.normal(size=(N, 3)) for name in ("small", "large")}
    arrays |= {"quality_small": np.full(N, 0.25), "quality_large": np.ones(N)}
    images = np.zeros((N, 1, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", labels=labels, images=images, **arrays)
    found, _ = reported(tmp_path / "a.npz")
    for one in found["pictures"]["shown"]:
        assert (one["local_quality"], one["remote_quality"]) == (0.25, 1)


def test_a_promise_is_broken_only_beyond_chance():
    expected = {"samples": 1000, "groups": 1000, "shares": [0.81, 0.19], "quality": 1.0, "bins": []}
    policy = Policy(
        "thresholds", "r", ["a", "b"], expected=expected, promise={"max_reject_rate": 0.2}
    )

    def told(sent, n=100, groups=100):
        stage = (np.arange(n) < sent).astype(int)
        return [line for line in apply.drift(policy, stage, stage[None], groups) if "sent" in line]

    rng, seen = np.random.default_rng(0), 0
    for _ in range(300):
        seen += bool(told((rng.random(100) < 0.19).sum()))
    assert seen == 0
    assert told(40)
    assert not told(40, groups=10)


def test_a_policy_of_another_rule_does_not_stay(tmp_path, no_page):
    path = tmp_path / "cifar10-predictions.npz"
    synthetic(path, cost_1=(1.25,), cost_e=(0.2,), async_freq=(1,), n=(60, 200), pictures=0)
    arrays = dict(np.load(path))
    right = arrays["stage_logits"].argmax(-1) == arrays["labels"]
    arrays["scores"][0] = np.where(~right[0] & right[1], 1, -1)
    np.savez(path, **arrays)
    old = tmp_path / "cifar10-policy.json"
    old.write_text("old")
    run(path, "--draws", 9, "--cost_e", 0.2, "--overwrite")
    found = json.loads((tmp_path / "cifar10-report.json").read_text())
    assert found["policy"] is None
    assert not old.exists()


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--doubts", "smal"], "--doubts smal: has no column score_smal"),
        (["--doubts", "large"], "--doubts large: has no column score_large"),
        (["--quality_scale", 1, 10], "--quality_scale: has no column quality_NAME"),
        (["--scores", "logits"], "--scores: has no class scores"),
        (["--models", "small", "big"], "has no model big"),
    ],
)
def test_flags_that_a_file_gives_no_meaning_to(flags, telling, tmp_path, refused):
    path = write(tmp_path / "a.csv", answers())
    refused(report.main, path, *flags, telling=telling)


@pytest.mark.parametrize(
    "flags",
    [
        ["--models", "local", "remote"],
        ["--pay", "router"],
        ["--doubts", "local"],
        ["--missing", "drop"],
        ["--scores", "logits"],
        ["--quality_scale", 1, 10],
    ],
)
def test_flags_of_answers_are_not_for_predictions(flags, tmp_path, refused):
    path = tmp_path / "cifar10-predictions.npz"
    synthetic(path, cost_1=(1.25,), cost_e=(0.2,), async_freq=(1,), n=(60, 80), steps=2)
    telling = f"{flags[0]}: only for files of answers"
    refused(report.main, path, "--draws", 9, *flags, telling=telling)


def test_a_model_of_doubts_may_be_spelt_in_any_case(tmp_path):
    path = write(tmp_path / "a.csv", answers())
    found = load(path, Reading(doubts=("SMALL",)))
    assert found.doubts == ("small",)
    np.testing.assert_array_equal(found.models[0].score, -load(path).models[0].score)


def test_columns_of_numbers_are_no_models(tmp_path):
    columns = answers()
    path = write(tmp_path / "a.csv", columns | {"latency_95": np.ones(N)})
    assert [m.name for m in load(path).models] == ["small", "large"]
    columns |= {f"feat_{k}": np.arange(N) + k for k in range(10)}
    found = load(write(path, columns), Reading(models=("Small", "large")))
    assert [m.name for m in found.models] == ["small", "large"]
    assert dict(found.understood)["left out"] == "feat"


def test_groups_of_times_stay_apart(tmp_path):
    columns = answers() | {"group": 1.7e9 + np.arange(N) / 4}
    assert len(np.unique(load(write(tmp_path / "a.csv", columns)).group)) == N


def test_a_rejector_of_another_length_is_refused(tmp_path):
    columns = answers()
    labels = columns["label"].astype("U")
    arrays = {"labels": labels, "answer_a": labels, "answer_b": labels}
    for rejector in (np.zeros(N - 1), np.zeros((2, N))):
        np.savez(tmp_path / "a.npz", **arrays, rejector=rejector)
        with pytest.raises(ValueError, match=r"a\.npz: labels has 200 rows, but rejector is \("):
            load(tmp_path / "a.npz")


def test_lists_that_are_not_needed_are_no_obstacle(tmp_path):
    rows = [dict(zip(answers(), row, strict=True)) for row in zip(*answers().values(), strict=True)]
    path = tmp_path / "a.jsonl"
    for tags in (lambda k: ["x"] * (k % 3), lambda k: ["a", "b"], lambda k: [1] * (k % 3)):
        lines = [json.dumps(row | {"tags": tags(k)}) for k, row in enumerate(rows)]
        path.write_text("\n".join(lines))
        assert "tags" in dict(load(path).understood)["not used"]


def test_decimal_commas_have_exponents(tmp_path):
    columns = answers()
    columns["score_small"] = [f"{x:.4E}".replace(".", ",") for x in columns["score_small"]]
    path = tmp_path / "a.csv"
    rows = [columns, *zip(*columns.values(), strict=True)]
    path.write_text("\n".join(";".join(map(str, row)) for row in rows))
    np.testing.assert_allclose(load(path).models[0].score, answers()["score_small"], rtol=1e-4)


def test_curves_do_not_depend_on_the_order_of_rows(tmp_path, no_page):
    columns = answers(n=400) | {"split": np.where(np.arange(400) % 2, "val", "test")}
    columns["score_small"] = np.round(columns["score_small"])
    drawn = []
    for order in (np.arange(400), np.argsort(columns["answer_small"] == columns["label"])):
        shuffled = {name: np.asarray(values)[order] for name, values in columns.items()}
        found, _ = reported(write(tmp_path / "a.csv", shuffled), "--cost_e", 0.2)
        drawn.append({c["name"]: c for c in found["choice"]["curves"]}["score"]["quality"])
    np.testing.assert_allclose(*drawn)


def test_a_cascade_of_models_has_no_exits_in_its_words(tmp_path, no_page):
    found, _ = reported(write(tmp_path / "a.csv", table(200, models=3, scores=True)))
    row = next(r for r in found["settings"][0]["rules"] if r["name"] == "exits only")
    assert "exit" not in row["label"] + row["about"]
    assert "probability" not in row["about"]
    assert "server" not in row["about"]


def test_a_judges_word_goes_before_the_answer(tmp_path):
    columns = answers() | {"correct_small": np.arange(N) % 2}
    found = load(write(tmp_path / "a.csv", columns))
    np.testing.assert_array_equal(found.models[0].quality, columns["correct_small"])
    assert "correct_small says what is right, not answer_small" in dict(found.understood)["small"]
