"""Per-class sums and confusions against loops over samples, and against their limits."""

import numpy as np
import pytest

from deferral import counts, per_class, rules
from deferral.predictions import load
from deferral.risk import costs

K = 5
COST = costs(1.25, 0.25)


@pytest.fixture
def drawn():
    """labels, correct [2, N], stop [N]; class 3 has no samples."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], 200)
    correct = rng.random((2, 200)) < np.array([[0.6], [0.8]])
    return labels, correct, (rng.random(200) < 0.2 + 0.1 * labels).astype(int)


def slow(group, correct, stop, count, cost):
    """One dict a group, sample by sample."""
    keys = ("total", "sent", "local_correct", "edge_correct", "cascade_correct", "cost")
    sums = [dict.fromkeys(keys, 0) for _ in range(count)]
    query, error = cost
    for n, k in enumerate(group):
        right = bool(correct[stop[n]][n])
        sums[k]["total"] += 1
        sums[k]["sent"] += stop[n] > 0
        sums[k]["local_correct"] += correct[0][n]
        sums[k]["edge_correct"] += correct[-1][n]
        sums[k]["cascade_correct"] += right
        sums[k]["cost"] += query[stop[n]] + error[stop[n]] * (not right)
    return sums


def check(found, sums):
    """Sums are equal, shares are the sums divided by the totals, nan without samples."""
    for i, group in enumerate(sums):
        for key in ("total", "sent", "local_correct", "edge_correct", "cascade_correct"):
            assert getattr(found, key)[i] == group[key], (i, key)
        assert found.cost[i] == pytest.approx(group["cost"])
        for share, key in (
            ("reject_rate", "sent"),
            ("local_accuracy", "local_correct"),
            ("edge_accuracy", "edge_correct"),
            ("accuracy", "cascade_correct"),
            ("risk", "cost"),
        ):
            value = getattr(found, share)[i]
            if group["total"]:
                assert value == pytest.approx(group[key] / group["total"]), (i, share)
            else:
                assert np.isnan(value), (i, share)


@pytest.mark.filterwarnings("error")
def test_per_class_is_the_loop_over_samples(drawn):
    labels, correct, stop = drawn
    found = per_class.per_class(labels, correct, stop, K, COST)
    assert found.total[3] == 0
    check(found, slow(labels, correct, stop, K, COST))
    assert per_class.per_class(labels, correct, stop, K).risk is None


def test_per_class_of_three_stages(drawn):
    labels, correct, _ = drawn
    rng = np.random.default_rng(1)
    correct = np.concatenate([correct, rng.random((1, 200)) < 0.9])
    stop = rng.integers(0, 3, 200)
    cost = np.array([0, 0.1, 0.3]), np.array([1, 1.1, 1.5])
    found = per_class.per_class(labels, correct, stop, K, cost)
    check(found, slow(labels, correct, stop, K, cost))


@pytest.mark.filterwarnings("error")
def test_a_quality_counts_in_part(drawn):
    labels, correct, stop = drawn
    quality = np.where(correct, 0.75, 0.25)
    found = per_class.per_class(labels, quality, stop, K, COST)
    for k in (0, 1, 2, 4):
        of = labels == k
        together = np.where(stop > 0, quality[1], quality[0])
        assert found.local_accuracy[k] == pytest.approx(quality[0, of].mean())
        assert found.edge_accuracy[k] == pytest.approx(quality[1, of].mean())
        assert found.accuracy[k] == pytest.approx(together[of].mean())


@pytest.fixture
def part(arrays, save):
    return load(save(arrays)).part("test")


def test_kept_and_sent(part):
    local, edge = part.stage_logits.argmax(-1)
    stop = rules.threshold(part.scores[0], 0)
    assert 0 < stop.sum() < len(stop)
    kept, sent = per_class.kept_and_sent(part, stop)
    pairs = list(zip(part.labels, local, edge, stop, strict=True))
    for i in range(3):
        for j in range(3):
            assert kept[i, j] == sum(y == i and m == j and s == 0 for y, m, _, s in pairs)
            assert sent[i, j] == sum(y == i and e == j and s == 1 for y, _, e, s in pairs)
    both = counts.cascade_counts(part.labels, part.correct, stop, 3)
    assert (kept.sum(), sent.sum()) == (both["predict_locally"], both["predict_remotely"])
    assert np.trace(kept) + np.trace(sent) == both["correct"]
    found = per_class.per_class(part.labels, part.correct, stop, 3)
    np.testing.assert_array_equal(sent.sum(1), found.sent)
    np.testing.assert_array_equal(np.diag(kept) + np.diag(sent), found.cascade_correct)
