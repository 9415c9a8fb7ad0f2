"""How many images of each class a client gets, for the sizes `equal` and `uneven`: [clients, K].

`stock` [K] is how many images of each class there are. All of it is given out, whatever the kind;
`equal` gives every client the same number of images, give or take one, and a client always has
`LEAST` or more. A class without images goes to nobody. The words of PFLlib are in
data/benchmark_counts.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

# Of a client: two images to train on, since a run cuts its own val from them, one to validate.
LEAST = 3
DRAWS = 100  # until every client has enough, or the counts of an equal `pat` add up

ALPHAS = 1e-9, 1e9  # beyond, what is drawn changes no more but for errors of floating point

Counts = NDArray[np.int64]


def sizes_of(total: int, clients: int, equal: bool, rng: np.random.Generator) -> Counts:
    """How many of `total` images each client gets, iid.

    Without `equal`: `LEAST` each, and the others by shares that are uniform on the simplex, so
    that sizes are near to exponential.
    """
    if equal:
        return total // clients + (np.arange(clients) < total % clients)
    shares = rng.dirichlet(np.ones(clients))
    return LEAST + rng.multinomial(total - LEAST * clients, shares)


def check_alpha(alpha: float) -> None:
    """ValueError where it is out of range."""
    if not ALPHAS[0] <= alpha <= ALPHAS[1]:
        raise ValueError(f"alpha is {alpha}: give {ALPHAS[0]:g} to {ALPHAS[1]:g}")


def dirichlet(
    stock: Counts, clients: int, equal: bool, alpha: float, rng: np.random.Generator
) -> Counts:
    """Counts [clients, K] by a Dirichlet distribution; the smaller `alpha`, the farther from iid.

    Not equal, as Yurochkin et al. (ICML 2019): for each class k the shares of the clients are
    p_k ~ Dir(alpha, ..., alpha), and client j gets p_kj of its images, rounded up or down so that
    none is lost. It is drawn anew, up to `DRAWS` times, until each client has `LEAST` images.

    Equal, as Hsu et al. (2019): for each client j the shares of the classes are
    q_j ~ Dir(alpha K p), where p_k is the share of class k in all images; with classes of one size
    this is Dir(alpha, ..., alpha). (Their alpha is the sum, K times ours.) A client's images are
    drawn by q_j without replacement. There, clients take turns, and the last get what is left;
    here all draw at once, each its images by its q_j. Where more of a class are claimed than there
    are, claims are met in an order drawn for this class, and who is left short draws again by its
    q_j among the classes that have images left. So no client is special, and rows stay what they
    would be without end of images: of 300 clients of 4 classes the variance of a share is 0.99 to
    1.09 of q_j's at alpha 0.01 to 2 (measured).

    Raises:
        ValueError: clients would be left with too few images, or alpha is out of range.
    """
    check_alpha(alpha)
    classes = np.flatnonzero(stock)
    stock, num_classes = stock[classes], len(stock)
    found = np.zeros((clients, num_classes), dtype=np.int64)
    if equal:
        shares = rng.dirichlet(alpha * len(stock) * stock / stock.sum(), clients)
        found[:, classes] = _claim(shares, sizes_of(stock.sum(), clients, True, rng), stock, rng)
        return found
    for _ in range(DRAWS):
        shares = rng.dirichlet(np.full(clients, alpha), len(stock)).T
        found[:, classes] = by_shares(shares, stock, rng)
        if found.sum(1).min() >= LEAST:
            return found
    raise ValueError(
        f"noniid uneven dir with alpha {alpha:g}: in {DRAWS} draws some of {clients} clients had "
        f"fewer than {LEAST} images each time: give fewer clients, a larger --alpha, or equal"
    )


def by_shares(shares: NDArray[np.float64], stock: Counts, rng: np.random.Generator) -> Counts:
    """Each class given out by shares [clients, K]: its images are cut where the shares' sums are.

    The cuts of a class are all moved by one random part of an image. Rounding down would hold back
    half an image of every class for the last client, and give the same clients nothing each time.
    """
    ends = shares.cumsum(0)
    ends = np.floor(ends / ends[-1] * stock + rng.random(len(stock))).astype(np.int64)
    return np.diff(np.minimum(ends, stock), axis=0, prepend=0)


def _claim(
    shares: NDArray[np.float64], wanted: Counts, stock: Counts, rng: np.random.Generator
) -> Counts:
    """Counts with rows that sum to `wanted` [clients] and columns to `stock`, claimed by shares.

    A round serves all that is wanted or uses up a class, so there are at most K of them.
    """
    counts = np.zeros(shares.shape, dtype=np.int64)
    wanted, stock = wanted.copy(), stock.copy()
    while wanted.any():
        weights = shares * (stock > 0)
        nothing = weights.sum(1) < 1e-200  # what is left has no share worth the name: take any
        weights[nothing] = stock
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


def pathological(
    stock: Counts, clients: int, equal: bool, per_client: int, rng: np.random.Generator
) -> Counts:
    """Counts [clients, K] with exactly `per_client` classes in each row.

    After McMahan et al. (AISTATS 2017), who cut the images, sorted by label, in shards of one size
    and give each client two; a shard may then lie across two classes. Here a shard is of one class
    and a client's shards are of different ones. Classes have shards in proportion to their images,
    dealt like cards: each client in turn takes its classes at random among those with most shards
    left. Equal, shards of a class are as even as clients of one size allow; otherwise a class is
    cut by shares that are uniform on the simplex.

    Raises:
        ValueError: there are fewer classes than that, some class would go to nobody, images do not
            suffice, or no such counts were found in `DRAWS` deals.
    """
    classes = np.flatnonzero(stock)
    some, num_classes = stock[classes], len(classes)
    asked = f"pat with {per_client} classes a client"
    if per_client > num_classes:
        raise ValueError(f"{asked}: there are {num_classes} classes: give at most so many")
    if clients * per_client < num_classes:
        raise ValueError(
            f"{asked}: {clients} clients cannot hold all of {num_classes} classes: "
            f"give {-(-num_classes // clients)} classes a client or more, or more clients"
        )
    low = -(-LEAST // per_client)  # images a shard
    shards = _shards(some, clients, per_client, low, rng)
    if shards is None:
        raise ValueError(
            f"{asked}: the classes have too few images for {clients} clients: "
            "give fewer clients or fewer classes a client"
        )
    wanted = sizes_of(some.sum(), clients, True, rng)
    counts = np.zeros((clients, len(stock)), dtype=np.int64)
    for _ in range(DRAWS if equal else 1):
        held = deal(shards, clients, per_client, rng)
        if equal:
            found = _even(held, wanted, some, low)
        else:
            shares = held * rng.exponential(size=held.shape)
            found = low * held + by_shares(shares, some - low * shards, rng)
        if found is not None:
            counts[:, classes] = found
            return counts
    raise ValueError(
        f"{asked}: {clients} clients cannot be given the same number of images, as the classes "
        f"have from {some.min()} to {some.max()}: give more clients or classes, or uneven"
    )


def _shards(
    stock: Counts, clients: int, per_client: int, low: int, rng: np.random.Generator
) -> Counts | None:
    """How many clients hold each class, [K], in all clients * per_client; None if it cannot be.

    Every class is held by one at least; then the one whose shards are largest is cut once more.
    Shards have `low` images or more, and no client holds a class twice.
    """
    pieces = np.arange(2, clients + 1)
    largest = np.where(pieces * low <= stock[:, None], stock[:, None] / pieces, 0)
    more = clients * per_client - len(stock)
    first = np.lexsort((rng.random(largest.size), -largest.ravel()))[:more]
    if len(first) < more or not (largest.ravel()[first] > 0).all() or stock.min() < low:
        return None
    return 1 + np.bincount(first // max(1, clients - 1), minlength=len(stock))


def deal(
    shards: Counts, clients: int, per_client: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which classes each client holds, [clients, K].

    Taking from those with most shards left never gets stuck: no class ever has more left than
    there are clients still to come.
    """
    held = np.zeros((clients, len(shards)), dtype=bool)
    left = shards.copy()
    for client in rng.permutation(clients):
        taken = np.lexsort((rng.random(len(left)), -left))[:per_client]
        held[client, taken] = True
        left[taken] -= 1
    return held


def _even(held: NDArray[np.bool_], wanted: Counts, stock: Counts, low: int) -> Counts | None:
    """Counts where `held`, `low` or more, with these sums of rows and columns; None if not found.

    Even shards of each class are scaled to both sums in turn (iterative proportional fitting),
    rounded down, and what is missing found as a flow from clients to classes.
    """
    scaled = held * (stock / held.sum(0))
    for _ in range(100):
        off = wanted / scaled.sum(1)
        if abs(off - 1).max() < 1e-9:
            break
        scaled *= off[:, None]
        scaled *= stock / scaled.sum(0)
    sure = np.where(held, np.maximum(np.floor(scaled + 1e-6), low), 0).astype(np.int64)
    rows, columns = wanted - sure.sum(1), stock - sure.sum(0)
    if (rows < 0).any() or (columns < 0).any():
        return None
    flow = _flow(held, rows, columns)
    return sure + flow if flow.sum() == rows.sum() else None


def _flow(held: NDArray[np.bool_], rows: Counts, columns: Counts) -> Counts:
    """As much as can be put where `held` with sums of rows and columns at most these."""
    clients, classes = held.shape
    source, sink = clients + classes, clients + classes + 1
    capacity = np.zeros((sink + 1, sink + 1), dtype=np.int32)
    capacity[source, :clients] = rows
    capacity[:clients, clients:source] = held * rows[:, None]
    capacity[clients:source, sink] = columns
    found = maximum_flow(csr_matrix(capacity), source, sink).flow
    return found[:clients, clients:source].toarray().astype(np.int64)
