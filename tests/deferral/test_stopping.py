"""The policy of least risk: against all policies of a chain, and fitted on data drawn from one."""

from dataclasses import replace

import numpy as np
import pytest

from deferral import estimates, rules, stages, stopping
from deferral.predictions import Predictions
from deferral.risk import costs, risk

CLASSES = 4
# Three exits of 3 states each: P(exit right | state), P(server right | last state), transitions.
RIGHT = np.array([[0.9, 0.6, 0.3], [0.97, 0.7, 0.3], [0.98, 0.55, 0.35]])
SERVER = np.array([0.97, 0.95, 0.8])
# Where the last exit is least sure, the server knows no better: asking helps in the middle.
FOLLY = np.array([0.97, 0.95, 0.2])
START = np.array([0.4, 0.3, 0.3])
MOVES = [
    np.array([[0.85, 0.1, 0.05], [0.3, 0.5, 0.2], [0.1, 0.3, 0.6]]),
    np.array([[0.9, 0.07, 0.03], [0.2, 0.6, 0.2], [0.05, 0.25, 0.7]]),
]
DEVICE, PRICE = [0.02, 0.05, 0.1], (1.0, 0.15)


@pytest.fixture(scope="module", autouse=True)
def few_fits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "STRENGTHS", (3e-2,))
        yield


def least(server):
    """The least risk of the chain by backward induction, and which states of each exit stop.

    value_k = min(stop_cost_k, go_cost_k + transition_k value_(k+1)); a tie stops.
    """
    query, error = costs(*PRICE, DEVICE)
    value, stops = error[-1] * (1 - server), []
    for here, move, go in zip(
        RIGHT[::-1], [np.eye(3), *MOVES[::-1]], np.diff(query)[::-1], strict=True
    ):
        ahead = go + move @ value
        stops.insert(0, 1 - here <= ahead)
        value = np.minimum(1 - here, ahead)
    return query[0] + START @ value, stops


def draw(server, n=(1500, 3000), seed=0):
    """Predictions drawn from the chain, whose logits tell the state; chances of being right [4, N],
    and where the optimum stops, [N]."""
    rng, count = np.random.default_rng(seed), sum(n)

    def next_state(chances):
        return (rng.random(count)[:, None] > chances.cumsum(-1)).sum(1)

    states = [next_state(np.tile(START, (count, 1)))]
    for move in MOVES:
        states.append(next_state(move[states[-1]]))
    states = np.array(states)
    labels = rng.integers(0, CLASSES, count)
    chance = np.stack([*(RIGHT[k][states[k]] for k in range(3)), server[states[-1]]])
    right = rng.random((4, count)) < chance
    answer = np.where(right, labels, (labels + rng.integers(1, CLASSES, count)) % CLASSES)
    height = np.concatenate([np.array([4.0, 2.0, 0.7])[states], np.full((1, count), 5.0)])
    logits = height[..., None] * (np.arange(CLASSES) == answer[..., None])
    file = Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.repeat([0, 1], n),
        index=np.arange(count),
        scores=np.zeros((0, count)),
        settings={},
    )
    policy = least(server)[1]
    stops = np.stack([stop[state] for stop, state in zip(policy, states, strict=True)])
    return file, chance, np.where(stops.any(0), stops.argmax(0), 3)


def expected(stop, chance):
    """The risk of stops [N] by the chances of being right, which has less noise than answers."""
    query, error = costs(*PRICE, DEVICE)
    return float(np.mean(query[stop] + error[stop] * (1 - chance[stop, np.arange(stop.size)])))


def stage(stops, last=2):
    return np.where(stops.score > 0, last + 1, stops.exit)


@pytest.mark.parametrize("server", [SERVER, FOLLY])
def test_fitted_policy_reaches_the_optimum_of_the_chain(server):
    """Within 0.004 of the optimum's risk on the same rows, which nothing beats on average."""
    file, chance, best = draw(server)
    val, test = file.part("val"), file.part("test")
    price = costs(*PRICE, DEVICE)

    def excess(stop, rows):
        return expected(stop, chance[:, rows]) - expected(best[rows], chance[:, rows])

    rows = [np.flatnonzero(file.split == k) for k in (0, 1)]
    for stops, of in zip(stopping.Stopping(val, test).decide(*price), rows, strict=True):
        assert abs(excess(stage(stops), of)) < 0.004
    doubt = rules.max_softmax_doubt(file.stage_logits[:-1])
    fitted = stages.fit_thresholds(doubt[:, rows[0]], val.correct, *price)
    by_doubt = excess(stages.leave(doubt[:, rows[1]], fitted), rows[1])
    if server is SERVER:  # what going on saves grows with doubt: thresholds are optimal too
        assert abs(by_doubt) < 0.004
    else:
        assert by_doubt > 0.012


def tiny(n=120, exits=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(exits + 1, n, 3))
    logits[:, np.arange(n), labels] += np.linspace(0.5, 3, exits + 1)[:, None]
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.ones(n, int),
        index=np.arange(n),
        scores=np.zeros((0, n)),
        settings={},
    )


@pytest.mark.parametrize("price", [(1.0, 0.0), (1.25, 0.2)])
def test_one_exit_is_post_hoc(price):
    fitted = stopping.Stopping(tiny(exits=1), tiny(90, exits=1, seed=1))
    for stops, p in zip(fitted.decide(*costs(*price)), fitted.estimated[-1], strict=True):
        np.testing.assert_array_equal(stops.score, estimates.bayes_score(p, *price))
        assert not stops.exit.any()


@pytest.fixture(scope="module")
def fitted():
    return stopping.Stopping(tiny(200), tiny(150, seed=1))


def test_limits_of_costs(fitted):
    for device, price, wanted in (
        ([0.0, 5.0, 9.0], (1.0, 0.0), {0}),  # going on costs more than it can save
        ([0.0, 0.0, 0.0], (1.0, 9.0), {1, 2}),  # it is free, and asking is not
        ([0.0, 0.0, 5.0], (1.0, 0.0), {1}),  # it is free as far as the second exit
        ([0.0, 0.0, 0.0], (0.0, 0.0), {3}),  # the server is free and its errors are
    ):
        for stops in fitted.decide(*costs(*price, device)):
            assert np.isin(stage(stops), list(wanted)).mean() > 0.75


def test_stops_before_the_last_exit_are_never_sent(fitted):
    for stops in fitted.decide(*costs(1.0, 0.05, [0.0, 0.05, 0.1])):
        early = stops.exit < 2
        assert 0 < early.mean() < 1
        np.testing.assert_array_equal(np.isneginf(stops.score), early)
        assert (stops.score[~early] > 0).any()


def test_decisions_on_val_have_not_seen_their_own_answers(monkeypatch):
    """Answers that the logits do not tell: a fit seen on its own rows would profit from them."""
    monkeypatch.setattr(estimates, "STRENGTHS", (1.0,))  # weak, so that there is much to see
    monkeypatch.setattr(stopping, "RIDGES", (1e-6,))
    honest, hopeful, price = [], [], costs(1.0, 0.2, [0.0, 0.0])
    for seed in range(4):
        val = tiny(80, exits=2, seed=seed)
        val = replace(val, labels=np.random.default_rng(100 + seed).integers(0, 3, 80))
        # The same rows as val and as test: out of fold, and by the fit that has seen them.
        for paid, stops in zip(
            (honest, hopeful), stopping.Stopping(val, val).decide(*price), strict=True
        ):
            paid.append(risk(val.correct, stage(stops, 1), *price))
    assert np.mean(honest) > np.mean(hopeful) + 0.03


def test_test_rows_are_decided_by_the_logits_of_exits_alone():
    val, test = tiny(exits=2), tiny(90, exits=2, seed=1)
    price = costs(1.0, 0.1, [0.0, 0.05])
    spoilt = test.stage_logits.copy()
    spoilt[-1] *= -1
    other = replace(test, labels=0 * test.labels, stage_logits=spoilt)
    one, two = (stopping.Stopping(val, part).decide(*price)[1] for part in (test, other))
    np.testing.assert_array_equal(one.exit, two.exit)
    np.testing.assert_array_equal(one.score, two.score)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_val_rows(n):
    for stops in stopping.Stopping(tiny(n), tiny(9, seed=1)).decide(*costs(1.0, 0.1, [0, 0, 0])):
        assert not np.isnan(stops.score).any()
        assert set(stops.exit.tolist()) <= {0, 1, 2}


def test_a_server_alone_is_refused():
    with pytest.raises(ValueError, match="an exit and a server, not 1 stages"):
        stopping.Stopping(tiny(exits=0), tiny(exits=0))


def test_ridge_is_least_squares_with_a_penalty(monkeypatch):
    """Against the normal equations with a column of ones, written out."""
    rng = np.random.default_rng(0)
    x, x_new, y = rng.normal(size=(3, 40)) * 5 + 2, rng.normal(size=(3, 7)), rng.normal(size=40)
    monkeypatch.setattr(stopping, "RIDGES", (0.05,))
    on_val, on_new, linear = stopping._Ridge(x, x_new)(y)
    np.testing.assert_allclose(linear.weights @ x_new + linear.intercept, on_new)
    fold = estimates.folds(40)
    center, scale = x.mean(1), x.std(1)

    def slow(rows, new):
        a = np.concatenate([np.ones((1, rows.sum())), (x[:, rows].T / scale - center / scale).T])
        penalty = 0.05 * rows.sum() * np.diag([0, 1, 1, 1])
        w = np.linalg.solve(a @ a.T + penalty, a @ y[rows])
        return w[0] + w[1:] @ ((new.T - center) / scale).T

    np.testing.assert_allclose(on_new, slow(np.ones(40, bool), x_new))
    for k in range(5):
        np.testing.assert_allclose(on_val[fold == k], slow(fold != k, x[:, fold == k]))
