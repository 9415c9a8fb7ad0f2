import json
from dataclasses import replace

import numpy as np
import pytest

from deferral import bootstrap, rules
from deferral.catalogue import DOUBTS
from deferral.compare import compare
from deferral.decide import Decision, decide, scored
from deferral.estimates import bayes_score
from deferral.predictions import Predictions
from deferral.risk import accuracy, costs, risk, send_rate
from tests.deferral.test_estimates import post_hoc

pytestmark = pytest.mark.usefixtures("quick")

PAIRS = [(1.0, 0.0), (1.25, 0.25), (0.5, 0.4), (1.0, 0.05)]
COLUMN = {pair: c for c, pair in enumerate(PAIRS)}


def setting(cost, surrogate="stage_switching", every=1):
    found = {"stem": "r", "cost_1": cost[0], "cost_e": cost[1]}
    return found | {"async_freq": every, "surrogate": surrogate}


# Two surrogates everywhere but at the last pair; S = 100, joint and a namesake at the second.
REJECTORS = [
    *(setting(cost, name) for cost in PAIRS[:3] for name in ("stage_switching", "cost_sensitive")),
    *(setting(PAIRS[1], every=every) for every in (100, "joint", 1)),
]


def make(seed=0, run=0, val=300, test=400, classes=5, rejectors=REJECTORS):
    """Labels and difficulty by seed, nets and rejectors by seed and run."""
    rng, own = np.random.default_rng(seed), np.random.default_rng((seed, run, 1))
    n = val + test
    labels, hard = rng.integers(0, classes, n), rng.normal(size=n)
    logits = own.normal(size=(2, n, classes))
    for net, gap in enumerate((1.2, 3.2)):
        logits[net, np.arange(n), labels] += gap - hard
    estimates = 1 / (1 + np.exp(hard - np.array([[[0.0], [2.0]], [[0.5], [0.5]]])))
    described = [{"name": name, "about": f"{name} of x"} for name in ("amortized", "poor")]
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.repeat([0, 1], [val, test]),
        index=np.arange(n),
        scores=(own.normal(size=(len(rejectors), n)) + hard).astype(np.float32),
        settings={"rejectors": rejectors, "estimators": described},
        estimates=estimates.astype(np.float32),
        source=f"run {run}",
    )


@pytest.fixture(scope="module")
def one(quick):
    return make()


@pytest.fixture(scope="module")
def compared(one):
    return compare([one], PAIRS, draws=200)


def row(compared, name):
    return [rule.name for rule in compared.rules].index(name)


BASE = ["never", "always", "oracle", "ceiling", "max_softmax", "margin", "entropy", "post_hoc"]


def test_names_and_kinds_of_all_rules(one):
    own = ["amortized", "poor", "stage_switching", "cost_sensitive"]
    async_ = ["stage_switching, S = 100", "stage_switching, joint", "stage_switching #2"]
    assert list(decide(one, *PAIRS[0])) == BASE + own
    assert list(decide(one, *PAIRS[1])) == BASE + own + async_
    assert list(decide(one, *PAIRS[3])) == BASE + own[:2]  # no rejector has these costs
    kinds = {name: d.rule.kind for name, d in decide(one, *PAIRS[1]).items()}
    assert [kinds[k] for k in ("never", "oracle", "margin")] == ["limit", "oracle", "confidence"]
    assert {kinds[k] for k in ("post_hoc", "amortized", "poor")} == {"estimates"}
    assert {kinds[k] for k in own[2:] + async_} == {"rejector"}
    for name, decision in decide(one, *PAIRS[1]).items():
        assert decision.rule.name == name
        assert decision.rule.label
        assert decision.rule.about


@pytest.mark.parametrize("cost", PAIRS)
def test_decisions_are_the_obvious_ones(one, cost):
    val, test, price = one.part("val"), one.part("test"), costs(*cost)
    found = decide(one, *cost)
    stops = {"never": np.zeros(400), "always": np.ones(400)}
    stops["oracle"] = (~test.correct[0]) * 1.0 > price[0][1] + price[1][1] * ~test.correct[1]
    for name, doubt in DOUBTS.items():
        on_val, on_test = doubt(val.stage_logits[0]), doubt(test.stage_logits[0])
        cuts = [-1.0, *np.sort(on_val)]
        least = min(risk(val.correct, (on_val > t).astype(int), *price) for t in cuts)
        t = found[name].threshold
        assert risk(val.correct, (on_val > t).astype(int), *price) == pytest.approx(least)
        stops[name] = on_test > t
    stops["post_hoc"] = bayes_score(post_hoc(val, test)[1], *cost) > 0
    for a, name in enumerate(("amortized", "poor")):
        p = test.estimates[a].astype(float)
        stops[name] = 1 - p[0] > cost[1] + cost[0] * (1 - p[1])
    for r, each in enumerate(REJECTORS[:6]):
        if (each["cost_1"], each["cost_e"]) == cost:
            stops[each["surrogate"]] = test.scores[r] > 0
    for name, stop in stops.items():
        np.testing.assert_array_equal(found[name].stop, stop, err_msg=name)


def test_scores_and_thresholds_give_the_decisions(one):
    for decision in decide(one, *PAIRS[1]).values():
        if decision.rule.kind in ("limit", "oracle"):
            assert type(decision) is Decision
        else:
            again = rules.threshold(decision.score, decision.threshold)
            np.testing.assert_array_equal(decision.stop, again)
            assert decision.score_val.shape == (300,)


def test_val_scores_are_those_of_val(one):
    """With val for test the scores are the same, but for post_hoc, whose val is out of fold."""
    val = np.flatnonzero(one.split == 0)
    rows = np.concatenate([val, val])
    twice = replace(
        one,
        labels=one.labels[rows],
        stage_logits=one.stage_logits[:, rows],
        split=np.repeat([0, 1], 300),
        index=rows,
        scores=one.scores[:, rows],
        estimates=one.estimates[..., rows],
    )
    for name, d in scored(decide(twice, *PAIRS[1])).items():
        assert np.array_equal(d.score, d.score_val) == (name != "post_hoc")


def test_comparison_is_the_measured_numbers(one, compared):
    test = one.part("test")
    for cost, c in COLUMN.items():
        for name, decision in decide(one, *cost).items():
            r = row(compared, name)
            paid = risk(test.correct, decision.stop, *costs(*cost))
            assert compared.risk[r, c] == pytest.approx(paid, abs=1e-6)
            assert compared.reject_rate[r, c] == pytest.approx(send_rate(decision.stop))
            assert compared.accuracy[r, c] == pytest.approx(accuracy(test.correct, decision.stop))
    assert (compared.runs, compared.samples, compared.costs) == (1, 400, PAIRS)
    for name in BASE:
        r = row(compared, name)
        assert compared.risk[r, -1] == pytest.approx(compared.risk[r, :-1].mean())
        assert compared.reject_rate[r, -1] == pytest.approx(compared.reject_rate[r, :-1].mean())


def test_rules_that_are_not_there_are_nan_and_say_nothing(compared):
    against = compared.against()
    for name, there in (
        ("stage_switching", [1, 1, 1, 0, 0]),
        ("stage_switching, joint", [0, 1, 0, 0, 0]),
        ("post_hoc", [1, 1, 1, 1, 1]),
    ):
        r = row(compared, name)
        for values in (compared.risk, compared.accuracy, compared.reject_rate, against.low):
            np.testing.assert_array_equal(np.isfinite(values[r]), np.array(there) > 0)
        assert [bool(v) for v in against.verdicts[r]] == [bool(x) for x in there]


def test_differences_are_paired(one, compared):
    """Against the bootstrap of the difference itself."""
    against = compared.against("margin")
    test, c = one.part("test"), COLUMN[PAIRS[1]]
    found = decide(one, *PAIRS[1])
    prices = np.array([[0.0, 0.25], [1.0, 1.25]])

    def paid(name):
        stop = found[name].stop
        return prices[0][stop] + prices[1][stop] * ~test.correct[stop, np.arange(400)]

    for name in ("always", "amortized", "stage_switching"):
        gap = paid(name) - paid("margin")
        low, high = bootstrap.interval(bootstrap.resample(gap[None, :, None], 200, 0)[:, 0], 0.95)
        r = row(compared, name)
        assert against.difference[r, c] == pytest.approx(gap.mean(), abs=1e-6)
        assert (against.low[r, c], against.high[r, c]) == pytest.approx((low, high), abs=1e-6)
        assert against.verdicts[r][c] == bootstrap.verdict(low, high)
    r = row(compared, "margin")
    assert (against.difference[r] == 0).all()
    assert against.verdicts[r] == ["no difference"] * 5
    assert against.verdicts[row(compared, "oracle")] == ["better"] * 5
    with pytest.raises(ValueError, match="there are never, always"):
        compared.against("nobody")


def test_best_confidence_is_chosen_on_val(one):
    """Also with every test row's doubts reversed, so that another rule is best on test."""
    for seed in range(2):
        run = make(seed)
        val = run.part("val")
        means = {}
        for name, doubt in DOUBTS.items():
            score, paid = doubt(val.stage_logits[0]), []
            for cost in PAIRS:
                t = rules.best_threshold(score, val.correct, *costs(*cost))
                paid.append(risk(val.correct, rules.threshold(score, t), *costs(*cost)))
            means[name] = np.mean(paid)
        logits = run.stage_logits.copy()
        logits[:, 300:] = -logits[:, 300:]
        for changed in (run, replace(run, stage_logits=logits)):
            found = compare([changed], PAIRS, draws=2)
            assert found.best_confidence == min(means, key=means.get)
            assert found.against().reference == found.best_confidence


def test_several_runs_are_means_and_deviations():
    runs = [make(run=k) for k in range(3)]
    together = compare(runs, PAIRS[:2], draws=300)
    alone = [compare([run], PAIRS[:2], draws=2) for run in runs]
    for name in ("risk", "reject_rate", "accuracy"):
        each = np.array([getattr(a, name) for a in alone])
        np.testing.assert_allclose(getattr(together, name), each.mean(0), atol=1e-6)
        spread = getattr(together, f"{name}_std")
        np.testing.assert_allclose(spread, each.std(0, ddof=1), atol=1e-6)
        assert np.isnan(getattr(alone[0], f"{name}_std")).all()
    assert together.draws.shape == (300, len(together.rules), 3)
    np.testing.assert_allclose(together.draws.mean(0), together.risk, atol=0.01)


def test_a_rule_that_one_run_lacks_is_nan():
    lacking = make(run=1)
    kept = [r for r, each in enumerate(REJECTORS) if each["surrogate"] != "cost_sensitive"]
    settings = lacking.settings | {"rejectors": [REJECTORS[r] for r in kept]}
    lacking = replace(lacking, scores=lacking.scores[kept], settings=settings)
    found = compare([make(), lacking], PAIRS[:2], draws=5)
    assert np.isnan(found.risk[row(found, "cost_sensitive")]).all()
    assert np.isfinite(found.risk[row(found, "stage_switching")]).all()


def test_rows_are_plain_and_whole(compared):
    rows = compared.rows()
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert len(rows) == len(compared.rules) * 5
    last = [r for r in rows if r["rule"] == "oracle"][-1]
    assert (last["cost_1"], last["cost_e"], last["verdict"]) == (None, None, "better")
    assert last["risk"] == compared.risk[row(compared, "oracle"), -1]
    absent = next(r for r in rows if r["rule"] == "stage_switching" and r["cost_e"] == 0.05)
    assert absent["risk"] is absent["difference"] is absent["verdict"] is None


def test_the_answer_is_the_same_twice_and_without_estimators(one, compared):
    again = compare([make()], PAIRS, draws=200)
    np.testing.assert_array_equal(again.draws, compared.draws)
    bare = replace(one, estimates=None, settings={"rejectors": REJECTORS})
    assert "amortized" not in decide(bare, *PAIRS[0])
    assert list(decide(make(rejectors=[]), *PAIRS[0])) == [*BASE, "amortized", "poor"]


def test_bad_input_is_refused(one):
    other = replace(make(run=1), index=np.arange(700) + 1)
    with pytest.raises(ValueError, match="run 1: has other test rows than run 0"):
        compare([one, other], PAIRS)
    with pytest.raises(ValueError, match="other test rows"):
        compare([one, make(run=1, test=300)], PAIRS)
    for runs, pairs in (([], PAIRS), ([one], []), ([one], [(1, 0), (1.0, 0.0)])):
        with pytest.raises(ValueError, match="needs runs, and costs"):
            compare(runs, pairs)
    with pytest.raises(ValueError, match=r"cost_e -0\.1"):
        decide(one, 1.0, -0.1)
    three = replace(one, stage_logits=np.concatenate([one.stage_logits, one.stage_logits[:1]]))
    with pytest.raises(ValueError, match="run 0: needs 2 stages"):
        decide(three, 1.0, 0.1)
    with pytest.raises(ValueError, match="has no val rows"):
        decide(replace(one, split=np.ones(700, int)), 1.0, 0.1)
