"""Costs and thresholds of exits and a server, against every vector of thresholds there is."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from deferral import rules, stages
from deferral.predictions import Predictions
from deferral.risk import costs, risk, stage_costs


def draw(seed, exits, n, ties=False):
    """Doubt [E, n] that knows a little of who is right, correct [E + 1, n], and costs."""
    rng = np.random.default_rng(seed)
    correct = rng.random((exits + 1, n)) < np.linspace(0.5, 0.85, exits + 1)[:, None]
    doubt = rng.normal(size=(exits, n)) + rng.choice([0, 0.8]) * ~correct[:-1]
    device = np.cumsum(rng.choice([0, 0.02, 0.05, 0.1], exits))
    price = costs(rng.choice([0.5, 1, 1.25]), rng.choice([0, 0.05, 0.2, 0.4]), device)
    return np.round(doubt) if ties else doubt, correct, price


def slow_leave(doubt, thresholds):
    """A loop over samples and exits."""
    found = []
    for n in range(doubt.shape[1]):
        stop = 0
        while stop < len(doubt) and doubt[stop, n] > thresholds[stop]:
            stop += 1
        found.append(stop)
    return np.array(found)


def every_vector(doubt):
    return itertools.product(*([-np.inf, *np.unique(row)] for row in doubt))


@pytest.fixture
def file():
    rng = np.random.default_rng(0)
    return Predictions(
        labels=rng.integers(0, 3, 9),
        stage_logits=rng.normal(size=(4, 9, 3)),
        split=np.repeat([0, 1], [4, 5]),
        index=np.arange(9),
        scores=np.zeros((0, 9)),
        settings={"multiply_adds": [100, 250, 400], "cost_flops": 1e-3},
        source="x.npz",
    )


def test_the_device_pays_for_what_it_computed(file):
    np.testing.assert_allclose(stages.device_costs(file), [0.1, 0.25, 0.4])
    free = replace(file, settings={"multiply_adds": [100, 250, 400]})
    np.testing.assert_array_equal(stages.device_costs(free), [0, 0, 0])
    learning_to_help = replace(file, stage_logits=file.stage_logits[:2], settings={})
    np.testing.assert_array_equal(stages.device_costs(learning_to_help), [0])
    one_exit = replace(file, stage_logits=file.stage_logits[:2])
    one_exit.settings["multiply_adds"] = [300]
    np.testing.assert_allclose(stages.device_costs(one_exit), [0.3])


def test_a_file_without_server_or_costs_is_refused(file):
    with pytest.raises(
        ValueError, match=r"x\.npz: has exits and no server; python -m deferral\.jo"
    ):
        stages.device_costs(replace(file, stage_logits=file.stage_logits[:3]))
    with pytest.raises(ValueError, match=r"x\.npz: needs 2 stages, .* it has 4 stages"):
        stages.device_costs(replace(file, settings={}))


def test_costs_of_exits_and_a_server():
    query, error = costs(1.25, 0.2, [0.1, 0.25, 0.4])
    np.testing.assert_allclose(query, [0.1, 0.25, 0.4, 0.6])
    np.testing.assert_allclose(error, [1, 1, 1, 1.25])
    for device in ([], [0.2, 0.1], [-0.1, 0], [np.nan], [[0.1]]):
        with pytest.raises(ValueError, match="device costs"):
            costs(1, 0.1, device)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("exits", [1, 3])
def test_leave_is_a_loop(exits, ties):
    doubt, *_ = draw(0, exits, 50, ties)
    for thresholds in ([0.0] * exits, [-np.inf] * exits, [np.inf] * exits, np.arange(exits) - 1):
        found = stages.leave(doubt, thresholds)
        np.testing.assert_array_equal(found, slow_leave(doubt, thresholds))
    np.testing.assert_array_equal(stages.leave(doubt[:0], []), np.zeros(50))
    with pytest.raises(ValueError, match="do not fit"):
        stages.leave(doubt, np.zeros(exits + 1))


@pytest.mark.parametrize("ties", [False, True])
def test_one_exit_has_the_best_threshold(ties):
    for seed in range(40):
        doubt, correct, price = draw(seed, 1, 30, ties)
        best = rules.best_threshold(doubt[0], correct, *price)
        assert stages.fit_thresholds(doubt, correct, *price).tolist() == [best]


@pytest.mark.parametrize(("exits", "n", "cases"), [(2, 8, 80), (3, 5, 40)])
def test_thresholds_against_every_vector(exits, n, cases):
    """At most 1 in 20 ends in a local optimum, none below the best there is."""
    missed = 0
    for seed in range(cases):
        doubt, correct, price = draw(seed, exits, n, ties=seed % 2)

        def paid(thresholds, doubt=doubt, correct=correct, price=price):
            return risk(correct, slow_leave(doubt, thresholds), *price)

        found = paid(stages.fit_thresholds(doubt, correct, *price))
        best = min(map(paid, every_vector(doubt)))
        assert found >= best - 1e-12
        missed += found > best + 1e-12
    assert missed <= cases / 20


@pytest.mark.parametrize("exits", [2, 5])
def test_no_single_stage_and_no_change_of_one_threshold_is_better(exits):
    for seed in range(8):
        doubt, correct, price = draw(seed, exits, 200, ties=seed % 2)
        found = stages.fit_thresholds(doubt, correct, *price)
        least = risk(correct, stages.leave(doubt, found), *price)
        alone = [risk(correct, np.full(200, k), *price) for k in range(exits + 1)]
        assert least <= min(alone) + 1e-12
        for k in range(exits):
            for t in (-np.inf, *np.quantile(doubt[k], [0.1, 0.3, 0.5, 0.7, 0.9]), np.inf):
                other = found.copy()
                other[k] = t
                assert least <= risk(correct, stages.leave(doubt, other), *price) + 1e-9


def test_backward_pass_alone_would_do_worse():
    """Its thresholds do not know who has left before; the sweeps after it do."""
    worse = 0
    for seed in range(20):
        doubt, correct, price = draw(seed, 3, 60)
        cost = stage_costs(correct, *price)
        ahead, backward = cost[-1], np.empty(3)
        for k in (2, 1, 0):
            cuts = [-np.inf, *np.unique(doubt[k])]
            sums = [np.where(doubt[k] > t, ahead, cost[k]).sum() for t in cuts]
            backward[k] = cuts[int(np.argmin(sums))]
            ahead = np.where(doubt[k] > backward[k], ahead, cost[k])
        found = stages.fit_thresholds(doubt, correct, *price)
        gap = risk(correct, stages.leave(doubt, found), *price) - ahead.mean()
        assert gap < 1e-12
        worse += gap < -1e-9
    assert worse > 5


def test_thresholds_before_a_decision_that_is_given():
    missed = 0
    for seed in range(30):
        doubt, correct, price = draw(seed, 3, 6, ties=seed % 2)
        send = np.random.default_rng(seed).random(6) < 0.5

        def paid(thresholds, doubt=doubt, correct=correct, price=price, send=send):
            stop = slow_leave(doubt[:2], thresholds)
            return risk(correct, np.where(stop == 2, 2 + send, stop), *price)

        found = stages.fit_thresholds(doubt[:2], correct, *price, send)
        assert found.shape == (2,)
        best = min(map(paid, every_vector(doubt[:2])))
        missed += paid(found) > best + 1e-12
    assert missed <= 1
    one = draw(0, 1, 6)
    assert stages.fit_thresholds(one[0][:0], one[1], *one[2], np.ones(6, bool)).shape == (0,)


def test_as_two_costs_what_all_stages_cost():
    rng = np.random.default_rng(1)
    _, correct, price = draw(1, 3, 40)
    exit, send = rng.integers(0, 3, 40), rng.integers(0, 2, 40)
    two, of_two = stages.as_two(correct, exit, *price)
    stop = np.where(send, 3, exit)
    np.testing.assert_allclose(risk(two, send, *of_two), risk(correct, stop, *price))
    for n in range(40):
        assert two[:, n].tolist() == [correct[exit[n], n], correct[3, n]]
    same = stages.as_two(correct[:2], np.zeros(40, int), *costs(1.25, 0.1))
    np.testing.assert_array_equal(same[0], correct[:2])
    assert same[1][0].shape == same[1][1].shape == (2,)
    with pytest.raises(ValueError, match="does not fit"):
        stages.as_two(correct, exit + 1, *price)


def test_lengths_that_differ_are_refused():
    doubt, correct, price = draw(0, 2, 6)
    for bad in (doubt[:1], doubt[:, 1:], doubt[0]):
        with pytest.raises(ValueError, match="does not fit"):
            stages.fit_thresholds(bad, correct, *price)
    with pytest.raises(ValueError, match=r"send \(5,\)"):
        stages.fit_thresholds(doubt[:1], correct, *price, np.ones(5, bool))
    with pytest.raises(ValueError, match="N >= 1"):
        stages.fit_thresholds(doubt[:, :0], correct[:, :0], *price)
