import numpy as np
import pytest
import qpsolvers
from scipy import sparse

from active_learning.diam_qp import greedy, nearness, num_candidates


def made(n, targets, seed):
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(n, 3 + t)).astype(np.float32) for t in range(targets)]
    return features, np.sort(rng.integers(0, targets + 1, n))[::-1].astype(float)


def classes(n, targets, seed):
    """Candidates of ten classes, which lie in clusters, some harder than others."""
    rng = np.random.default_rng(seed)
    label, hard = rng.integers(0, 10, n), rng.gamma(1.0, 1.0, n)
    features = [
        (3 * rng.normal(size=(10, 16))[label] + rng.normal(size=(n, 16))).astype(np.float32)
        for _ in range(targets)
    ]
    first = rng.binomial(targets, hard / (1 + hard))
    order = np.argsort(-first, kind="stable")
    return [x[order] for x in features], first[order].astype(float)


def objective(matrix, first, rows, weight=1.0):
    z = np.isin(np.arange(len(first)), rows).astype(float)
    return 0.5 * z @ (matrix @ z) - weight * first @ z


def test_candidates():
    assert num_candidates(40000, 1500) == 8000
    assert num_candidates(99, 5) == 19
    assert num_candidates(99, 30) == 30  # never below the batch
    assert num_candidates(100000, 1500) == 15000


@pytest.mark.parametrize("n", [250, 30])
def test_nearness_counts_targets(n):
    features, _ = made(n, 3, 0)
    count = np.zeros((n, n))
    for one in features:
        squared = ((one[:, None] - one[None]) ** 2).sum(2)
        np.fill_diagonal(squared, np.inf)
        near = np.argsort(squared, 1)[:, : max(1, n // 100)]
        np.put_along_axis(count, near, np.take_along_axis(count, near, 1) + 1, 1)
    found = nearness(features, n).toarray()
    np.testing.assert_array_equal(found, (count + count.T) / 2)
    assert not found.diagonal().any()


@pytest.mark.parametrize("weight", [0.3, 1.0, 6.0])
def test_every_pick_adds_least(weight):
    """Against the objective written out, of the picks and each other row."""
    features, first = made(60, 3, 1)
    matrix = nearness(features, 60)
    picks = greedy(matrix, first, 20, weight).tolist()
    assert len(set(picks)) == 20
    for k, pick in enumerate(picks):
        rest = [i for i in range(60) if i not in picks[:k]]
        values = [objective(matrix, first, [*picks[:k], i], weight) for i in rest]
        assert rest[int(np.argmin(np.round(values, 9)))] == pick


def relaxed(matrix, first, batch_size):
    """The rows of the largest z of the program over [0, 1]^n; matrix positive definite."""
    n = len(first)
    problem = qpsolvers.Problem(
        sparse.csc_matrix(matrix), -first, A=sparse.csc_matrix(np.ones((1, n))),
        b=np.array([float(batch_size)]), lb=np.zeros(n), ub=np.ones(n),
    )  # fmt: skip
    exact = {"eps_abs": 1e-9, "eps_rel": 1e-9, "adaptive_rho_interval": 50, "max_iter": 100_000}
    z = qpsolvers.solve_problem(problem, solver="osqp", **exact).x
    return np.argsort(-np.round(z, 5), kind="stable")[:batch_size]


def clipped(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-9)) @ vectors.T


@pytest.mark.filterwarnings("ignore")  # of the solver, about the format of matrices
@pytest.mark.parametrize(
    ("targets", "expected"),
    [(2, (-83.2, -84.5, -84.2)), (4, (-139.1, -140.2, -142.1)), (12, (-342.0, -339.6, -348.6))],
)
def test_greedy_against_the_relaxed_program_rounded(targets, expected):
    """Ten draws, a batch of 15 % as in the paper: the numbers of `greedy`'s docstring."""
    values, n, batch_size = [], 300, 45
    for seed in range(10):
        features, first = classes(n, targets, seed)
        matrix = nearness(features, n)
        dense, ones = matrix.toarray(), np.eye(n)
        least = np.linalg.eigvalsh(dense)[0]
        ways = {
            "shifted": relaxed(dense + (1e-6 - least) * ones, first, batch_size),
            "released": relaxed(clipped(dense + targets * ones), first, batch_size),
            "greedy": greedy(matrix, first, batch_size),
        }
        values.append([objective(matrix, first, rows) for rows in ways.values()])
    assert np.mean(values, 0) == pytest.approx(expected, abs=0.3)
    if targets > 2:
        assert sum(row[2] <= min(row) for row in values) >= 9


def test_one_of_each_pair_of_copies():
    # Three pairs, far apart, each pair near for both targets: one of each, the lower row.
    place = np.array([[0.0], [0.1], [50.0], [50.1], [90.0], [90.1]])
    near = nearness([place, place], 6)
    first = np.array([2.0, 1.9, 2.0, 1.9, 2.0, 1.9])
    assert greedy(near, first, 3).tolist() == [0, 2, 4]
    # Where all have one first key, too.
    assert greedy(near, np.full(6, 2.0), 3).tolist() == [0, 2, 4]
    # With much weight on the first key it alone decides.
    high = np.array([3.0, 3.0, 3.0, 0.0, 0.0, 0.0])
    assert sorted(greedy(near, high, 3, weight=100.0)) == [0, 1, 2]


def test_a_single_candidate_has_no_neighbours():
    near = nearness([np.zeros((1, 2))], 1)
    assert near.toarray().tolist() == [[0]]
    assert greedy(near, np.ones(1), 1).tolist() == [0]
