"""Thresholds of others and own ones: who sees which labels, and each against its definition."""

from dataclasses import replace

import numpy as np
import pytest

from deferral import estimates, rules, stages
from deferral.clients import FITTED, RULES, _read, expected_price, refit
from deferral.predictions import Predictions
from deferral.risk import costs, risk

COST = 1.0, 0.08


def client(seed, skew, rows=300, exits=2, classes=4):
    """A device whose exits are sure of what is easy; `skew` is its share of hard samples."""
    rng = np.random.default_rng(seed)
    hard = rng.random(rows) < skew
    labels = rng.integers(0, classes, rows)
    signal = np.where(hard, 0.2, 4) * np.linspace(0.8, 1.2, exits)[:, None]
    logits = rng.normal(size=(exits + 1, rows, classes))
    logits[:-1] *= np.where(hard, 0.3, 1)[:, None]  # logits tell which samples are hard
    logits[np.arange(exits)[:, None], np.arange(rows), labels] += signal
    logits[-1, np.arange(rows), labels] += 2.5  # the server does not mind
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.repeat([0, 1], [rows // 2, rows - rows // 2]),
        index=np.arange(rows),
        scores=np.zeros((0, rows)),
        settings={"multiply_adds": [1, 2, 3][:exits], "cost_flops": 0.01, "dataset": f"c-{seed}"},
        source=f"client-{seed}.npz",
    )


@pytest.fixture(scope="module")
def clients():
    return [client(k, skew) for k, skew in enumerate((0.1, 0.2, 0.5, 0.9))]


@pytest.fixture(scope="module")
def measured(clients):
    return refit(clients, *COST)


def doubt_of(one, split):
    return rules.max_softmax_doubt(one.part(split).stage_logits[:-1])


def test_every_rule_is_what_it_says(clients, measured):
    found, price = measured, costs(*COST, [0.01, 0.02])
    assert set(found) == set(RULES)
    for k, one in enumerate(clients):
        val, test = one.part("val"), one.part("test")
        rest = [c for c in clients if c is not one]
        doubts = np.concatenate([doubt_of(c, "val") for c in rest], 1)
        right = np.concatenate([c.part("val").correct for c in rest], 1)
        shared = stages.fit_thresholds(doubts, right, *price)
        own = stages.fit_thresholds(doubt_of(one, "val"), val.correct, *price)
        expected = {
            "never": np.ones(len(test.labels), int),
            "always": np.full(len(test.labels), 2),
            "shared": stages.leave(doubt_of(one, "test"), shared),
            "own_labels": stages.leave(doubt_of(one, "test"), own),
            "oracle": rules.oracle(test.correct, *price),
        }
        for name, stop in expected.items():
            assert found[name].risk[k] == pytest.approx(risk(test.correct, stop, *price)), name
            shares = [np.mean(stop == stage) for stage in range(3)]
            assert found[name].shares[k] == pytest.approx(shares)
            assert found[name].accuracy[k] == pytest.approx(
                test.correct[stop, np.arange(len(stop))].mean()
            )


def test_same_shares_keeps_to_the_budget_of_the_others(clients):
    """On its own val rows, as near as whole samples come: so put them in the place of test."""
    price, one = costs(*COST, [0.01, 0.02]), clients[3]
    rest = clients[:3]
    doubts = np.concatenate([doubt_of(c, "val") for c in rest], 1)
    right = np.concatenate([c.part("val").correct for c in rest], 1)
    budget = stages.leave(doubts, stages.fit_thresholds(doubts, right, *price))
    half = len(one.labels) // 2
    logits = one.stage_logits.copy()
    logits[:, half:] = logits[:, :half]
    labels = np.concatenate([one.labels[:half]] * 2)
    twice = replace(one, stage_logits=logits, labels=labels)
    found = {name: m.shares[3] for name, m in refit([*rest, twice], *COST).items()}
    kept = [np.mean(budget == k) for k in range(3)]
    assert found["same_shares"] == pytest.approx(kept, abs=3 / half)
    # shared thresholds would send far more of this client, whose samples are hard
    assert found["shared"][-1] > kept[-1] + 0.2


def test_only_own_labels_sees_the_labels_of_the_client(clients, measured):
    before = measured
    rng = np.random.default_rng(0)
    labels = clients[2].labels.copy()
    val = clients[2].split == 0
    labels[val] = rng.integers(0, 4, val.sum())
    spoilt = [*clients[:2], replace(clients[2], labels=labels), clients[3]]
    after = refit(spoilt, *COST)
    for name in RULES:
        same = before[name].risk[2] == after[name].risk[2]
        assert same == (name != "own_labels"), name


def test_expected_risk_knows_a_client_that_is_unlike_the_others():
    """Enough rows: without labels nearly as good as with, and better than the others' shares."""
    many = [client(k, skew, rows=2400) for k, skew in enumerate((0.05, 0.1, 0.2, 0.9))]
    found = {name: m.risk[3] for name, m in refit(many, *COST).items()}
    assert found["estimated"] < found["own_labels"] + 0.02
    assert found["estimated"] < found["same_shares"] - 0.05
    assert found["oracle"] < min(found[name] for name in FITTED)


def test_bad_clients_are_refused(clients):
    with pytest.raises(ValueError, match="1 client: thresholds for all need two"):
        refit(clients[:1], *COST)
    with pytest.raises(ValueError, match=r"client-9.npz: other exits or classes than client-0"):
        refit([clients[0], client(9, 0.5, exits=3)], *COST)
    with pytest.raises(ValueError, match=r"client-9.npz: other exits or classes"):
        refit([clients[0], client(9, 0.5, classes=5)], *COST)
    alone = replace(clients[1], stage_logits=clients[1].stage_logits[:-1])
    with pytest.raises(ValueError, match="has exits and no server"):
        refit([clients[0], alone], *COST)


def test_an_exit_is_judged_by_its_own_logits_and_the_server_by_the_last(clients):
    """expected_price, stage by stage, from the estimates that it is made of."""
    price = costs(*COST, [0.01, 0.02])
    read = [_read(one, rules.max_softmax_doubt) for one in clients]
    own, others = read[3], read[:3]
    found = expected_price(own.val_logits, others, *price)
    for stage, seen in ((0, 0), (1, 1), (2, 1)):
        told = np.concatenate([c.val_logits[seen] for c in others])
        x, x_own = estimates.features(told, own.val_logits[seen])
        right = np.concatenate([c.val_right[stage] for c in others])[None]
        chance = estimates.right_given(x, right, x_own)[1][0]
        np.testing.assert_allclose(found[stage], price[0][stage] + price[1][stage] * (1 - chance))
    assert np.abs(found[2] - found[1]).max() > 0.01
