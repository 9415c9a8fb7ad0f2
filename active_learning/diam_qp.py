"""DIAM with a quadratic program: samples on which many targets waver, and not all alike.

Tang and Huang, "Active Learning for Multiple Target Models" (DIAM), NeurIPS 2022. Of n candidates
a batch of B is wanted that minimises, over z in {0, 1}^n with sum z = B,

    1/2 z'Mz - q * first'z

first [n] is DIAM's first key, M [n, n] counts over the targets how near two candidates are, and q
weighs one against the other. It is solved for z in [0, 1]^n; the largest z are taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from active_learning.neighbours import nearest

POOL_SHARE, MOST = 5, 15000  # candidates: a fifth of the pool, and not above
NEAR_SHARE = 100  # near: among the nearest 1 %
DENSE = 500  # up to here all eigenvalues are found at once; Lanczos needs room
ACCURACY = 1e-9  # of the solver, absolute and relative; z is told apart to DECIMALS
DECIMALS = 5


def num_candidates(size: int, batch_size: int) -> int:
    """n = min(size // 5, 15000), but never below batch_size, which the paper does not consider."""
    return max(batch_size, min(size // POOL_SHARE, MOST))


def choose(
    features: Iterable[np.ndarray], first: np.ndarray, batch_size: int, weight: float = 1.0
) -> np.ndarray:
    """Rows of the candidates, int64 [batch_size], that of the largest z first.

    features: one [n, D_t] a target, of the candidates; first [n]: of the same, in DIAM's order,
    which settles ties. ValueError as in `solve`.
    """
    z = solve(convex(nearness(features, len(first))), first, batch_size, weight)
    return np.argsort(-np.round(z, DECIMALS), kind="stable")[:batch_size]


def nearness(features: Iterable[np.ndarray], n: int) -> sparse.csr_array:
    """M [n, n]: M_ij counts the targets in whose features j is among the nearest 1 % of i.

    The mean of that count and its transpose, since only this enters z'Mz. A sample is no neighbour
    of its own. 1 % of n, rounded down, but at least one (none where there is one candidate).
    features: one [n, D_t] a target.
    """
    k = min(max(1, n // NEAR_SHARE), n - 1)
    total = sparse.csr_array((n, n))
    for one in features:
        rows, _ = nearest(one, k)
        starts = np.arange(n + 1) * k
        total = total + sparse.csr_array((np.ones(n * k), rows.ravel(), starts), shape=(n, n))
    return (total + total.T) / 2


def convex(matrix: sparse.csr_array) -> sparse.csr_array:
    """matrix + delta I [n, n], positive definite: delta is just above minus the least eigenvalue.

    M has zeros on its diagonal and is indefinite, so that as it stands the relaxed program has
    local optima. For z in {0, 1}^n with sum z = B, z'z = B whatever z is: delta adds a constant to
    the binary program, and makes the relaxed one convex, with one solution (Hammer and Rubin,
    1970). What the paper does about it is not stated.
    """
    n = matrix.shape[0]
    if n <= DENSE:
        least = np.linalg.eigvalsh(matrix.toarray())[0]
    else:
        start = np.random.default_rng(0).standard_normal(n)  # or it would not repeat itself
        found = eigsh(matrix, k=1, which="SA", v0=start, tol=1e-4, return_eigenvectors=False)
        least = found[0]
    # Lanczos comes from above, by up to its tolerance.
    delta = max(0.0, -float(least)) * 1.001 + 1e-6
    return (matrix + delta * sparse.eye_array(n)).tocsr()


def solve(
    matrix: sparse.csr_array,
    first: np.ndarray,
    batch_size: int,
    weight: float = 1.0,
    steps: int = 100_000,
) -> np.ndarray:
    """z [n] of min 1/2 z'(matrix)z - weight * first'z over 0 <= z <= 1, sum z = batch_size.

    matrix [n, n] positive definite, as of `convex`; first [n]. By OSQP, without a time limit and
    with its step size adapted every 50 iterations rather than by the clock, so that it repeats.
    weight is the paper's q; its value there is not known here, 1.0 is ours. ValueError where OSQP
    has no solution within `steps` iterations.
    """
    import qpsolvers  # here, because no other method has to wait for it

    n = len(first)
    problem = qpsolvers.Problem(
        sparse.csc_matrix(matrix),
        -weight * np.asarray(first, dtype=np.float64),
        A=sparse.csc_matrix(np.ones((1, n))),
        b=np.array([float(batch_size)]),
        lb=np.zeros(n),
        ub=np.ones(n),
    )
    settings = {"eps_abs": ACCURACY, "eps_rel": ACCURACY, "adaptive_rho_interval": 50}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a failure is told below, in one line
        found = qpsolvers.solve_problem(problem, solver="osqp", max_iter=steps, **settings)
    if not found.found or not np.isfinite(found.x).all():
        raise ValueError(
            f"DIAM_qp: OSQP has no solution for {n} candidates and a batch of {batch_size} after "
            f"{steps} iterations; DIAM needs no solver"
        )
    return np.clip(found.x, 0, 1)
