import itertools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from deferral import estimates
from deferral.predictions import Predictions
from deferral.risk import costs
from deferral.stopping import Stopping


def make(seed, n, classes=10):
    """Rows of one split; how hard a picture is shows in the local logits."""
    rng = np.random.default_rng(seed)
    labels, hard = rng.integers(0, classes, n), rng.normal(size=n)
    logits = rng.normal(size=(2, n, classes))
    for net, gap in enumerate((1.5, 3.5)):
        logits[net, np.arange(n), labels] += gap - hard
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.ones(n, int),
        index=np.arange(n),
        scores=np.zeros((0, n)),
        settings={},
    )


def post_hoc(val, test):
    """P(m right) and P(e right) from the local net's logits: of val, out of fold, and of test."""
    return Stopping(val, test).estimated[-1]


def log_loss(p, right):
    return -np.log(np.where(right, p, 1 - p)).mean(-1)


@pytest.mark.parametrize("cost", [(1.0, 0.0), (1.25, 0.25), (0.5, 0.4), (2.0, 0.1)])
def test_bayes_score_of_the_truth_is_the_best_of_all_decisions(cost):
    rng = np.random.default_rng(0)
    for _ in range(10):
        share, right = rng.dirichlet(np.ones(6)), rng.random((2, 6))  # six x, P(x), P(right | x)
        query, error = costs(*cost)

        def expected(stop, share=share, right=right, query=query, error=error):
            stop = np.array(stop)
            return share @ (query[stop] + error[stop] * (1 - right[stop, np.arange(6)]))

        chosen = (estimates.bayes_score(right, *cost) > 0).astype(int)
        least = min(expected(stop) for stop in itertools.product((0, 1), repeat=6))
        assert expected(chosen) == pytest.approx(least, abs=1e-12)


def test_bayes_score_is_what_asking_saves():
    score = estimates.bayes_score(np.array([[0.9, 0.2], [1.0, 0.6]], np.float32), 1.25, 0.25)
    np.testing.assert_allclose(score, [0.1 - 0.25, 0.8 - 0.25 - 1.25 * 0.4], atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_post_hoc_is_calibrated_and_knows_more_than_the_base_rate():
    val, test = make(0, 3000), make(1, 3000)
    on_val, on_test = post_hoc(val, test)
    assert (on_val.shape, on_test.shape) == ((2, 3000), (2, 3000))
    for part, p in ((val, on_val), (test, on_test)):
        base = np.repeat(val.correct.mean(1)[:, None], 3000, 1)
        assert (log_loss(p, part.correct) < log_loss(base, part.correct) - [0.1, 0.005]).all()
        for net in range(2):
            order = np.argsort(p[net]).reshape(5, -1)
            gap = p[net][order].mean(1) - part.correct[net][order].mean(1)
            assert np.abs(gap).max() < 0.06


def test_post_hoc_is_honest_on_val(monkeypatch):
    """Where logits tell nothing, a fit seen on its own rows would look as if they did."""
    monkeypatch.setattr(estimates, "STRENGTHS", (1.0,))  # weak, so that there is much to see
    honest, hopeful = [], []
    for seed in range(6):
        val = make(seed, 150, classes=3)
        val = replace(val, labels=np.random.default_rng(100 + seed).integers(0, 3, 150))
        # The same rows as val and as test: out of fold, and by the fit that has seen them.
        for gaps, both in zip((honest, hopeful), post_hoc(val, val), strict=True):
            gaps += [p[r].mean() - p[~r].mean() for p, r in zip(both, val.correct, strict=True)]
    assert np.mean(hopeful) > 0.03
    assert np.mean(honest) < 0.01


def test_post_hoc_reads_local_logits_of_test_alone():
    val, test = make(4, 300), make(5, 200)
    before = post_hoc(val, test)
    spoilt = np.stack([test.stage_logits[0], -test.stage_logits[1]])
    changed = replace(test, labels=0 * test.labels, stage_logits=spoilt)
    for one, other in zip(before, post_hoc(val, changed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_post_hoc_does_not_see_a_constant_added_to_logits():
    val, test = make(6, 300), make(7, 200)
    moved = replace(test, stage_logits=test.stage_logits + np.float32(5))
    np.testing.assert_allclose(post_hoc(val, test)[1], post_hoc(val, moved)[1], atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_all_right_or_all_wrong_is_the_smoothed_constant():
    val, test = make(8, 98), make(9, 50)
    logits = val.stage_logits.copy()
    logits[0, np.arange(98), val.labels] += 1000
    logits[1, np.arange(98), val.labels] -= 1000
    val = replace(val, stage_logits=logits)
    on_val, on_test = post_hoc(val, test)
    np.testing.assert_allclose(on_test[0], 99 / 100)
    np.testing.assert_allclose(on_test[1], 1 / 100)
    assert (on_val[0] > 0.95).all()
    assert (on_val[1] < 0.05).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (2, 2), (7, 10), (300, 120), (40, 1)])
def test_post_hoc_of_few_rows_and_many_classes(n, classes):
    val, test = make(10, n, classes), make(11, 30, classes)
    for p in post_hoc(val, test):
        assert np.isfinite(p).all()
        assert ((p > 0) & (p < 1)).all()


def test_many_classes_have_no_feature_of_their_own():
    logits = np.random.default_rng(0).normal(size=(4, 101))
    shuffled = logits[:, np.random.default_rng(1).permutation(101)]
    assert estimates.signals(logits).shape == (4, 13)
    np.testing.assert_allclose(estimates.signals(logits), estimates.signals(shuffled))
    assert estimates.signals(logits[:, :100]).shape == (4, 213)
    assert estimates.signals(logits[:, :3]).shape == (4, 12)


def test_a_fit_is_that_of_scikit_learn():
    """Of right or wrong answers, and of qualities as weights of both."""
    rng, strength = np.random.default_rng(0), 3e-3
    x = rng.normal(size=(300, 6))
    x = (x - x.mean(0)) / x.std(0)
    right = (rng.random((1, 300)) < 1 / (1 + np.exp(-x[:, 0] - 1))).astype(float)
    quality = 0.7 * right + 0.2 * rng.random((1, 300))
    twice, label = np.concatenate([x, x]), np.repeat([False, True], 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "STRENGTHS", (strength,))
        for values in (right, quality):
            fit = estimates.fit_right(x, values)[1]
            model = LogisticRegression(C=strength, max_iter=500)
            model.fit(twice, label, np.concatenate([1 - values[0], values[0]]))
            assert fit.weights == pytest.approx(model.coef_, abs=1e-9)
            assert fit.intercept == pytest.approx(model.intercept_, abs=1e-9)
