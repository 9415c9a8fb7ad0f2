import math
from itertools import combinations

import numpy as np
import pytest

from active_learning.cascade_risk import cover, expected_risk, influence


def covered(risk, rows, share, picks):
    """F(S), from its formula."""
    total = 0.0
    for j in range(len(risk)):
        missed = 1.0
        for i in picks:
            missed *= 1 - dict(zip(rows[i].tolist(), share[i].tolist(), strict=True)).get(j, 0.0)
        total += risk[j] * (1 - missed)
    return total


def plain_greedy(risk, rows, share, count):
    left, picks = risk.copy(), []
    for _ in range(count):
        gains = (left[rows] * share).sum(1)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        left[rows[picks[-1]]] *= 1 - share[picks[-1]]
    return picks


def made(m, seed, whole=False):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 4, (m, 2)) if whole else rng.normal(size=(m, 4))
    risk = rng.integers(0, 3, m) / 2 if whole else rng.random(m)
    return risk, *influence(x.astype(np.float32))


def test_expected_risk_is_its_formula():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(3, 50, 4))
    found = expected_risk(logits, (2, 0), (1.1, 0.05))
    asked = 0
    for i in range(50):
        belief = [0.0] * 4
        for t in range(3):
            exps = [math.exp(v) for v in logits[t, i]]
            belief = [b + e / sum(exps) / 3 for b, e in zip(belief, exps, strict=True)]
        p_m = belief[max(range(4), key=lambda c: logits[2, i, c])]
        p_e = belief[max(range(4), key=lambda c: logits[0, i, c])]
        asked += 1 - p_m > 0.05 + 1.1 * (1 - p_e)
        assert found[i] == pytest.approx(min(1 - p_m, 0.05 + 1.1 * (1 - p_e)), abs=1e-12)
    assert 5 < asked < 45  # both sides of the minimum were met


def test_influence_is_its_formula():
    x = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    rows, share = influence(3 * x)  # scaled to unit length, so 3 changes nothing
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    squared = ((unit[:, None] - unit[None]) ** 2).sum(2)
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1)
    bandwidth = np.median(np.sqrt(np.sort(squared, axis=1)[:, 9]))
    assert rows.shape == share.shape == (120, 51)
    np.testing.assert_array_equal(rows[:, 0], np.arange(120))
    np.testing.assert_array_equal(share[:, 0], 1)
    np.testing.assert_array_equal(rows[:, 1:], order[:, :50])
    expected = np.exp(-np.take_along_axis(squared, order[:, :50], 1) / bandwidth**2)
    np.testing.assert_allclose(share[:, 1:], expected, rtol=1e-4)


def test_influence_of_few_of_copies_and_of_zeros():
    assert [a.tolist() for a in influence(np.ones((1, 3), np.float32))] == [[[0]], [[1.0]]]
    rows, share = influence(np.array([[1, 0], [0, 2], [5, 0]], dtype=np.float32))
    assert [sorted(row) for row in rows.tolist()] == [[0, 1, 2]] * 3
    assert rows[:, :2].tolist()[::2] == [[0, 2], [2, 0]]
    # Squared distances are 0 (rows 0 and 2 are alike), 2 and 2; the last neighbour's is 2 for all.
    expected = np.array([[1, 1, 1 / math.e], [1, 1 / math.e, 1 / math.e], [1, 1, 1 / math.e]])
    np.testing.assert_allclose(share, expected, rtol=1e-6)
    rows, share = influence(np.zeros((4, 2), dtype=np.float32))
    assert np.isfinite(share).all()
    np.testing.assert_array_equal(share, 1)


@pytest.mark.parametrize("whole", [False, True])  # whole: copies, equal gains, risks of 0
def test_lazy_is_the_plain_greedy(whole):
    for seed in range(10):
        risk, rows, share = made(90, seed, whole)
        picks = cover(risk, rows, share, 90 if seed == 0 else 30)
        assert picks.dtype == np.int64
        assert picks.tolist() == plain_greedy(risk, rows, share, len(picks))


def test_the_greedy_is_near_the_best():
    for seed in range(8):
        risk, rows, share = made(9, seed)
        for count in (1, 2, 3):
            found = covered(risk, rows, share, cover(risk, rows, share, count))
            best = max(covered(risk, rows, share, s) for s in combinations(range(9), count))
            assert (1 - 1 / math.e) * best - 1e-12 <= found <= best + 1e-12
            if count == 1:
                assert found == pytest.approx(best)
