"""Greedy k-center: each pick is the sample farthest from all that are labelled or picked.

Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
ICLR 2018, algorithm 1.
"""

import numpy as np

# Rows and centres of one block of distances. From 64 x 64 to 512 x 128 there is little between
# them (10,000 samples, one core); 1,024 x 1,024 took three to five times as long.
ROWS, CENTRES = 256, 128


def k_center(features: np.ndarray, labelled: np.ndarray, count: int) -> np.ndarray:
    """Rows of `features` that the greedy picks, int64 [count], all different, in its order.

    Repeats u = argmax over rows i of min over centres j of |x_i - x_j|^2; ties go to the lower row.
    The centres are `labelled` [L, D], then the picks too. features [M, D], both finite. Where L is
    0 the first pick is the row nearest the mean of `features`, which the paper leaves open.

    Lazily (Minoux, 1978): a sample's distance to its nearest centre only falls as centres come, so
    its distance to some of them is an upper bound, and a sample whose bound is not the highest
    cannot be the next pick: it need not be compared with the other centres yet. The picks are those
    of the full distance matrix; beside the features the memory is O(M + L).

    Squared distances are |x|^2 - 2 x.y + |y|^2 in float64, rounded to float32: what scikit-learn
    has of float32 features. They are computed of features over their `power_of_two`, which rounds
    alike and leaves room for features of any scale. count is in 1..M.
    """
    unit = power_of_two(features, labelled)
    norms, labelled_norms = _squared_norms(features, unit), _squared_norms(labelled, unit)
    bound = np.full(len(features), np.inf, dtype=np.float32)
    seen = np.zeros(len(features), dtype=np.int64)  # number of centres in a row's bound
    picks: list[int] = []
    if not len(labelled):
        mean = features.mean(0, dtype=np.float64)[None]
        distances = _nearest(features, norms, mean, _squared_norms(mean, unit), unit)
        picks.append(int(distances.argmin()))
        bound[picks] = -1
    while len(picks) < count:
        top = int(bound.argmax())
        if seen[top] == len(labelled) + len(picks):
            picks.append(top)
            bound[top] = -1  # below any distance: never again
            continue
        # Update the rows of the highest bounds that have seen as many centres as `top` has.
        start = int(seen[top])
        if start < len(labelled):
            stop = min(start + CENTRES, len(labelled))
            centres, centre_norms = labelled[start:stop], labelled_norms[start:stop]
        else:
            new = picks[start - len(labelled) :][:CENTRES]
            stop = start + len(new)
            centres, centre_norms = features[new], norms[new]
        rows = np.flatnonzero((seen >= start) & (seen < stop) & (bound >= 0))
        if len(rows) > ROWS:
            rows = rows[np.argpartition(-bound[rows], ROWS)[:ROWS]]
        distances = _nearest(features[rows], norms[rows], centres, centre_norms, unit)
        bound[rows] = np.minimum(bound[rows], distances)
        seen[rows] = stop
    return np.array(picks, dtype=np.int64)


def power_of_two(*arrays: np.ndarray) -> float:
    """The power of two next above all absolute values; 1 if all are zero.

    Numbers divided by it are of the order of 1 and rounded alike; their squares neither overflow
    nor underflow.
    """
    top = max((float(max(x.max(), -x.min())) for x in arrays if x.size), default=0.0)
    return 2.0 ** int(np.frexp(top)[1])


def _nearest(
    features: np.ndarray,
    norms: np.ndarray,
    centres: np.ndarray,
    centre_norms: np.ndarray,
    unit: float,
) -> np.ndarray:
    """Squared distance of each row to its nearest centre in units of `unit`, float32 [rows]."""
    centres = centres.astype(np.float64).T / unit
    nearest = np.empty(len(features), dtype=np.float32)
    for start in range(0, len(features), ROWS):
        part = slice(start, start + ROWS)
        squared = features[part].astype(np.float64) @ centres
        squared *= -2 / unit
        squared += centre_norms
        nearest[part] = np.maximum(squared.min(1) + norms[part], 0)
    return nearest


def _squared_norms(x: np.ndarray, unit: float) -> np.ndarray:
    """|x / unit|^2, float64 [N]; in blocks, so that no float64 copy of the features is made."""
    norms = np.empty(len(x))
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS].astype(np.float64) / unit
        norms[start : start + ROWS] = np.einsum("ij,ij->i", part, part)
    return norms
