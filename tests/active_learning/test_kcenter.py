import tracemalloc

import numpy as np
import pytest

from active_learning import kcenter
from active_learning.kcenter import k_center


def full_matrix(features, labelled, count):
    """The greedy on all distances at once, in float64, by differences."""
    features, labelled = features.astype(np.float64), labelled.astype(np.float64)
    between = ((features[:, None] - features[None]) ** 2).sum(2)
    picks = []
    if len(labelled):
        nearest = ((features[:, None] - labelled[None]) ** 2).sum(2).min(1)
    else:
        picks = [int(((features - features.mean(0)) ** 2).sum(1).argmin())]
        nearest = between[picks[0]].copy()
    while len(picks) < count:
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, between[picks[-1]])
    return picks


@pytest.fixture(params=[(256, 128), (8, 4), (3, 1)], ids=str)
def blocks(request, monkeypatch):
    monkeypatch.setattr(kcenter, "ROWS", request.param[0])
    monkeypatch.setattr(kcenter, "CENTRES", request.param[1])


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("labelled", [0, 1, 11, 40])
def test_equals_the_full_matrix(labelled):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        # Whole numbers: sums are exact, and few values make many equal distances and copies.
        whole = rng.integers(0, 4, (120 + labelled, 3)).astype(np.float32)
        real = rng.normal(size=(120 + labelled, 20)).astype(np.float32)
        for x in (whole, real):
            count = 120 if seed == 0 else 35
            found = k_center(x[labelled:], x[:labelled], count)
            assert found.dtype == np.int64
            assert found.tolist() == full_matrix(x[labelled:], x[:labelled], count)


def test_known_answer_on_a_line():
    pool = np.array([[1.0], [2.0], [5.0], [9.0], [10.0]])
    # From 0: 10 is the farthest, then 5 (5 from both; 2 is 2 away), then 2 (2 from 0; 9 is 1 from
    # 10), then 1 and 9, 1 away each: the lower row.
    assert k_center(pool, np.array([[0.0]]), 5).tolist() == [4, 2, 1, 0, 3]
    # No labels: the mean is 5.4, so 5 comes first; then 10, 5 away, before 1; then 1, 4 away.
    assert k_center(pool, np.zeros((0, 1)), 3).tolist() == [2, 4, 0]


def test_all_alike_are_taken_in_order():
    same = np.ones((5, 2), dtype=np.float32)
    assert k_center(same, same[:1], 5).tolist() == [0, 1, 2, 3, 4]


def test_memory_is_linear():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9000, 32)).astype(np.float32)

    def peak(m, labelled):
        tracemalloc.start()
        k_center(x[1000 : 1000 + m], x[:labelled], 20)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100, 10)
    # 64 bytes a row for its bound, norms and masks, beside the blocks; the features are 128.
    assert peak(8000, 1000) - peak(2000, 250) < 64 * (6000 + 750)
    assert peak(8000, 1000) < 3e6  # all distances: 256 MB; to the labelled: 32 MB
