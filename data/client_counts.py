"""Clients of one size whose classes follow a Dirichlet distribution: the counts of `equal dir`.

The partitions of PFLlib are in data/benchmark_counts.py. `stock` [K] is the number of images of
each class. All of them are given out, and every client has `LEAST` or more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of a client: two images to train on, because a run cuts its own val from them, and one to test.
LEAST = 3
ALPHAS = 1e-9, 1e9  # outside of this range draws change by rounding errors only

Counts = NDArray[np.int64]


def even_sizes(total: int, clients: int) -> Counts:
    """The number of images of each client, [clients]; they differ by one at most."""
    return total // clients + (np.arange(clients) < total % clients)


def check_alpha(alpha: float) -> None:
    """ValueError if it is out of range."""
    if not ALPHAS[0] <= alpha <= ALPHAS[1]:
        raise ValueError(f"alpha is {alpha}: give {ALPHAS[0]:g} to {ALPHAS[1]:g}")


def dirichlet(stock: Counts, clients: int, alpha: float, rng: np.random.Generator) -> Counts:
    """Counts [clients, K] after Hsu et al. (2019); the smaller `alpha`, the farther from iid.

    For each client j the shares of the classes are q_j ~ Dir(alpha K p), where p_k is the share of
    class k in all images; with classes of one size this is Dir(alpha, ..., alpha). (Their alpha is
    the sum, K times ours.) A client's images are drawn by q_j without replacement. In the paper
    clients take turns, so the last ones get what is left; here all draw at once. If a class is
    claimed more often than it has images, claims are met in an order drawn for this class, and
    clients left short draw again by their q_j among the classes that have images left. So no client
    is special, and rows have the distribution of an unlimited stock: of 300 clients of 4 classes
    the variance of a share is 0.99 to 1.09 of q_j's at alpha 0.01 to 2 (measured).

    Raises:
        ValueError: alpha is out of range.
    """
    check_alpha(alpha)
    classes = np.flatnonzero(stock)
    counts = np.zeros((clients, len(stock)), dtype=np.int64)
    stock = stock[classes]
    shares = rng.dirichlet(alpha * len(stock) * stock / stock.sum(), clients)
    counts[:, classes] = _claim(shares, even_sizes(stock.sum(), clients), stock, rng)
    return counts


def _claim(
    shares: NDArray[np.float64], wanted: Counts, stock: Counts, rng: np.random.Generator
) -> Counts:
    """Counts with rows that sum to `wanted` [clients] and columns to `stock`, claimed by shares.

    Every round meets all claims or uses up a class, so there are at most K rounds.
    """
    counts = np.zeros(shares.shape, dtype=np.int64)
    wanted, stock = wanted.copy(), stock.copy()
    while wanted.any():
        weights = shares * (stock > 0)
        no_share = weights.sum(1) < 1e-200  # a client's shares of all classes left vanish: take any
        weights[no_share] = stock
        claims = rng.multinomial(wanted, weights / weights.sum(1, keepdims=True))
        for k in np.flatnonzero(claims.sum(0) > stock):
            order = rng.permutation(len(claims))
            claim = claims[order, k]
            before = claim.cumsum() - claim
            claims[order, k] = np.clip(stock[k] - before, 0, claim)
        counts += claims
        wanted -= claims.sum(1)
        stock -= claims.sum(0)
    return counts
