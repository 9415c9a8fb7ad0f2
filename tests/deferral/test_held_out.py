from dataclasses import replace

import numpy as np
import pytest

from deferral.cascade import Scores
from deferral.decide import prepared, scored
from deferral.held_out import held_out
from deferral.policy import decide
from deferral.predictions import Own, Predictions
from deferral.report.choice import Wanted, choose
from deferral.report.guarantee import rate_cut
from deferral.report.numbers import Options
from deferral.report.use import policy_of

COST, MAX_RATE, DELTA = (1.0, 0.1), 0.3, 0.05
POPULATION = 1000


def samples(rng, n, exits=1, classes=3):
    """Labels [n], and logits of `exits` exits and a server that err on hard samples."""
    labels, hard = rng.integers(0, classes, n), rng.normal(size=n)
    lift = np.linspace(1.2, 3.6, exits + 1)[:, None] - hard + 0.5 * rng.normal(size=(exits + 1, n))
    logits = 1.2 * rng.normal(size=(exits + 1, n, classes))
    return labels, logits + lift[:, :, None] * (np.arange(classes) == labels[:, None])


def predictions(val, test, exits=1, own=None):
    """The first part is val, the second one test."""
    settings = {"dataset": "made up", "classes": ["a", "b", "c"], "rejectors": []}
    if exits > 1:
        settings |= {"multiply_adds": list(range(1, exits + 1)), "cost_flops": 0.01}
    labels, n = np.concatenate([val[0], test[0]]), len(val[0]) + len(test[0])
    return Predictions(
        labels=labels,
        stage_logits=np.concatenate([val[1], test[1]], axis=1).astype(np.float32),
        split=np.repeat([0, 1], [len(val[0]), len(test[0])]),
        index=np.arange(n),
        scores=np.zeros((0, n), np.float32),
        settings=settings,
        own=own,
    )


@pytest.mark.parametrize(
    ("exits", "name", "splits"),
    [(1, "margin", 60), (2, "optimum", 40)],
)
def test_a_promise_holds_with_the_rule_fitted_anew(exits, name, splits, quick):
    """Each split draws 200 val rows, fits the rule and promises a rate of all samples."""
    labels, logits = samples(np.random.default_rng(9), POPULATION, exits)
    rates = []
    for seed in range(splits):
        rows = np.random.default_rng(seed).integers(0, POPULATION, 200)
        run = predictions((labels[rows], logits[:, rows]), (labels, logits), exits)
        held = held_out(run, COST, name)
        rates.append((held.decision.score > rate_cut(held, MAX_RATE, DELTA)).mean())
    broken = np.mean(np.array(rates) > MAX_RATE)
    assert broken <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / splits)
    assert np.mean(rates) > MAX_RATE / 2  # the promise is not idle


def test_a_rule_is_not_fitted_on_the_rows_held_out():
    """Other answers of the server on these rows move neither its scores nor its exits."""
    rng = np.random.default_rng(0)
    val, test = samples(rng, 60, 2), samples(rng, 40, 2)
    run = predictions(val, test, 2)
    for name in ("optimum", "max_softmax"):
        held = held_out(run, COST, name)
        assert 0 < len(held.rows) < 60
        logits = val[1].copy()
        logits[-1, held.rows] = -logits[-1, held.rows]
        again = held_out(predictions((val[0], logits), test, 2), COST, name)
        for key in ("score", "exit"):
            np.testing.assert_array_equal(getattr(again.decision, key), getattr(held.decision, key))
            on_val = [getattr(one.decision, f"{key}_val")[held.rows] for one in (again, held)]
            np.testing.assert_array_equal(*on_val)


def test_all_of_val_serves_a_rule_that_is_not_fitted_on_it():
    rng = np.random.default_rng(0)
    run = predictions(samples(rng, 30), samples(rng, 20))
    held = held_out(run, COST, "margin")
    decision = scored(prepared(run).decide(*COST))["margin"]
    np.testing.assert_array_equal(held.rows, np.arange(30))
    np.testing.assert_array_equal(held.score, decision.score_val)
    np.testing.assert_array_equal(held.decision.score, decision.score)


def test_groups_are_fitted_on_or_held_out_as_a_whole():
    """Of each group that is held out, one row counts: the rows of a group are not independent."""
    rng = np.random.default_rng(0)
    val, test = samples(rng, 60), samples(rng, 30)
    group = np.concatenate([np.arange(60) // 4, 15 + np.arange(30)])
    logits = np.concatenate([val[1], test[1]], axis=1)
    quality = (logits.argmax(-1) == np.concatenate([val[0], test[0]])).astype(float)
    signals = [logits[0]]
    own = Own(quality, {"score": logits[:1, :, 0]}, signals, group=group)
    run = predictions(val, test, own=own)
    fitted, fixed = held_out(run, COST, "post_hoc"), held_out(run, COST, "score")
    assert len(set(group[fixed.rows])) == len(fixed.rows) == 15
    assert len(set(group[fitted.rows])) == len(fitted.rows) == 8
    own.quality[1, np.isin(group, group[fitted.rows])] = 0  # groups held out, all of their rows
    again = held_out(predictions(val, test, own=own), COST, "post_hoc")
    np.testing.assert_array_equal(again.decision.score, fitted.decision.score)


def test_few_val_rows_promise_nothing():
    rng = np.random.default_rng(0)
    for count in (1, 2, 3):
        run = predictions(samples(rng, count), samples(rng, 20))
        assert rate_cut(held_out(run, COST, "post_hoc"), MAX_RATE, DELTA) == np.inf


@pytest.mark.parametrize(("exits", "wanted"), [(1, "risk"), (1, "quality"), (2, "risk")])
def test_the_chosen_rule_sends_no_more_than_is_promised(exits, wanted):
    """Whatever the goal wants to send, and the policy says what it keeps."""
    rng = np.random.default_rng(0)
    run = predictions(samples(rng, 1000, exits), samples(rng, 5000, exits), exits)
    for max_rate in (0.1, 0.2):
        options = Options(draws=20, max_reject_rate=max_rate)
        goal = Wanted(wanted, 0.8 if wanted == "quality" else None)
        option, choice = choose([run], (1.0, 0.01), goal, options)
        policy = policy_of([run], option, choice)
        sent = next(r["shares"][-1] for r in choice["rules"] if r["name"] == choice["chosen"])
        assert sent < max_rate + 0.01
        assert sent > max_rate / 2
        assert choice["met"] == (wanted == "risk")
        assert option.promise == {"max_reject_rate": max_rate, "delta": 0.05}
        assert policy is None or policy.promise == option.promise
    unbounded, _ = choose([run], (1.0, 0.01), Wanted("risk"), Options(draws=20))
    assert unbounded.promise is None
    assert (unbounded.test[0] == exits).mean() > 0.3


def test_the_chosen_rule_has_no_more_risk_than_is_promised():
    """In all draws of val but a share of delta; a rule without a threshold has to keep it, too."""
    rng, broken, draws = np.random.default_rng(0), 0, 20
    test = samples(rng, 2000)
    options = Options(draws=1, delta=0.2)
    for _ in range(draws):
        run = predictions(samples(rng, 800), test)
        risk = 0.98 - run.part("test").correct[0].mean()  # the local model alone breaks it
        option, choice = choose([run], (1.25, 0.1), Wanted("max_risk", risk), options)
        row = next(r for r in choice["rules"] if r["name"] == choice["chosen"])
        broken += row["risk"] > risk
        assert option.promise == {"max_risk": risk, "delta": 0.2} == choice["promise"]
        assert row["thresholds"]
    assert broken <= 0.2 * draws


def test_the_promise_of_a_risk_is_kept_at_the_least_cost():
    rng = np.random.default_rng(0)
    run = predictions(samples(rng, 3000), samples(rng, 3000))
    never = 1 - run.part("test").correct[0].mean()
    sent = []
    for risk in (never + 0.05, never - 0.03, never - 0.06):
        _, choice = choose([run], (1.0, 0.0), Wanted("max_risk", risk), Options(draws=1))
        sent.append(next(r["sent"] for r in choice["rules"] if r["name"] == choice["chosen"]))
    assert sent[0] == 0 < sent[1] < sent[2] < 1
    both = Options(draws=1, max_reject_rate=(sent[1] + sent[2]) / 2)
    option, _ = choose([run], (1.0, 0.0), Wanted("max_risk", never - 0.03), both)
    assert set(option.promise or {}) == {"max_risk", "max_reject_rate", "delta"}
    with pytest.raises(ValueError, match=r"no rule keeps it .* the least risk on val is 0"):
        choose([run], (1.0, 0.0), Wanted("max_risk", never - 0.06), both)


def test_a_policy_of_estimates_decides_as_the_rule_whose_promise_it_makes():
    """Its coefficients are of the fit without the rows held out."""
    rng = np.random.default_rng(0)
    run = predictions(samples(rng, 600), samples(rng, 400))
    option, choice = choose([run], (1.0, 0.1), Wanted("risk"), Options(20, max_reject_rate=0.2))
    held = held_out(run, (1.0, 0.1), "post_hoc")
    option = replace(
        option,
        rule=held.decision.rule,
        fit=held.fit,
        thresholds=[[held.decision.threshold]],
        cost=(1.0, 0.1),
    )
    policy = policy_of([run], option, choice | {"models": ["local", "remote"]})
    new = Scores(400, {"local": run.stage_logits[0, 600:]}, {}, {}, [])
    np.testing.assert_array_equal(decide(policy, new)[0], held.decision.stop)


def test_a_rule_without_a_score_is_refused():
    rng = np.random.default_rng(0)
    run = predictions(samples(rng, 30), samples(rng, 20))
    with pytest.raises(ValueError, match="rule oracle has no score"):
        held_out(run, COST, "oracle")
