from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from active_learning import diam_qp
from active_learning.diam_qp import choose, convex, nearness, num_candidates, solve


def made(n, targets, seed):
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(n, 3 + t)).astype(np.float32) for t in range(targets)]
    return features, np.sort(rng.integers(0, targets + 1, n))[::-1].astype(float)


def objective(matrix, first, z):
    return 0.5 * z @ (matrix @ z) - first @ z


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
        near = NearestNeighbors(n_neighbors=max(1, n // 100)).fit(one).kneighbors()[1]
        for i in range(n):
            for j in near[i]:
                count[i, j] += 1
    found = nearness(features, n).toarray()
    np.testing.assert_array_equal(found, (count + count.T) / 2)
    assert not found.diagonal().any()


def test_nearness_by_hand():
    # On a line at 0, 1, 3 and 7 the nearest of each is 1, 0, 1 and 2 (rows).
    one = np.array([[0.0], [1.0], [3.0], [7.0]])
    expected = np.array([[0, 1, 0, 0], [1, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, 0, 0.5, 0]])
    np.testing.assert_array_equal(nearness([one], 4).toarray(), expected)
    np.testing.assert_array_equal(nearness([one, one], 4).toarray(), 2 * expected)
    assert nearness([one[:1]], 1).toarray().tolist() == [[0]]


@pytest.mark.parametrize("n", [40, 600])  # all eigenvalues; Lanczos
def test_convex_is_the_least_shift(n):
    features, _ = made(n, 3, 1)
    matrix = nearness(features, n)
    shifted = convex(matrix)
    least = np.linalg.eigvalsh(matrix.toarray())[0]
    assert least < -0.5  # or there would be nothing to do
    delta = (shifted - matrix).toarray()
    np.testing.assert_allclose(delta, delta[0, 0] * np.eye(n), atol=1e-12)
    assert -least < delta[0, 0] < -least * 1.002
    assert np.linalg.eigvalsh(shifted.toarray())[0] > 0
    assert (convex(matrix) != shifted).nnz == 0


@pytest.mark.parametrize(("n", "batch_size", "weight"), [(40, 7, 1.0), (60, 12, 0.3), (30, 4, 5.0)])
def test_solution_satisfies_the_kkt_conditions(n, batch_size, weight):
    features, first = made(n, 3, n)
    matrix = convex(nearness(features, n))
    z = solve(matrix, first, batch_size, weight)
    assert z.sum() == pytest.approx(batch_size, abs=1e-6)
    assert z.min() >= 0
    assert z.max() <= 1
    # gradient + nu = 0 where 0 < z < 1, >= 0 at z = 0 and <= 0 at z = 1, for one nu.
    gradient = matrix @ z - weight * first
    low, high = z < 1e-6, z > 1 - 1e-6
    inside = ~low & ~high
    nu = -gradient[inside].mean()
    assert inside.sum() >= 2
    assert low.any()
    np.testing.assert_allclose(gradient[inside], -nu, atol=1e-5)
    assert (gradient[low] + nu > -1e-5).all()
    assert (gradient[high] + nu < 1e-5).all()


def test_against_every_subset():
    tight = 0
    for seed in range(12):
        features, first = made(9, 2, seed)
        matrix = nearness(features, 9)
        subsets = [np.isin(np.arange(9), rows).astype(float) for rows in combinations(range(9), 3)]
        # Much weight on the first key makes some relaxations tight; the shift changes no order.
        values = [objective(matrix, 6 * first, z) for z in subsets]
        relaxed = solve(convex(matrix), first, 3, 6.0)
        shift = 1.5 * (convex(matrix) - matrix).toarray()[0, 0]  # 1/2 delta z'z, z'z = 3
        lower = objective(convex(matrix), 6 * first, relaxed) - shift
        assert lower <= min(values) + 1e-6
        if np.isclose(relaxed, relaxed.round(), atol=1e-5).all():
            tight += 1
            taken = choose(features, first, 3, 6.0)
            found = objective(matrix, 6 * first, np.isin(np.arange(9), taken).astype(float))
            assert found == pytest.approx(min(values), abs=1e-9)
    assert tight >= 3


def test_one_of_each_pair_of_copies():
    # Three pairs, far apart, each pair near for both targets: one of each, the lower row.
    place = np.array([[0.0], [0.1], [50.0], [50.1], [90.0], [90.1]])
    first = np.array([2.0, 1.9, 2.0, 1.9, 2.0, 1.9])
    assert sorted(choose([place, place], first, 3)) == [0, 2, 4]
    # All alike but for the rows: z is 1/2 everywhere, so DIAM's order decides.
    assert choose([place, place], np.full(6, 2.0), 3).tolist() == [0, 1, 2]
    # With much weight on the first key it alone decides.
    high = np.array([3.0, 3.0, 3.0, 0.0, 0.0, 0.0])
    assert sorted(choose([place, place], high, 3, weight=100.0)) == [0, 1, 2]


def test_whole_pool_and_one():
    features, first = made(20, 2, 0)
    assert choose(features, first, 20).tolist() == list(range(20))
    assert choose([np.zeros((1, 2))], np.array([1.0]), 1).tolist() == [0]


def test_no_solution_is_one_line(capfd, recwarn):
    features, first = made(30, 2, 0)
    matrix = convex(nearness(features, 30))
    with pytest.raises(ValueError, match="OSQP has no solution for 30 candidates") as error:
        solve(matrix, first, 5, steps=1)
    assert "\n" not in str(error.value)
    assert not recwarn.list
    assert capfd.readouterr().out == ""


def test_the_clock_does_not_decide(monkeypatch):
    import qpsolvers

    given = {}
    real = qpsolvers.solve_problem

    def spy(problem, **settings):
        given.update(settings)
        return real(problem, **settings)

    monkeypatch.setattr(qpsolvers, "solve_problem", spy)
    solve(sparse.eye_array(4).tocsr(), np.arange(4.0), 2)
    assert given["solver"] == "osqp"
    assert given["adaptive_rho_interval"] > 0
    assert "time_limit" not in given
    assert given["eps_abs"] == given["eps_rel"] == diam_qp.ACCURACY
