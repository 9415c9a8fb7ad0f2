import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from active_learning import neighbours
from active_learning.neighbours import nearest


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
