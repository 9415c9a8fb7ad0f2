"""DIAM with a quadratic program: samples on which many targets change their vote, without crowding.

Tang and Huang, "Active Learning for Multiple Target Models" (DIAM), NeurIPS 2022, as extended in
their release. Of n candidates a batch of B is wanted that minimises, over z in {0, 1}^n with
sum z = B,

    1/2 z'Mz - q * first'z

first [n] is DIAM's first key, M [n, n] counts the targets for which two candidates are near, and q
weighs the two terms.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

POOL_SHARE, MOST = 5, 15000  # candidates: a fifth of the pool, at most so many
NEAR_SHARE = 100  # near: among the nearest 1 %


def num_candidates(size: int, batch_size: int) -> int:
    """n = min(size // 5, 15000), but never below batch_size, which the paper does not consider."""
    return max(batch_size, min(size // POOL_SHARE, MOST))


def nearness(features: Iterable[np.ndarray], n: int) -> sparse.csr_array:
    """M [n, n]: M_ij counts the targets in whose features j is among the nearest 1 % of i.

    The mean of that count and its transpose, since only this enters z'Mz. A sample is no neighbour
    of its own (in the release it is, which adds a constant to z'Mz and takes a place of the 1 %).
    1 % of n, rounded down, but at least one (none where there is one candidate).
    features: one [n, D_t] a target.
    """
    k = min(max(1, n // NEAR_SHARE), n - 1)
    total = sparse.csr_array((n, n))
    for of_target in features if k else ():
        near = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(of_target)
        rows = near.kneighbors(return_distance=False)
        starts = np.arange(n + 1) * k
        total = total + sparse.csr_array((np.ones(n * k), rows.ravel(), starts), shape=(n, n))
    return (total + total.T) / 2


def greedy(
    matrix: sparse.csr_array, first: np.ndarray, batch_size: int, weight: float = 1.0
) -> np.ndarray:
    """Rows int64 [batch_size]: one after the other, the one that adds least to the program above.

    What row i adds to the rows S chosen before is M_ii / 2 + sum over j in S of M_ij - q * first_i;
    ties go to the lower row. matrix [n, n] symmetric, first [n] in DIAM's order; batch_size is in
    1..n, weight is q, the release's --DIAMq.

    The release solves the program for z in [0, 1]^n, with M's negative eigenvalues set to 0 (M is
    indefinite), and takes the largest z. Over ten random draws (n = 300 in ten clusters, B = 45:
    15 % as in the paper, q = 1) the objective of the chosen rows (lower is better) has means

        T     M + delta I    eigenvalues set to 0    greedy
         2        -83.2             -84.5             -84.2
         4       -139.1            -140.2            -142.1
        12       -342.0            -339.6            -348.6

    where M + delta I, the least multiple of the identity that makes M positive definite, is another
    way to relax it. With T = 4 and 12 the greedy is the best in 9 or more of the ten draws; it is
    not where a batch is half of the candidates. It needs no solver and O(n) a pick
    (tests/active_learning/test_diam_qp.py has the comparison).
    """
    adds = matrix.diagonal() / 2 - weight * np.asarray(first, dtype=np.float64)
    picks = np.empty(batch_size, dtype=np.int64)
    for k in range(batch_size):
        i = picks[k] = adds.argmin()
        near = slice(matrix.indptr[i], matrix.indptr[i + 1])
        adds[matrix.indices[near]] += matrix.data[near]
        adds[i] = np.inf
    return picks
