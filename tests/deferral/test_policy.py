"""A policy decides for new samples as its report did, and says what differs from the report."""

import csv
import json

import numpy as np
import pytest

from deferral import apply
from deferral.decide import prepared
from deferral.predictions import load
from deferral.report import __main__ as report
from deferral.report import flags
from deferral.report.choice import candidates_of, choose
from deferral.report.cuts import Wanted
from deferral.report.numbers import Options
from deferral.report.use import code, how, policy_of
from tests.deferral.answers_files import reported, table, write
from tests.figures.conftest import synthetic

pytestmark = pytest.mark.usefixtures("quick", "no_page")
OF_LABELS = ("label", "answer_", "correct_", "quality_", "split")
COST = (1.0, 0.3)


def runs_of(path, *argv):
    args = flags.parse_args(None, [str(path), *argv])
    return report.read_runs(
        args.paths, None, None, None, flags.reading(args), args.pay or "cascade"
    )


def of_rule(runs, rule):
    """The option of a rule at COST, and its policy."""
    wanted = Wanted("risk")
    options = candidates_of([prepared(runs[0])], COST, wanted, runs[0].settings["models"])
    option = next(o for o in options if o.rule.name == rule)
    _, numbers = choose(runs, COST, wanted, Options(draws=10))
    return option, policy_of(runs, option, numbers)


def without_labels(path, columns):
    return write(path, {k: v for k, v in columns.items() if not k.startswith(OF_LABELS)})


def decided(policy_file, file, out):
    """The model of each row of decisions.csv."""
    assert apply.main([str(policy_file), str(file), "--out", str(out), "--overwrite"]) == 0
    with open(out) as f:
        return [row["model"] for row in csv.DictReader(f)]


@pytest.mark.parametrize("wanted", [Wanted("risk"), Wanted("quality"), Wanted("budget", 0.5)])
@pytest.mark.parametrize(
    ("made", "argv"),
    [
        ({}, []),
        ({"models": 3, "costs": True}, []),
        ({"scores": True}, ["--pay", "router"]),
        ({"scores": True, "models": 3}, ["--pay", "router", "--doubts", "small"]),
        ({"rejector": True}, []),
        ({"models": 3, "rejector": True}, []),
    ],
)
def test_every_rule_decides_as_in_the_report(made, argv, wanted, tmp_path):
    columns = table(200, **made)
    runs = runs_of(write(tmp_path / "a.csv", columns), *argv)
    bare = without_labels(tmp_path / "b.csv", columns)
    models, test = runs[0].settings["models"], columns["split"] == "test"
    _, numbers = choose(runs, COST, wanted, Options(draws=10))
    rows = {row["name"]: row for row in numbers["rules"]}
    names = set()
    for option in candidates_of([prepared(runs[0])], COST, wanted, models):
        if option.rule.name in names or option.rule.name not in rows:
            continue  # of many prices the first
        made_policy = policy_of(runs, option, numbers)
        (tmp_path / "p.json").write_text(made_policy.to_json())
        found = decided(tmp_path / "p.json", bare, tmp_path / "d.csv")
        expected = [models[stage] for stage in option.test[0]]
        assert [m for m, of_test in zip(found, test, strict=True) if of_test] == expected
        names.add(option.rule.name)
    assert len(names) > 3


def test_the_written_policy_has_the_shares_of_the_page(tmp_path):
    columns = table(300, models=3)
    file = write(tmp_path / "a.csv", columns)
    found, written = reported(file, "--cost_e", 0.1)
    answers = decided(tmp_path / "out" / "a-policy.json", file, tmp_path / "d.csv")
    of_test = [m for m, s in zip(answers, columns["split"], strict=True) if s == "test"]
    row = next(r for r in found["choice"]["rules"] if r["name"] == found["choice"]["chosen"])
    assert row["shares"] == [of_test.count(m) / len(of_test) for m in found["choice"]["models"]]
    assert written["thresholds"] == row["thresholds"]
    for threshold, (low, high) in zip(
        written["thresholds"], written["threshold_intervals"], strict=True
    ):
        assert low <= threshold <= high


@pytest.mark.parametrize("rule", ["max_softmax", "margin", "entropy", "score", "score_gap"])
@pytest.mark.parametrize("models", [2, 3])
def test_the_lines_on_the_page_decide_as_the_policy(rule, models, tmp_path):
    columns = table(200, models=models, scores="score" in rule)
    runs = runs_of(write(tmp_path / "a.csv", columns), "--pay", "router")
    option = next(
        o
        for o in candidates_of(
            [prepared(runs[0])], COST, Wanted("risk"), runs[0].settings["models"]
        )
        if o.rule.name == rule
    )
    _, numbers = choose(runs, COST, Wanted("risk"), Options(draws=10))
    made = policy_of(runs, option, numbers)
    names = made.models
    values = {
        "scores": [
            np.stack([columns[f"{m}_{c}"] for c in range(4)], axis=1)
            for m in names[:-1]
            if f"{m}_0" in columns
        ],
        "score": [columns[f"score_{m}"] for m in names if f"score_{m}" in columns],
    }
    exec("\n".join(code(made)), values)
    np.testing.assert_array_equal(values["answers"][columns["split"] == "test"], option.test[0])


def test_names_and_order_of_columns_are_those_of_the_policy(tmp_path):
    """Class names, another order, another case, columns that the policy does not know."""
    columns = table(200)
    words = np.array(["cat", "dog", "cow", "ant"])
    columns = {
        k.replace("small_", "Tiny_"): words[v] if k in ("label", "answer_large") else v
        for k, v in columns.items()
    }
    columns = {
        f"Tiny_{words[int(k[5:])]}" if k.startswith("Tiny_") else k: v for k, v in columns.items()
    }
    columns["score_Tiny"] = np.linspace(0, 1, 200)
    runs = runs_of(write(tmp_path / "a.csv", columns))
    _, numbers = choose(runs, COST, Wanted("risk"), Options(draws=10))
    option = next(
        o
        for o in candidates_of(
            [prepared(runs[0])], COST, Wanted("risk"), runs[0].settings["models"]
        )
        if o.rule.name == "post_hoc"
    )
    (tmp_path / "p.json").write_text(policy_of(runs, option, numbers).to_json())
    shuffled = {k.lower(): columns[k] for k in sorted(columns) if k.startswith(("Tiny", "score"))}
    shuffled |= {"tiny_seconds": np.ones(200), "rejector_other": np.zeros(200)}
    found = decided(tmp_path / "p.json", write(tmp_path / "b.csv", shuffled), tmp_path / "d.csv")
    test = [m for m, s in zip(found, columns["split"], strict=True) if s == "test"]
    assert test == [runs[0].settings["models"][s] for s in option.test[0]]


def test_a_native_file_is_decided_by_its_policy(tmp_path):
    path = tmp_path / "cifar10-predictions.npz"
    synthetic(path, cost_1=(9.0,), cost_e=(9.0,), pictures=0, n=(90, 120))
    _, written = reported(path, "--cost_1", 1, "--cost_e", 0.2)
    run = load(path)
    found = decided(tmp_path / "out" / "a-policy.json", path, tmp_path / "d.csv")
    sent = np.array([m == "remote" for m in found])[run.split == 1]
    assert sent.mean() == pytest.approx(written["expected"]["shares"][1])


def test_check_flags_a_shift_and_no_fresh_sample(tmp_path, capsys):
    for made, cost in (
        ({}, ("--cost_e", 0.2)),
        ({"models": 3, "costs": True}, ("--error_cost", 2)),
        ({"scores": True}, ("--cost_e", 0.2)),
    ):
        reported(write(tmp_path / "a.csv", table(1000, **made)), *cost)
        policy = str(tmp_path / "out" / "a-policy.json")
        flagged = 0
        for seed in range(1, 11):
            fresh = table(300, seed=seed, **made)
            flagged += apply.main([policy, str(write(tmp_path / "b.csv", fresh)), "--check"])
        assert flagged == 0
        shifted = table(300, seed=1, **made)
        for name, column in shifted.items():
            if name.startswith(("small_", "score_small")):
                shifted[name] = 0.5 * column + 0.5 * (0.25 if "score" not in name else 0)
        assert apply.main([policy, str(write(tmp_path / "b.csv", shifted)), "--check"]) == 1
        assert "doubts of small" in capsys.readouterr().out


def test_check_counts_groups_not_copies(tmp_path):
    columns = table(400)
    columns["group"] = np.arange(400)
    reported(write(tmp_path / "a.csv", columns), "--cost_e", 0.2)
    few = {name: np.repeat(column, 50) for name, column in table(20, seed=3).items()}
    few["group"] = np.repeat(np.arange(20), 50)
    policy = str(tmp_path / "out" / "a-policy.json")
    assert apply.main([policy, str(write(tmp_path / "b.csv", few)), "--check"]) == 0


@pytest.fixture
def written(tmp_path):
    columns = table(200)
    reported(write(tmp_path / "a.csv", columns), "--cost_e", 0.2)
    return tmp_path / "out" / "a-policy.json", columns


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        ({"policy": 2}, "version 2"),
        ({"kind": "guess"}, "kind 'guess'"),
        ({"thresholds": []}, "0 thresholds for 2 models"),
        ({"doubts": []}, "says what 0 doubts are"),
        ({"models": None}, "no policy of deferral.report"),
        ({"kind": "estimates"}, "lacks coefficients"),
        ({"kind": "model", "rule": "else"}, "'else' is not among small, large"),
        ({"surprise": 1}, "no policy of deferral.report"),
    ],
)
def test_bad_policies(change, telling, written, tmp_path, refused):
    values = json.loads(written[0].read_text()) | change
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(values))
    refused(apply.main, bad, tmp_path / "a.csv", "--check", telling=telling)


def test_files_that_lack_what_is_read(written, tmp_path, refused):
    policy, columns = written
    out = tmp_path / "d.csv"
    few = {k: v for k, v in columns.items() if k != "small_2"}
    for table_, telling in (
        ({"id": np.arange(5)}, "b.csv: has no class scores of small"),
        (few, "small_0"),
        (columns | {"small_1": np.full(200, "x")}, "b.csv: "),
        (columns | {"small_1": np.full(200, 7.0)}, "cannot be probabilities"),
    ):
        file = write(tmp_path / "b.csv", table_)
        refused(apply.main, policy, file, "--out", out, telling=telling)
    refused(apply.main, tmp_path / "no.json", file, "--check", telling="no.json: no such file")
    refused(apply.main, tmp_path / "a.csv", file, "--check", telling="a.csv: is no policy")
    refused(apply.main, policy, tmp_path / "no.csv", "--check", telling="no.csv: no such file")
    assert not out.exists()
    out.write_text("mine")
    refused(apply.main, policy, tmp_path / "a.csv", "--out", out, telling="--overwrite replaces it")
    assert out.read_text() == "mine"


def test_the_report_has_the_policys_coefficients_in_full(tmp_path):
    runs = runs_of(write(tmp_path / "a.csv", table(200)))
    _, policy = of_rule(runs, "post_hoc")
    shown = how(policy, "a-policy.json")["coefficients"]
    written = json.loads(policy.to_json())["logistic"]
    assert list(shown.values()) == written
    assert len(written[0]["weights"]) == 2
