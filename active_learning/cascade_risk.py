"""The query method `risk`: samples whose labels are expected to lower the cascade's risk most.

Not from a paper. The cascade is that of learning to help: a local net answers, or defers to an edge
net at cost c_e; an error of the local net costs 1, one of the edge c_1. The expected risk of a
sample, under the committee's mean softmax, is lowered by labels of the sample itself and of similar
ones; the batch is the set of labels that covers most of the pool's risk.

Submodular cover: Nemhauser, Wolsey and Fisher (1978), Mathematical Programming 14; the lazy greedy:
Minoux (1978). That a label removes a share of its neighbours' risk is an assumption, not measured.
"""

import heapq

import numpy as np
from scipy.special import softmax
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 50  # samples whose risk a label lowers
SCALE_RANK = 10  # the bandwidth is the median distance to this neighbour
# Squared distances of unit vectors in float32 resolve no less than this.
LEAST_BANDWIDTH = 1e-6


def choose(
    logits: np.ndarray,
    features: np.ndarray,
    cascade: tuple[int, int],
    costs: tuple[float, float],
    count: int,
) -> np.ndarray:
    """Rows to label, int64 [count]: `expected_risk` covered by `cover` through `influence`.

    logits [T, M, K] of the committee, features [M, D] of the edge, cascade (local, edge) among the
    targets, costs (c_1, c_e).
    """
    return cover(expected_risk(logits, cascade, costs), *influence(features), count)


def expected_risk(
    logits: np.ndarray, cascade: tuple[int, int], costs: tuple[float, float]
) -> np.ndarray:
    """V [M]: the risk of each sample under the cascade's best decision.

    q(y|x), the mean over the committee of its softmax, stands for the class probabilities. With
    p_m and p_e the share of q on the local's and the edge's answer, the Bayes rule of stage
    switching takes the cheaper of both:

        V(x) = min( 1 - p_m, c_e + c_1 * (1 - p_e) )

    logits [T, M, K], cascade (local, edge), costs (c_1, c_e).
    """
    local, edge = cascade
    cost_1, cost_e = costs
    belief = np.zeros(logits.shape[1:])
    for target in logits:
        belief += softmax(target.astype(np.float64), axis=-1)
    belief /= len(logits)
    rows = np.arange(len(belief))
    right_m, right_e = (belief[rows, logits[t].argmax(-1)] for t in (local, edge))
    return np.maximum(np.minimum(1 - right_m, cost_e + cost_1 * (1 - right_e)), 0)


def influence(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [M, k + 1], share float64 [M, k + 1]): the samples whose risk label i lowers.

    The first column is i itself, with share 1; then come the k = min(50, M - 1) nearest j, with
    share w_ij = exp(-d_ij^2 / h^2). d is the distance of features [M, D] scaled to unit length
    (zeros stay), h the median over all samples of the distance to the 10th neighbour, or to the
    last where there are fewer.
    """
    m = len(features)
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features, dtype=np.float64))
    itself = np.arange(m)[:, None]
    if m == 1:
        return itself, np.ones((1, 1))
    unit = np.empty(features.shape, np.float32)
    np.divide(  # in float64, a buffer at a time
        features, np.where(lengths > 0, lengths, 1)[:, None], unit, dtype=np.float64,
        casting="same_kind",
    )  # fmt: skip
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, m - 1), algorithm="brute").fit(unit)
    distance, rows = near.kneighbors()
    rank = min(SCALE_RANK, distance.shape[1])
    bandwidth = np.median(distance[:, rank - 1]) ** 2
    share = np.exp(-(distance**2) / max(bandwidth, LEAST_BANDWIDTH))
    return np.hstack([itself, rows]), np.hstack([np.ones((m, 1)), share])


def cover(risk: np.ndarray, rows: np.ndarray, share: np.ndarray, count: int) -> np.ndarray:
    """The greedy choice of `count` labels S, int64 [count], in its order; ties: the lower row.

        F(S) = sum over j of V_j * (1 - product over i in S of (1 - w_ij))

    is the expected decrease of the pool's risk, with V = risk [M], w_ij = share[i, a] of
    j = rows[i, a] ([M, k + 1], distinct in each row) and 0 of all others. F is monotone and
    submodular, so the greedy reaches 1 - 1/e of the best F at least. Lazily: gains
    only decrease, so an old gain is an upper bound, and the choice is that of the plain greedy.
    count is in 1..M.
    """
    left = np.array(risk, dtype=np.float64)
    # The order of products and sums is fixed, so rounding cannot increase a gain.
    gains = (left[rows] * share).sum(1)
    heap = [(-gain, i) for i, gain in enumerate(gains.tolist())]
    heapq.heapify(heap)
    picks: list[int] = []
    while len(picks) < count:
        _, i = heapq.heappop(heap)
        now = (-float((left[rows[i]] * share[i]).sum()), i)
        if heap and now > heap[0]:
            heapq.heappush(heap, now)
            continue
        picks.append(i)
        left[rows[i]] *= 1 - share[i]
    return np.array(picks, dtype=np.int64)
