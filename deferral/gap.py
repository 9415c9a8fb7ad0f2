"""How much of the gap between two models a rule recovers: the measures that routers are judged by.

With performance q (mean quality, 0..1) of the cheap and of the dear model alone:

    gap recovered at a share or cost = (q of the rule - q of cheap) / (q of dear - q of cheap)

PGR, APGR and CPT are those of Ong et al. (RouteLLM, 2024, section 2): the gap recovered at a share
of calls to the dear model, its mean over all shares from 0 to 1 (0.5 for a random router), and the
least share of calls that recovers a given part of the gap. Curves rise from the cheap model alone
to the dear one alone and are linear between their points. Against cost the same are measured with
the mean cost a sample, the cheap model's being 0 and the dear one's 1.
"""

import numpy as np

from deferral.curves import Curve

PARTS = (0.5, 0.8)  # of the gap, for which calls and cost are told


def recovered(curve: Curve) -> np.ndarray:
    """Gap recovered at every point of a curve, [M]; nan where the two models are equally good."""
    gap = curve.accuracy[-1] - curve.accuracy[0]
    if abs(gap) < 1e-12:
        return np.full_like(curve.accuracy, np.nan)
    return (curve.accuracy - curve.accuracy[0]) / gap


def needed(x: np.ndarray, part: np.ndarray, wanted: float) -> float:
    """CPT: the least share of calls, or of the difference in cost, that recovers `wanted`.

    x [M] rising, part [M]. nan where no point recovers that much.
    """
    above = np.flatnonzero(part >= wanted - 1e-12)
    if not above.size:
        return float("nan")
    k = int(above[0])
    if k == 0:
        return float(x[0])
    rise = part[k] - part[k - 1]
    return float(x[k - 1] + (wanted - part[k - 1]) / rise * (x[k] - x[k - 1]))


def cost_at_quality(cost: np.ndarray, quality: np.ndarray, wanted: float) -> float:
    """The least mean cost of a curve's mixtures of neighbours that has a quality; nan: none has.

    cost, quality [M], in the order of the curve.
    """
    cost, quality = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    q0, q1 = quality[:-1], quality[1:]
    crossing = np.flatnonzero((np.minimum(q0, q1) < wanted) & (wanted < np.maximum(q0, q1)))
    share = (wanted - q0[crossing]) / (q1 - q0)[crossing]
    between = cost[crossing] + share * (cost[crossing + 1] - cost[crossing])
    found = np.concatenate([cost[quality >= wanted - 1e-12], between])
    return float(found.min()) if found.size else float("nan")


def quality_at_cost(cost: np.ndarray, quality: np.ndarray, budget: float) -> float:
    """The highest mean quality of a curve's mixtures of neighbours at no more than a mean cost."""
    return -cost_at_quality(-quality, -cost, -budget)
