import math

import numpy as np
import pytest
import torch

from active_learning import cascade_risk, diam_qp
from active_learning.kcenter import k_center
from active_learning.strategies import METHODS, Pool, changes, diam_order, select, vote_entropy
from tests.made import one_line_error

# Votes of two targets, A and B, after each of four epochs, for seven samples.
#     first: targets that change; second: sum of their entropies over epochs, in nats
HAND = [
    # A       B          first  second
    ("0000", "1111"),  # 0      0
    ("0011", "2222"),  # 1      log 2                             = 0.693
    ("0001", "1112"),  # 2      2 * (1/4 log 4 + 3/4 log 4/3)     = 1.125
    ("0123", "1111"),  # 1      log 4                             = 1.386
    ("0011", "2233"),  # 2      2 log 2                           = 1.386
    ("3333", "0111"),  # 1      1/4 log 4 + 3/4 log 4/3           = 0.562
    ("2220", "3331"),  # 2      as of sample 2                    = 1.125
]
FIRST = [0, 1, 2, 1, 2, 1, 2]
QUARTER = math.log(4) / 4 + 3 / 4 * math.log(4 / 3)
SECOND = [0, math.log(2), 2 * QUARTER, math.log(4), 2 * math.log(2), QUARTER, 2 * QUARTER]
# By first: 2, 4 and 6, then 1, 3 and 5, then 0; by second within; 2 and 6 are equal.
ORDER = [4, 2, 6, 3, 1, 5, 0]


def hand_votes():
    """[E = 4, T = 2, M = 7]"""
    return np.array([[[int(c) for c in target] for target in row] for row in HAND]).transpose(
        2, 1, 0
    )


def made_pool(m=60, targets=3, labelled=9, seed=0):
    rng = np.random.default_rng(seed)
    features = {t: rng.normal(size=(m, 5 + t)).astype(np.float32) for t in range(targets)}
    known = {t: rng.normal(size=(labelled, 5 + t)).astype(np.float32) for t in range(targets)}
    return Pool(
        m,
        votes=rng.integers(0, 3, (4, targets, m)),
        logits=rng.normal(size=(targets, m, 4)).astype(np.float32) * [[[1]], [[9]], [[0.1]]],
        features=features,
        features_of=lambda t, rows: features[t][rows],
        labelled_features=known,
        largest=2,
        local=0,
        edge=1,
    )


def pick(method, pool, batch_size, seed=0):
    return select(method, pool, batch_size, np.random.default_rng(seed)).tolist()


def test_vote_keys_of_the_hand_written_array():
    votes = hand_votes()
    assert changes(votes).tolist() == FIRST
    np.testing.assert_allclose(vote_entropy(votes), SECOND, atol=1e-9)
    found = {tuple(diam_order(votes, np.random.default_rng(seed))) for seed in range(20)}
    assert found == {tuple(ORDER), (4, 6, 2, 3, 1, 5, 0)}


def test_ties_of_settled_votes_are_broken_at_random():
    """A pool sorted by class must not give its first rows once the votes have settled."""
    still = Pool(60, votes=np.zeros((4, 2, 60), dtype=int))
    for method in ("DIAM", "DIAM_qp"):
        pool = still._replace(features_of=made_pool().features_of)
        drawn = {i for seed in range(60) for i in pick(method, pool, 2, seed)}
        assert len(drawn) > 45, method


def test_vote_entropy_is_its_formula():
    rng = np.random.default_rng(1)
    votes = rng.integers(0, 5, (7, 3, 40))
    found = vote_entropy(votes)
    for i in range(40):
        total = 0.0
        for t in range(3):
            for c in range(5):
                share = sum(v == c for v in votes[:, t, i]) / 7
                total -= share * math.log(share) if share else 0
        assert found[i] == pytest.approx(total, abs=1e-9)


def test_equal_entropies_are_equal_to_the_last_bit():
    # Counts 1 2 3 1, given to other classes and targets: sums in another order would differ.
    one = np.array([0, 1, 1, 2, 2, 2, 3])
    other = np.array([3, 3, 3, 0, 2, 2, 1])
    steady = np.zeros(7, dtype=int)
    votes = np.stack([np.stack([one, steady], 1), np.stack([steady, other], 1)], 2)
    assert vote_entropy(votes)[0] == vote_entropy(votes)[1]


def test_diam_draws_from_five_batches():
    pool = Pool(7, votes=hand_votes())
    drawn = [pick("DIAM", pool, 1, seed)[0] for seed in range(100)]
    assert set(drawn) == set(ORDER[:5])
    assert sorted(pick("DIAM", pool, 7)) == list(range(7))


def test_cal_draws_from_those_that_change():
    pool = Pool(7, votes=hand_votes())
    drawn = [pick("CAL", pool, 2, seed) for seed in range(100)]
    assert {i for rows in drawn for i in rows} == {1, 2, 3, 4, 5, 6}
    assert sorted(pick("CAL", pool, 6)) == [1, 2, 3, 4, 5, 6]
    assert pick("CAL", pool, 7)[6] == 0  # what does not change comes last
    still = Pool(9, votes=np.zeros((3, 2, 9), dtype=int))
    assert {i for seed in range(60) for i in pick("CAL", still, 2, seed)} == set(range(9))


DOUBTS = {
    "entropy": lambda p: -sum(x * math.log(x) for x in p),
    "margin": lambda p: 1 - (sorted(p)[-1] - sorted(p)[-2]),
    "least_conf": lambda p: 1 - max(p),
}


@pytest.mark.parametrize("method", DOUBTS)
def test_doubts_are_scaled_and_averaged(method):
    pool = made_pool()
    scores = []
    for target in pool.logits:
        doubt = []
        for row in target:
            exps = [math.exp(x) for x in row.tolist()]
            doubt.append(DOUBTS[method]([e / sum(exps) for e in exps]))
        low, high = min(doubt), max(doubt)
        scores.append([(d - low) / (high - low) for d in doubt])
    mean = [sum(column) / 3 for column in zip(*scores, strict=True)]
    expected = sorted(range(60), key=lambda i: -mean[i])
    assert pick(method, pool, 12) == expected[:12]
    # The three targets' logits are of other sizes: unscaled, one of them would decide.
    alone = [pick(method, pool._replace(logits=pool.logits[t : t + 1]), 12) for t in range(3)]
    assert all(expected[:12] != rows for rows in alone)


def test_what_the_release_computes_does_not_depend_on_the_networks():
    one, other = made_pool(), made_pool()._replace(logits=-made_pool().logits)
    choices = [select("released", pool, 5, np.random.default_rng(0)) for pool in (one, other)]
    np.testing.assert_array_equal(*choices)
    assert set(choices[0]) != set(select("released", one, 5, np.random.default_rng(1)))


def test_coreset_risk_and_qp_use_the_right_targets():
    pool = made_pool()
    assert (
        pick("coreset", pool, 7)
        == k_center(pool.features[2], pool.labelled_features[2], 7).tolist()
    )
    risk = cascade_risk.choose(pool.logits, pool.features[1], (0, 1), (1.25, 0.25), 7)
    assert pick("risk", pool, 7) == risk.tolist()
    rows = diam_order(pool.votes, np.random.default_rng(0))[:12]  # a fifth of 60
    first = changes(pool.votes)[rows]
    near = diam_qp.nearness([pool.features[t][rows] for t in range(3)], 12)
    z = diam_qp.greedy(near, first, 7, 2.0)
    assert pick("DIAM_qp", pool._replace(qp_weight=2.0), 7) == rows[z].tolist()
    assert sorted(pick("DIAM_qp", pool, 20)) == sorted(
        diam_order(pool.votes, np.random.default_rng(0))[:20].tolist()
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_repeats_and_leaves_the_global_generators(method):
    pool = made_pool()
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    found = select(method, pool, 11, np.random.default_rng(5))
    assert found.dtype == np.int64
    assert found.shape == (11,)
    assert len(set(found.tolist())) == 11
    assert 0 <= found.min() <= found.max() < 60
    assert pick(method, pool, 11, seed=5) == found.tolist()
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert sorted(pick(method, pool, 60)) == list(range(60))  # the whole pool


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_what_it_needs_and_no_more(method):
    pool, needs = made_pool(), METHODS[method].needs
    wanted = {t for t, need in ((2, "largest"), (1, "edge")) if need in needs}
    least = pool._replace(
        votes=pool.votes if "votes" in needs else Pool(60).votes,
        logits=pool.logits if "logits" in needs else Pool(60).logits,
        features_of=pool.features_of if "features_of" in needs else None,
        features={t: pool.features[t] for t in wanted},
        labelled_features={2: pool.labelled_features[2]} if "largest" in needs else {},
    )
    assert pick(method, least, 5) == pick(method, pool, 5)


@pytest.mark.parametrize("method", ["CAL", "DIAM", "DIAM_qp"])
def test_votes_of_one_epoch_are_refused(method):
    with one_line_error(f"{method} needs predictions from at least two epochs; raise --epochs"):
        pick(method, made_pool()._replace(votes=np.zeros((1, 3, 60), int)), 5)
