"""What to do: chosen on val, measured on test, and as good as a search through all thresholds."""

import itertools
import json

import numpy as np
import pytest

from deferral.bootstrap import verdict
from deferral.report import __main__ as report
from deferral.report.cuts import Rows, Wanted
from deferral.report.headline import headline, limit
from tests.deferral.answers_files import reported, softmax, table, write

pytestmark = pytest.mark.usefixtures("quick", "no_page")


def row_of(found, name=None):
    choice = found["choice"]
    return next(r for r in choice["rules"] if r["name"] == (name or choice["chosen"]))


@pytest.mark.parametrize("argv", [[], ["--cost_e", 0.1], ["--budget", 0.4]])
def test_the_choice_does_not_see_test(argv, tmp_path):
    columns = table(300, models=3 if not argv else 2, rejector=True)
    found, policy = reported(write(tmp_path / "a.csv", columns), *argv)
    test = columns["split"] == "test"
    rng, rows = np.random.default_rng(1), np.arange(300)
    rows[test] = rng.permutation(rows[test])
    for name, column in columns.items():
        columns[name] = column[rows] if name.startswith(("label", "answer")) else column
    other, changed = reported(write(tmp_path / "a.csv", columns), *argv)
    assert other["choice"]["chosen"] == found["choice"]["chosen"]
    for key in ("thresholds", "threshold_intervals", "logistic", "going_on"):
        assert changed[key] == policy[key]
    if policy["kind"] != "model":
        assert row_of(other)["quality"] != row_of(found)["quality"]


def every_cut(doubt):
    values = np.unique(doubt)
    return [-np.inf, *(values[:-1] + values[1:]) / 2, np.inf]


def slow(doubt, quality, cost, wanted):
    """The least loss over every vector of thresholds."""
    best, rows = np.inf, np.arange(doubt.shape[1])
    for thresholds in itertools.product(*map(every_cut, doubt)):
        stage = np.array([np.argmax([*(d <= thresholds), True]) for d in doubt.T])
        q, c = quality[stage, rows].mean(), cost[stage, rows].mean()
        if wanted.kind == "budget":
            loss = -q if c <= wanted.value + 1e-12 else np.inf
        else:
            loss = c if wanted.kind == "risk" or q >= wanted.value - 1e-12 else np.inf
        best = min(best, loss)
    return best


@pytest.mark.parametrize("kind", ["risk", "quality", "budget"])
@pytest.mark.parametrize("models", [2, 3])
def test_thresholds_are_those_of_a_slow_search(kind, models):
    rng, missed = np.random.default_rng(0), 0
    for _ in range(20):
        n = 40 if models == 2 else 9
        quality = rng.random((models, n)) < np.linspace(0.4, 0.9, models)[:, None]
        cost = np.cumsum(rng.uniform(0.1, 1, (models, n)), axis=0)
        doubt = np.round(rng.normal(size=(models - 1, n)) - quality[:-1], 1)  # with ties
        value = {"risk": None, "quality": quality[-1].mean(), "budget": 1.4}[kind]
        wanted = Wanted(kind, value)
        if kind == "risk":
            cost = cost + ~quality
        least = slow(doubt, quality, cost, wanted)
        starts = [np.full(models - 1, -np.inf)]
        starts += [np.where(np.arange(models - 1) == k, np.inf, -np.inf) for k in range(models - 1)]
        found = [Rows(doubt, quality, cost).fit(wanted, start) for start in starts]
        losses = []
        for thresholds in found:
            if thresholds is not None:
                stage = np.array([np.argmax([*(d <= thresholds), True]) for d in doubt.T])
                q, c = (v[stage, np.arange(n)].mean() for v in (quality, cost))
                losses.append(float(wanted.loss(q, c)))
        assert (min(losses, default=np.inf) == np.inf) == (least == np.inf)
        if least < np.inf:
            missed += min(losses) > least + 1e-9
    assert missed <= (0 if models == 2 else 8)  # one threshold at a time is no search of all


@pytest.mark.parametrize(
    ("made", "pay"),
    [({}, "cascade"), ({"models": 3, "costs": True}, "cascade"), ({"scores": True}, "router")],
)
def test_budget_and_quality_are_kept_on_val(made, pay, tmp_path):
    columns = table(400, **made)
    file = write(tmp_path / "a.csv", columns)
    models = [name.split("_")[1] for name in columns if name.startswith("cost_")]
    val = columns["split"] == "val"
    for argv, key in (
        (("--budget", 0.35), "cost"), (("--min_quality", 0.7), "quality"),
        (("--min_quality", "97%"), "quality"),
    ):  # fmt: skip
        found, _ = reported(file, *argv, "--pay", pay)
        choice = found["choice"]
        chosen = row_of(found)
        assert choice["wanted"] == argv[0].removeprefix("--min_").removeprefix("--")
        # No other option of val is better, single models included.
        losses = [r["val_loss"] for r in choice["rules"] if r["val_loss"] is not None]
        assert chosen["val_loss"] <= min(losses) + 1e-9
        if argv == ("--budget", 0.35):
            alone = [r for r in choice["rules"] if not r["thresholds"]]
            assert -chosen["val_loss"] >= max(-r["val_loss"] for r in alone if r["val_loss"])
        if argv[1] == "97%":
            right = columns["answer_" + choice["models"][-1]] == columns["label"]
            assert choice["value"] == pytest.approx(0.97 * right[val].mean())
        assert key in chosen
    if models:
        costs = np.stack([columns[f"cost_{m}"] for m in found["choice"]["models"]])
        alone = [r for r in found["choice"]["rules"] if not r["thresholds"]]
        for row, mean in zip(alone, costs[:, ~val].mean(1), strict=True):
            assert row["cost"] == pytest.approx(mean, rel=1e-5)


def test_error_cost_is_in_the_files_unit(tmp_path):
    """Risk is cost / X + errors: scaling costs and X together changes nothing."""
    columns = table(300, models=3, costs=True)
    one, policy = reported(write(tmp_path / "a.csv", columns), "--error_cost", 2)
    for name in columns:
        if name.startswith("cost_"):
            columns[name] = columns[name] * 8
    other, scaled = reported(write(tmp_path / "a.csv", columns), "--error_cost", 16)
    assert scaled["thresholds"] == pytest.approx(policy["thresholds"])
    assert row_of(other)["risk"] == pytest.approx(row_of(one)["risk"], rel=1e-5)
    test = columns["split"] == "test"
    alone = row_of(other, "always")
    right = (columns["answer_large"] == columns["label"])[test].mean()
    paid = columns["cost_large"][test].mean()  # alone it is asked alone
    assert alone["risk"] == pytest.approx(paid / 16 + 1 - right, rel=1e-5)


@pytest.mark.parametrize(
    ("argv", "telling"),
    [
        (["--min_quality", 0.999], "no rule reaches it on val; the highest quality there is 0."),
        (["--budget", 0.0001], "every rule costs more on val; the cheapest 0."),
        (["--budget", 1, "--min_quality", 0.5], "give one of them"),
        (["--min_quality", 1.2], "is not in 0 to 1"),
        (["--cost_e", 0.1], "a.csv has what each model costs"),
    ],
)
def test_goals_that_cannot_be_met(argv, telling, tmp_path, refused):
    file = write(tmp_path / "a.csv", table(100, costs=True))
    refused(report.main, file, *argv, "--draws", 9, telling=telling)
    assert sorted(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("form", ["one_hot", "one_column", "correct", "answers"])
def test_correctness_alone_gives_no_rule(form, tmp_path):
    """Random right and wrong bits: nothing but a model alone can be chosen."""
    rng = np.random.default_rng(0)
    bits = (rng.random((2, 400)) < [[0.6], [0.85]]).astype(int)
    columns = {
        "one_hot": {"label": np.ones(400, int), "local_0": 1 - bits[0], "local_1": bits[0]}
        | {"answer_remote": bits[1]},
        "one_column": {"label": np.ones(400, int), "local_1": bits[0], "answer_remote": bits[1]},
        "correct": {"correct_local": bits[0], "remote_correct": bits[1]},
        "answers": {"label": np.ones(400, int), "answer_local": bits[0], "answer_remote": bits[1]},
    }[form]
    found, policy = reported(write(tmp_path / "a.csv", columns), "--cost_e", 0.1)
    assert {row["kind"] for row in found["choice"]["rules"]} == {"limit"}
    assert policy["kind"] == "model"


def test_intervals_do_not_shrink_when_samples_are_repeated(tmp_path):
    columns = table(120, scores=True)
    for name in ("answer_small", "answer_large"):
        columns[name] = (columns[name] == columns["label"]).astype(int)
    columns |= {"label": np.ones(120, int), "group": np.arange(120)}  # no fitted estimates
    one, policy = reported(write(tmp_path / "a.csv", columns), "--cost_e", 0.2, draws=800)
    many = {name: np.repeat(column, 50) for name, column in columns.items()}
    other, repeated = reported(write(tmp_path / "a.csv", many), "--cost_e", 0.2, draws=800)
    for key in ("quality", "cost", "risk"):
        a, b = row_of(one), row_of(other)
        assert b[key] == pytest.approx(a[key], abs=1e-5)
        width = a[f"{key}_high"] - a[f"{key}_low"]
        assert b[f"{key}_high"] - b[f"{key}_low"] == pytest.approx(width, rel=0.2)
    assert repeated["threshold_intervals"] == policy["threshold_intervals"]
    for a, b in zip(one["settings"][0]["rules"], other["settings"][0]["rules"], strict=True):
        width = a["risk_high"] - a["risk_low"]
        assert b["risk_high"] - b["risk_low"] == pytest.approx(width, rel=0.2, abs=2e-3)


def test_a_routers_score_in_0_to_1_gets_thresholds_at_each_cost(tmp_path):
    columns = table(600, rejector=True)
    found, _ = reported(
        write(tmp_path / "a.csv", columns), "--cost_e", 0.3, "--grid", "1:0.05", "1:0.3", "1:0.6"
    )
    grid = {row["name"]: row for row in found["grid"]["rules"]}
    assert grid["router"]["reject_rate_at"] == [1.0] * 3  # all scores are above 0
    rates = grid["router, fitted"]["reject_rate_at"]
    assert rates[0] > rates[1] > rates[2]
    # 1 - the highest probability is max softmax's doubt.
    assert rates == pytest.approx(grid["max_softmax"]["reject_rate_at"])
    kinds = {row["name"] for row in found["choice"]["rules"]}
    assert {"router", "router, fitted"} <= kinds


def test_the_grid_is_around_the_users_costs(tmp_path):
    file = write(tmp_path / "a.csv", table(100))
    for cost in (0.001, 4.0):
        found, _ = reported(file, "--cost_e", cost)
        around = [pair["cost_e"] for pair in found["grid"]["costs"]]
        assert min(around) < cost < max(around)
        assert np.isclose(around, cost).any()
        assert max(around) / min(around) < 100
    found, _ = reported(file)
    assert "none given" in found["costs_from"]
    assert found["choice"]["wanted"] == "quality"


def test_a_difference_of_rounding_is_none(tmp_path):
    assert verdict(-1e-9, -1e-10) == verdict(0.0, 0.0) == "no difference"
    columns = table(200)
    columns["answer_large"] = np.stack([columns[f"small_{c}"] for c in range(4)]).argmax(0)
    found, _ = reported(write(tmp_path / "a.csv", columns), "--cost_e", 0.0)
    assert found["choice"]["chosen"] == "never"
    for row in found["settings"][0]["rules"]:
        if row["name"] != "oracle":
            assert row["difference_verdict"] == "no difference"


def random_file(rng):
    """Columns of a file of any kind, some degenerate; and flags."""
    n, models = int(rng.integers(20, 400)), int(rng.integers(2, 5))
    labels, names = rng.integers(0, 3, n), list("abcd")[:models]
    if rng.random() < 0.1:
        labels[:] = 1
    columns, scored, costs = {"label": labels}, rng.random() < 0.5, rng.random() < 0.4
    for k, name in enumerate(names):
        logits = rng.normal(size=(n, 3)) * rng.choice([0, 1, 5]) + (k + 1) * np.eye(3)[labels]
        kind = rng.choice(["logits", "answer", "correct", "quality"], p=[0.5, 0.2, 0.15, 0.15])
        if kind == "logits":
            p = logits if rng.random() < 0.5 else softmax(logits)
            columns |= {f"{name}_{c}": p[:, c] for c in range(3)}
        elif kind == "answer":
            columns[f"answer_{name}"] = logits.argmax(1)
        elif kind == "correct":
            columns[f"correct_{name}"] = (rng.random(n) < rng.choice([0, 0.5, 0.9, 1])).astype(int)
        else:
            columns[f"quality_{name}"] = np.round(rng.random(n), 2)
        if scored:
            columns[f"score_{name}"] = rng.choice([np.zeros(n), rng.random(n), logits.max(1)])
        if costs:
            columns[f"cost_{name}"] = 3.0**k * rng.random(n) * rng.choice([0, 1], p=[0.1, 0.9])
    if rng.random() < 0.3:
        columns["group"] = rng.integers(0, 1 + n // 3, n)
    if rng.random() < 0.3:
        columns["rejector"] = rng.normal(size=n)
    flags = [("--pay", "router")] if rng.random() < 0.3 else []
    costly = [("--error_cost", "5")] if costs else [("--cost_e", "0.2")]
    flags += [[], costly, [("--budget", "1e6")], [("--min_quality", "90%")]][rng.integers(4)]
    return columns, [word for pair in flags for word in pair]


@pytest.mark.parametrize("seed", range(12))
def test_random_files_give_reports_without_contradictions(seed, tmp_path):
    columns, flags = random_file(np.random.default_rng(seed))
    found, policy = reported(write(tmp_path / "a.csv", columns), *flags, draws=30)
    text = json.dumps(found)
    assert "NaN" not in text
    assert "Infinity" not in text
    assert policy is not None
    chosen = row_of(found)
    for key in ("quality", "cost", "risk"):
        assert chosen[f"{key}_low"] <= chosen[f"{key}_high"]
    told = " ".join(found["headline"])
    low, high = (chosen[f"quality_change_{end}"] for end in ("low", "high"))
    assert ("alone that is lower" in told) <= (high < 0)
    assert ("alone that is higher" in told) <= (low > 0)
    if "It saves" in told:
        assert chosen["saved_low"] > 0
    if "more (" in told:
        assert chosen["saved_high"] < 0
    assert "±∞" not in told


def test_the_headline_says_lower_only_of_an_interval_below_zero():
    row = {"name": "margin", "label": "margin", "kind": "confidence", "thresholds": [0.25]}
    row |= {"shares": [0.7, 0.3], "sent": 0.3, "saved": 0.7, "saved_low": 0.6, "saved_high": 0.8}
    row |= {"quality": 0.9, "quality_low": 0.88, "quality_high": 0.92, "val_loss": 0.3}
    row |= {"risk": 0.2, "cost": 0.3, "cost_low": 0.2, "cost_high": 0.4}
    ends = {"thresholds": [], "kind": "limit", "quality_change_low": 0, "quality_change_high": 0}
    for low, high, lower, higher in (
        (-0.02, -0.01, True, False), (0.01, 0.02, False, True), (-0.01, 0.01, False, False),
        (-1e-6, -1e-7, False, False), (0.0, 0.0, False, False),
    ):  # fmt: skip
        chosen = row | {"quality_change_low": low, "quality_change_high": high}
        rules = [chosen, row | ends | {"name": "never"}, row | ends | {"name": "always"}]
        choice = {
            "rules": rules,
            "chosen": "margin",
            "models": ["a", "b"],
            "wanted": "risk",
            "promise": None,
            "met": True,
        }
        choice |= {
            "value": None,
            "unit": "calls",
            "cost_unit": "calls",
            "pay": "cascade",
            "best_confidence": "margin",
        }
        told = " ".join(headline(choice, 0.95, (1.0, 0.1)))
        assert ("is lower" in told, "is higher" in told) == (lower, higher)
    assert [limit(t) for t in (1e308, -1e308, -0.0, 0.25)] == ["∞", "−∞", "0", "0.25"]
