"""The nearest other samples of every sample, in blocks: exact, by Euclidean distance."""

import numpy as np
import torch

BLOCK = 512  # rows of distances in memory at once: 512 x M floats


def nearest(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows int64 [M, k], squared distances float64 [M, k]) of each row's k nearest other rows.

    features [M, D], of any scale. The nearest first; ties go to the lower row. Distances are
    |x|^2 - 2 x.y + |y|^2 in float32, so their error is about 1e-7 of |x|^2 + |y|^2: a copy of a
    sample is at a distance of nearly 0. ValueError where k is not in 0..M - 1.
    """
    m = len(features)
    if not 0 <= k < m:
        raise ValueError(f"{k} neighbours of {m} samples: each has {max(0, m - 1)} others")
    unit = power_of_two(features)
    features = divided(features, unit)
    norms = np.einsum("ij,ij->i", features, features)
    rows = np.empty((m, k), dtype=np.int64)
    squared = np.empty((m, k))
    if k == 0:
        return rows, squared
    for start in range(0, m, BLOCK):
        part = slice(start, min(start + BLOCK, m))
        # Without |x|^2, which changes no order within a row; it is added at the end, to k columns.
        block = (-2 * features[part]) @ features.T
        block += norms
        diagonal = np.arange(part.stop - start)
        block[diagonal, diagonal + start] = np.inf
        # torch: its topk takes a third of the time of numpy's argpartition.
        top = torch.topk(torch.from_numpy(block), k, largest=False)
        values, chosen = top.values.numpy(), top.indices.numpy()
        # Of ties at the k-th distance topk takes any: take the lower rows.
        for i in np.flatnonzero((block <= values[:, -1:]).sum(1) > k):
            chosen[i] = np.argsort(block[i], kind="stable")[:k]
            values[i] = block[i, chosen[i]]
        order = np.lexsort((chosen, values))
        rows[part] = np.take_along_axis(chosen, order, 1)
        values = np.take_along_axis(values, order, 1) + norms[part, None]
        squared[part] = np.maximum(values, 0)
    return rows, squared * unit**2


def divided(x: np.ndarray, by: float | np.ndarray) -> np.ndarray:
    """x / by in float32, divided in float64 a buffer at a time: no divisor overflows."""
    out = np.empty(x.shape, dtype=np.float32)
    return np.divide(x, by, out=out, dtype=np.float64, casting="same_kind")


def power_of_two(*arrays: np.ndarray) -> float:
    """The power of two next above all absolute values; 1 if all are zero.

    Numbers divided by it are of the order of 1 and rounded alike; their squares neither overflow
    nor underflow.
    """
    top = max((float(max(x.max(), -x.min())) for x in arrays if x.size), default=0.0)
    return 2.0 ** int(np.frexp(top)[1])
