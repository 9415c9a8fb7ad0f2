"""Counts [clients, K] as PFLlib's words mean them (Zhang et al., JMLR 2025; its generate_*.py).

`stock` [K] is how many images of each class there are, train and test set together; all of it is
given out. Within a class, which images a client gets is drawn by the caller (PFLlib's pat takes
them in the data set's order).
"""

from __future__ import annotations

import numpy as np

from data.client_counts import LEAST, Counts, check_alpha

DRAWS = 1000  # of dir and exdir, until every client has enough images; PFLlib draws without end
SWEEPS = 20  # over the clients, to draw who holds which classes in exdir


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

    kind: `-` is iid: every client has every class. `pat`: `per_client` classes each. Both cut a
    class as `balance` says, see `_cut_in_turn`. `dir` and `exdir` ignore `balance`, as PFLlib does.
    In `dir` each class is cut by Dir(alpha, ..., alpha) over the clients that have fewer images
    than the mean by then; so a client exceeds the mean by less than one class. In `exdir` (extended
    Dirichlet, Li et al., 2023) each client holds `per_client` classes, see `_holders`, and a class
    is cut in the same way over its holders. Both are drawn again until each client has
    min(40, N / clients / 2) images (exdir: 10, or that if it is less), and `LEAST` in any case: 40
    is four batches of 10, of which a quarter is a client's test set.

    Raises:
        ValueError: some class would go to nobody, or some client has too few images. One line.
    """
    counts = np.zeros((clients, len(stock)), dtype=np.int64)
    classes = np.flatnonzero(stock)
    stock, num_classes = stock[classes], len(classes)
    asked = "iid" if kind == "-" else f"{kind} with {per_client} classes a client"
    if kind in ("pat", "exdir") and per_client > num_classes:
        raise ValueError(f"{asked}: there are {num_classes} classes: give at most so many")
    enough = min(40, int(stock.sum()) // clients // 2)
    if kind in ("-", "pat"):
        holders = _in_turn(clients, num_classes, num_classes if kind == "-" else per_client)
        if len(holders) < num_classes:
            more = per_client + 1
            while len(_in_turn(clients, num_classes, more)) < num_classes:
                more += 1
            raise ValueError(
                f"{asked}: {clients} clients hold {len(holders)} of {num_classes} classes: "
                f"give {more} classes a client, or more clients"
            )
        counts[:, classes] = _cut_in_turn(stock, holders, clients, balance, enough, rng)
        if (fewest := counts.sum(1).min()) < LEAST:
            raise ValueError(
                f"{asked}: some of {clients} clients would have {fewest} images, fewer than "
                f"{LEAST}: give fewer clients{', or equal for the sizes' if kind == '-' else ''}"
            )
        return counts
    check_alpha(alpha)
    held = np.ones((clients, num_classes), dtype=bool)
    if kind == "exdir":
        enough = min(10, enough)
        if clients * per_client < num_classes:
            raise ValueError(
                f"{asked}: {clients} clients hold at most {clients * per_client} of {num_classes} "
                f"classes: give {-(-num_classes // clients)} classes a client, or more clients"
            )
        held = _holders(clients, num_classes, per_client, rng)
    enough = max(LEAST, enough)
    for _ in range(DRAWS):
        counts[:, classes] = _cut_by_dirichlet(stock, held, alpha, rng)
        if counts.sum(1).min() >= enough:
            return counts
    raise ValueError(
        f"{kind} with alpha {alpha:g}: in {DRAWS} draws some of {clients} clients had fewer than "
        f"{enough} images each time: give fewer clients, a larger --alpha"
        f"{', or equal for the sizes' if kind == 'dir' else ', or more --classes_per_client'}"
    )


def _in_turn(clients: int, num_classes: int, per_client: int) -> list[np.ndarray]:
    """Who holds each class: the first ceil(clients * per_client / K) clients with room for it.

    The last clients may hold fewer than `per_client`; the list ends where no client has room, and
    PFLlib loses the classes after that.
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
    """Counts [clients, K] of each class cut among its holders.

    Balanced: even parts. Otherwise parts are uniform from a tenth of the mean (or `enough` / K, if
    that is more) to the mean. The last holder of a class gets what is left, so that unbalanced it
    has far more than the others.
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
    """Which classes each client holds, bool [clients, K], `per_client` in each row.

    Uniform over all such tables with max(1, clients * per_client // K // 2) holders or more of
    each class. PFLlib draws whole tables until one has them, which takes 7.5 million tables for
    20 clients of 10 of 100 classes; this draws one client's classes anew given the others' (Gibbs
    sampling), beginning with classes dealt evenly.
    """
    least = max(1, clients * per_client // num_classes // 2)
    even = np.full(num_classes, clients * per_client // num_classes)
    even[rng.permutation(num_classes)[: clients * per_client % num_classes]] += 1
    held = _deal(even, clients, per_client, rng)
    number = held.sum(0)
    for client in [*range(clients)] * SWEEPS:
        number -= held[client]
        order = np.argsort(rng.random(num_classes) - (number < least))  # what lacks holders first
        held[client] = False
        held[client, order[:per_client]] = True
        number += held[client]
    return held


def _cut_by_dirichlet(
    stock: Counts, held: np.ndarray, alpha: float, rng: np.random.Generator
) -> Counts:
    """Counts [clients, K] of one draw: each class cut among its holders below the mean.

    A Dirichlet draw over all clients, without those who get none and scaled to 1 again (PFLlib), is
    one over the others. Where no holder is below the mean, all holders get a part.
    """
    counts = np.zeros(held.shape, dtype=np.int64)
    total, mean = np.zeros(len(held), dtype=np.int64), stock.sum() / len(held)
    for k, images in enumerate(stock):
        takers = held[:, k] & (total < mean)
        rows = np.flatnonzero(takers if takers.any() else held[:, k])
        shares = rng.dirichlet(np.full(len(rows), alpha))
        counts[rows, k] = by_shares(shares[:, None], np.array([images]), rng)[:, 0]
        total += counts[:, k]
    return counts


def _deal(shards: Counts, clients: int, per_client: int, rng: np.random.Generator) -> np.ndarray:
    """Which classes each client holds, [clients, K].

    A client takes the classes with most shards left, so no class ever has more shards left than
    there are clients to come.
    """
    held = np.zeros((clients, len(shards)), dtype=bool)
    left = shards.copy()
    for client in rng.permutation(clients):
        taken = np.lexsort((rng.random(len(left)), -left))[:per_client]
        held[client, taken] = True
        left[taken] -= 1
    return held


def by_shares(shares: np.ndarray, stock: Counts, rng: np.random.Generator) -> Counts:
    """Each class given out by shares [clients, K]: its images are cut where the shares' sums are.

    The cuts of a class are all moved by one random part of an image. Rounding down would hold back
    half an image of every class for the last client, and give the same clients nothing each time.
    """
    ends = shares.cumsum(0)
    ends = np.floor(ends / ends[-1] * stock + rng.random(len(stock))).astype(np.int64)
    return np.diff(np.minimum(ends, stock), axis=0, prepend=0)
