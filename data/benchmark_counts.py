"""PFLlib's partitions as counts [clients, K] (Zhang et al., JMLR 2025; its generate_*.py).

`stock` [K] is the number of images of each class, train and test set together; all of them are
distributed. The caller draws which images of a class a client gets (PFLlib's pat takes them in the
order of the data set).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of a client: two images to train on, because a run cuts its own val from them, and one to test.
LEAST = 3
ALPHAS = 1e-9, 1e9  # outside of this range draws change by rounding errors only
DRAWS = 1000  # at most, until every client of dir or exdir has enough images; PFLlib has no limit
SWEEPS = 20  # of Gibbs sampling over the clients in exdir

Counts = NDArray[np.int64]


def benchmark_counts(
    stock: Counts,
    clients: int,
    kind: str,
    balance: bool,
    alpha: float,
    per_client: int,
    rng: np.random.Generator,
) -> Counts:
    """Counts [clients, K] of one of PFLlib's partitions.

    kind: `-` is iid: every client has every class. `pat`: each client has `per_client` classes. In
    both, `balance` decides how a class is divided, see `_cut_in_turn`. `dir` and `exdir` ignore
    `balance`, as PFLlib does. In `dir` each class is divided by Dir(alpha, ..., alpha) among the
    clients that so far have fewer images than the mean; so a client exceeds the mean by less than
    one class. In `exdir` (extended Dirichlet, Li et al., 2023) each client holds `per_client`
    classes, see `_holders`, and a class is divided in the same way among its holders. Both are
    redrawn until each client has min(40, N / clients / 2) images (exdir: at most 10), and at least
    `LEAST`: 40 is four batches of 10, and a quarter is a client's test set.

    Raises:
        ValueError: alpha is out of range, some class has no client, or some client has too few
            images (one line).
    """
    counts = np.zeros((clients, len(stock)), dtype=np.int64)
    classes = np.flatnonzero(stock)
    stock, num_classes = stock[classes], len(classes)
    partition = "iid" if kind == "-" else f"{kind} with {per_client} classes per client"
    if kind in ("pat", "exdir") and per_client > num_classes:
        raise ValueError(f"{partition}: give at most the {num_classes} classes there are")
    enough = min(40, int(stock.sum()) // clients // 2)
    if kind in ("-", "pat"):
        holders = _in_turn(clients, num_classes, num_classes if kind == "-" else per_client)
        if len(holders) < num_classes:
            more = per_client + 1
            while len(_in_turn(clients, num_classes, more)) < num_classes:
                more += 1
            raise ValueError(
                f"{partition}: {clients} clients hold {len(holders)} of {num_classes} classes: "
                f"give {more} classes per client, or more clients"
            )
        counts[:, classes] = _cut_in_turn(stock, holders, clients, balance, enough, rng)
        if (fewest := counts.sum(1).min()) < LEAST:
            raise ValueError(
                f"{partition}: some of {clients} clients would have {fewest} images, fewer than "
                f"{LEAST}: give fewer clients"
            )
        return counts
    if not ALPHAS[0] <= alpha <= ALPHAS[1]:
        raise ValueError(f"alpha is {alpha}: give {ALPHAS[0]:g} to {ALPHAS[1]:g}")
    held = np.ones((clients, num_classes), dtype=bool)
    if kind == "exdir":
        enough = min(10, enough)
        if clients * per_client < num_classes:
            raise ValueError(
                f"{partition}: {clients} clients hold at most {clients * per_client} of "
                f"{num_classes} classes: give {-(-num_classes // clients)} classes per client, "
                "or more clients"
            )
        held = _holders(clients, num_classes, per_client, rng)
    enough = max(LEAST, enough)
    for _ in range(DRAWS):
        counts[:, classes] = _cut_by_dirichlet(stock, held, alpha, rng)
        if counts.sum(1).min() >= enough:
            return counts
    raise ValueError(
        f"{kind} with alpha {alpha:g}: in each of {DRAWS} draws some of {clients} clients had "
        f"fewer than {enough} images: give fewer clients or a larger --alpha"
        f"{', or more --classes_per_client' if kind == 'exdir' else ''}"
    )


def _in_turn(clients: int, num_classes: int, per_client: int) -> list[np.ndarray]:
    """The holders of each class: the first ceil(clients * per_client / K) clients with room.

    The last clients may hold fewer than `per_client` classes. The list ends when no client has
    room; PFLlib drops the remaining classes.
    """
    room, width = np.full(clients, per_client), -(-clients * per_client // num_classes)
    holders: list[np.ndarray] = []
    while len(holders) < num_classes and room.any():
        holders.append(np.flatnonzero(room)[:width])
        room[holders[-1]] -= 1
    return holders


def _cut_in_turn(
    stock: Counts,
    holders: list[np.ndarray],
    clients: int,
    balance: bool,
    enough: int,
    rng: np.random.Generator,
) -> Counts:
    """Counts [clients, K] with each class divided among its holders.

    Balanced: equal parts. Otherwise parts are uniform between a tenth of the mean (or `enough` / K
    if larger) and the mean. The last holder of a class gets the rest, which in the unbalanced case
    is far more than the others get.
    """
    counts = np.zeros((clients, len(stock)), dtype=np.int64)
    for k, rows in enumerate(holders):
        mean = low = stock[k] // len(rows)
        if not balance:
            low = min(mean, int(max(stock[k] / len(rows) / 10, enough / len(stock))))
        parts = rng.integers(low, max(low + 1, mean), len(rows) - 1)
        counts[rows, k] = [*parts, stock[k] - parts.sum()]
    return counts


def _holders(
    clients: int, num_classes: int, per_client: int, rng: np.random.Generator
) -> np.ndarray:
    """The classes that each client holds, bool [clients, K], `per_client` per row.

    Uniform over all such tables in which each class has at least
    max(1, clients * per_client // K // 2) holders. PFLlib draws whole tables until one satisfies
    this, which takes 7.5 million tables for 20 clients with 10 of 100 classes. Gibbs sampling
    instead redraws the classes of one client given the others', starting from an even deal.
    """
    least = max(1, clients * per_client // num_classes // 2)
    even = np.full(num_classes, clients * per_client // num_classes)
    even[rng.permutation(num_classes)[: clients * per_client % num_classes]] += 1
    held = _deal(even, clients, per_client, rng)
    number = held.sum(0)
    for client in [*range(clients)] * SWEEPS:
        number -= held[client]
        order = np.argsort(
            rng.random(num_classes) - (number < least)
        )  # classes that lack holders first
        held[client] = False
        held[client, order[:per_client]] = True
        number += held[client]
    return held


def _cut_by_dirichlet(
    stock: Counts, held: np.ndarray, alpha: float, rng: np.random.Generator
) -> Counts:
    """One draw of counts [clients, K]: each class is divided among its holders below the mean.

    PFLlib draws over all clients, zeroes the excluded ones and rescales the shares to 1, which is
    the same as a Dirichlet draw over the others. If no holder is below the mean, all get a part.
    """
    counts = np.zeros(held.shape, dtype=np.int64)
    total, mean = np.zeros(len(held), dtype=np.int64), stock.sum() / len(held)
    for k, images in enumerate(stock):
        below_mean = held[:, k] & (total < mean)
        rows = np.flatnonzero(below_mean if below_mean.any() else held[:, k])
        shares = rng.dirichlet(np.full(len(rows), alpha))
        counts[rows, k] = by_shares(shares[:, None], np.array([images]), rng)[:, 0]
        total += counts[:, k]
    return counts


def _deal(shards: Counts, clients: int, per_client: int, rng: np.random.Generator) -> np.ndarray:
    """The classes that each client holds, bool [clients, K].

    A client takes the classes with most shards left, so that no class ever has more shards left
    than there are remaining clients.
    """
    held = np.zeros((clients, len(shards)), dtype=bool)
    left = shards.copy()
    for client in rng.permutation(clients):
        taken = np.lexsort((rng.random(len(left)), -left))[:per_client]
        held[client, taken] = True
        left[taken] -= 1
    return held


def by_shares(shares: np.ndarray, stock: Counts, rng: np.random.Generator) -> Counts:
    """Divides each class by shares [clients, K], cutting at the cumulative sums of the shares.

    All cuts of a class are shifted by one random fraction of an image. Plain rounding down would
    move half an image per class to the last client, and always leave the same clients empty.
    """
    ends = shares.cumsum(0)
    ends = np.floor(ends / ends[-1] * stock + rng.random(len(stock))).astype(np.int64)
    return np.diff(np.minimum(ends, stock), axis=0, prepend=0)
