"""Nearest neighbours against scikit-learn and a sorted matrix, and features of any scale."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from active_learning import cascade_risk, diam_qp, neighbours
from active_learning.kcenter import k_center
from active_learning.neighbours import nearest

LABELLED = np.random.default_rng(1).normal(size=(9, 6))


@pytest.mark.parametrize("block", [512, 7])
def test_ties_are_settled_as_in_a_sorted_matrix(block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    # Few whole numbers: copies, and more at the k-th distance than there is room for.
    x = np.random.default_rng(0).integers(0, 3, (60, 3)).astype(np.float32)
    squared = ((x[:, None] - x[None]) ** 2).sum(2)
    np.fill_diagonal(squared, np.inf)
    for k in (1, 8, 59):
        rows, found = nearest(x, k)
        expected = np.argsort(squared, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(found, np.take_along_axis(squared, expected, 1))


def test_equals_scikit_learn():
    x = np.random.default_rng(0).normal(size=(700, 24)).astype(np.float32)
    rows, squared = nearest(x, 10)
    distance, expected = NearestNeighbors(n_neighbors=10).fit(x).kneighbors()
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(squared, distance**2, rtol=1e-4)


def test_none_and_too_many():
    assert nearest(np.zeros((1, 2)), 0)[0].shape == (1, 0)
    with pytest.raises(ValueError, match="3 neighbours of 3 samples: each has 2 others"):
        nearest(np.zeros((3, 2)), 3)


def covered(x):
    return cascade_risk.cover(np.linspace(1, 2, len(x)), *cascade_risk.influence(x), 20)


@pytest.mark.parametrize("scale", [1e37, 1e-36])
@pytest.mark.parametrize(
    "choose",
    [
        lambda x, scale: k_center(x, (LABELLED * scale).astype(np.float32), 20),
        lambda x, scale: k_center(x, x[:0], 20),
        lambda x, scale: k_center(x.astype(np.float64), x[:0].astype(np.float64), 20),
        lambda x, scale: nearest(x, 5)[0],
        lambda x, scale: diam_qp.choose([x], np.repeat([2.0, 1.0], 60), 20),
        lambda x, scale: covered(x),
    ],
    ids=["k_center", "without labels", "float64", "nearest", "DIAM_qp", "risk"],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_scale_of_features_does_not_matter(choose, scale):
    x = np.random.default_rng(0).normal(size=(120, 6))
    picks = choose((x * scale).astype(np.float32), scale)
    np.testing.assert_array_equal(picks, choose(x.astype(np.float32), 1))
