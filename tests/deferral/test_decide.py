"""Rules of a device with three exits and a server: every decision against a slow obvious one."""

from dataclasses import replace

import numpy as np
import pytest

from deferral import curves, estimates, rules, stages
from deferral.catalogue import DOUBTS
from deferral.compare import compare
from deferral.decide import Decision, decide, prepared, scored
from deferral.estimates import bayes_score
from deferral.predictions import Predictions
from deferral.risk import costs, risk
from deferral.stopping import Stopping

EXITS, VAL, TEST, PAIRS = 3, 250, 300, [(1.25, 0.2), (1.0, 0.05)]
REJECTOR = {"stem": "r", "surrogate": "stage_switching", "async_freq": 1}
REJECTOR |= {"cost_1": 1.25, "cost_e": 0.2}


def make(run=0, exits=EXITS, cost_flops=1e-3):
    rng, own = np.random.default_rng(0), np.random.default_rng((run, 1))
    n = VAL + TEST
    labels, hard = rng.integers(0, 4, n), rng.normal(size=n)
    logits = own.normal(size=(exits + 1, n, 4))
    logits[:, np.arange(n), labels] += np.append(np.linspace(1, 2, exits), 3.5)[:, None] - hard
    right = logits.argmax(-1) == labels
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.repeat([0, 1], [VAL, TEST]),
        index=np.arange(n),
        scores=(own.normal(size=(1, n)) + ~right[-2] - 0.5).astype(np.float32),
        settings={
            "multiply_adds": [20, 50, 100][:exits],
            "cost_flops": cost_flops,
            "rejectors": [REJECTOR],
            "estimators": [{"name": "amortized", "about": "of features"}],
        },
        estimates=np.clip(0.6 * right[-2:] + 0.4 * own.random((1, 2, n)), 0, 1).astype(np.float32),
        source=f"run {run}",
    )


@pytest.fixture(scope="module", autouse=True)
def few_fits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "STRENGTHS", (3e-3,))
        yield


@pytest.fixture(scope="module")
def one():
    return make()


@pytest.fixture(scope="module")
def compared(one):
    return compare([one], PAIRS, draws=50)


LIMITS = ["never", "always", "exit 1", "exit 2", "oracle"]
BASE = [*LIMITS, "max_softmax", "margin", "entropy", "exits only", "optimum", "amortized"]


def stop_of(decision):
    return np.where(decision.stop > 0, EXITS, decision.exit)


def test_names_kinds_and_words(one):
    found = decide(one, *PAIRS[0])
    assert list(found) == [*BASE, "stage_switching"]
    assert list(decide(one, *PAIRS[1])) == BASE
    kinds = [found[k].rule.kind for k in ("exit 2", "oracle", "exits only", "optimum", "amortized")]
    assert kinds == ["limit", "oracle", "confidence", "estimates", "estimates"]
    assert found["never"].rule.about == "the last exit answers everything"
    for name, decision in found.items():
        assert decision.rule.name == name
        assert decision.rule.about


@pytest.mark.parametrize("cost", PAIRS)
def test_decisions_are_the_obvious_ones(one, cost):
    val, test = one.part("val"), one.part("test")
    price = costs(*cost, [0.02, 0.05, 0.1])
    wanted = {"never": [2] * TEST, "always": [3] * TEST}
    wanted |= {"exit 1": [0] * TEST, "exit 2": [1] * TEST}
    wanted["oracle"] = [
        min(range(4), key=lambda k: price[0][k] + price[1][k] * (not test.correct[k, n]))
        for n in range(TEST)
    ]
    for name, doubt in DOUBTS.items():
        on_val, on_test = (doubt(part.stage_logits[:3]) for part in (val, test))
        t = stages.fit_thresholds(on_val, val.correct, *price)
        wanted[name] = [
            next((k for k in range(3) if row[k] <= t[k]), 3) for row in on_test.T.tolist()
        ]
    on_val, on_test = (rules.max_softmax_doubt(part.stage_logits[:2]) for part in (val, test))
    scores = {"exits only": (np.full(VAL, -1), np.full(TEST, -1))}
    scores["amortized"] = tuple(bayes_score(part.estimates[0], *cost) for part in (val, test))
    scores["stage_switching"] = (val.scores[0], test.scores[0])
    for name, (of_val, of_test) in scores.items():
        t = stages.fit_thresholds(on_val, val.correct, *price, of_val > 0)
        wanted[name] = [
            next((k for k in range(2) if row[k] <= t[k]), 2 + (score > 0))
            for row, score in zip(on_test.T.tolist(), of_test, strict=True)
        ]
    for name, decision in decide(one, *cost).items():
        if name in wanted:
            np.testing.assert_array_equal(stop_of(decision), wanted[name], err_msg=name)
            assert set(decision.stop.tolist()) <= {0, 1}


def test_the_optimum_is_stopping(one):
    val, test = one.part("val"), one.part("test")
    price = costs(*PAIRS[0], [0.02, 0.05, 0.1])
    on_val, on_test = Stopping(val, test).decide(*price)
    found = decide(one, *PAIRS[0])["optimum"]
    np.testing.assert_array_equal(found.exit, on_test.exit)
    np.testing.assert_array_equal(found.score, on_test.score)
    np.testing.assert_array_equal(found.score_val, on_val.score)
    np.testing.assert_array_equal(found.exit_val, on_val.exit)


def test_scores_and_thresholds_give_the_decisions(one):
    for name, decision in decide(one, *PAIRS[0]).items():
        if name in (*LIMITS, "exits only"):
            assert type(decision) is Decision
            continue
        again = rules.threshold(decision.score, decision.threshold)
        np.testing.assert_array_equal(decision.stop, again)
        for score, exit in (
            (decision.score, decision.exit),
            (decision.score_val, decision.exit_val),
        ):
            np.testing.assert_array_equal(np.isneginf(score), exit < EXITS - 1)


def test_the_device_as_one_stage_has_the_risk_of_all(one, compared):
    names = [rule.name for rule in compared.rules]
    price, decisions = costs(*PAIRS[0], [0.02, 0.05, 0.1]), decide(one, *PAIRS[0])
    right = one.part("test").correct
    for name, decision in decisions.items():
        correct, of_two = prepared(one).as_two(decision, *PAIRS[0])
        assert correct.shape == of_two[0].shape == (2, TEST)
        stop = np.where(decision.stop > 0, EXITS, decision.exit)
        paid = risk(right, stop, *price)
        assert risk(correct, decision.stop, *of_two) == pytest.approx(paid)
        row = names.index(name)
        assert compared.risk[row, 0] == pytest.approx(paid, abs=1e-6)
        assert compared.accuracy[row, 0] == pytest.approx(right[stop, np.arange(TEST)].mean())
        assert compared.reject_rate[row, 0] == pytest.approx(decision.stop.mean())
    for decision in scored(decisions).values():
        send = rules.threshold(decision.score_val, decision.threshold)
        stop = np.where(send > 0, EXITS, decision.exit_val)
        paid = risk(one.part("val").correct, stop, *price)
        correct, of_two = prepared(one).val_as_two(decision, *PAIRS[0])
        assert correct.shape == of_two[0].shape == (2, VAL)
        assert risk(correct, send, *of_two) == pytest.approx(paid)
        assert prepared(one).val_risk(decision, *PAIRS[0]) == pytest.approx(paid)


def test_a_curve_moves_the_decision_to_ask_alone(one):
    """Its point at the rule's own rate is the rule; who stops early is sent last, and together."""
    decision = decide(one, *PAIRS[0])["max_softmax"]
    correct, price = prepared(one).as_two(decision, *PAIRS[0])
    curve = curves.deferral_curve(decision.score, correct, *price)
    own = np.flatnonzero(np.isclose(curve.rate, decision.stop.mean()))
    assert len(own) == 1
    assert curve.risk[own[0]] == pytest.approx(risk(correct, decision.stop, *price))
    reached = np.mean(decision.exit == EXITS - 1)
    assert 0 < reached < 1
    assert curve.rate[-2:] == pytest.approx([reached, 1])
    everything = one.part("test").correct[-1]
    assert curve.accuracy[-1] == pytest.approx(everything.mean())
    assert curve.risk[-1] == pytest.approx(0.1 + 0.2 + 1.25 * np.mean(~everything))


def test_best_confidence_is_the_least_on_val_and_exits_only_is_none(one, compared):
    val, totals = one.part("val"), {}
    for name, doubt in DOUBTS.items():
        on_val, paid = doubt(val.stage_logits[:3]), 0
        for cost in PAIRS:
            price = costs(*cost, [0.02, 0.05, 0.1])
            t = stages.fit_thresholds(on_val, val.correct, *price)
            paid += risk(val.correct, stages.leave(on_val, t), *price)
        totals[name] = paid
    assert compared.best_confidence == min(totals, key=totals.get)
    assert compared.against().verdicts[[r.name for r in compared.rules].index("oracle")][-1] == (
        "better"
    )


def test_one_exit_that_costs_something_is_learning_to_help_and_a_constant():
    paid, free = make(exits=1), make(exits=1)
    del free.settings["multiply_adds"], free.settings["cost_flops"]
    with_cost, without = compare([paid], PAIRS, draws=2), compare([free], PAIRS, draws=2)
    assert with_cost.rules == without.rules
    np.testing.assert_allclose(with_cost.risk, without.risk + 0.02, atol=1e-6)
    np.testing.assert_array_equal(with_cost.reject_rate, without.reject_rate)
    assert prepared(paid).device.tolist() == [0.02]


def test_what_cannot_be_compared_is_refused(one):
    with pytest.raises(ValueError, match="run 1: has exits of other costs than run 0"):
        compare([one, make(run=1, cost_flops=1e-4)], PAIRS)
    bare = replace(one, stage_logits=one.stage_logits[:3])
    with pytest.raises(ValueError, match="run 0: has exits and no server"):
        decide(bare, *PAIRS[0])
