"""The cost of a decision: the generalized 0-1 risk of a cascade of E stages.

    risk = mean over n of ( query_cost[stop[n]] + error_cost[stop[n]] * (1 - correct[stop[n], n]) )

Shapes: correct [E, N] bool, or the quality of each answer, 0..1; stop [N] in 0..E-1 (the stage that
answers), query_cost [E] (paid on reaching a stage, cumulated), error_cost [E]. Costs are in units
of one local error. With E = 2 and `costs(cost_1, cost_e)` it is the risk of Wu et al. (ICLR 2025),
Learning to Help in Multi-Class Settings. Where what a stage costs depends on the sample, as for a
device with exits taken as one stage (`stages.as_two`), query_cost and error_cost may be [E, N].
"""

import numpy as np
from numpy.typing import ArrayLike

Pair = tuple[float, float]  # (c_1, c_e)
Costs = tuple[np.ndarray, np.ndarray]  # query_cost and error_cost
# 42 pairs of Wu et al. (ICLR 2025). 3 / 40 is the float that "0.075" parses to; 0.025 * 3 is not.
PAPER_COSTS: list[Pair] = [(cost_1, k / 40) for cost_1 in (1.0, 1.25) for k in range(21)]


def costs(cost_1: float, cost_e: float, device: ArrayLike = (0.0,)) -> Costs:
    """query_cost (d_1, ..., d_E, d_E + c_e) and error_cost (1, ..., 1, c_1), each [E + 1].

    device [E]: the cumulated cost of the device at each of its exits; the server is asked after the
    last of them. The default gives (0, c_e) and (1, c_1), the costs of learning to help.
    ValueError unless `device` holds one or more finite numbers >= 0 that never fall.
    """
    spent = np.asarray(device, dtype=np.float64)
    if spent.ndim != 1 or not spent.size or not np.isfinite(spent).all():
        raise ValueError(f"device costs {spent.tolist()}: need a finite number for each exit")
    if spent[0] < 0 or (np.diff(spent) < 0).any():
        raise ValueError(f"device costs {spent.tolist()}: must be >= 0 and never fall")
    return np.append(spent, spent[-1] + cost_e), np.append(np.ones(spent.size), cost_1)


def stage_costs(correct: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray) -> np.ndarray:
    """The cost of each sample at each stage, [E, N]. ValueError where the lengths differ."""
    correct, query, error = np.asarray(correct), np.asarray(query_cost), np.asarray(error_cost)
    fitting = (correct.shape[:1], correct.shape)
    if correct.ndim != 2 or query.shape not in fitting or error.shape not in fitting:
        raise ValueError(
            f"correct {correct.shape} needs query_cost and error_cost of one value a stage, "
            f"not {query.shape} and {error.shape}"
        )
    query, error = (x if x.ndim == 2 else x[:, None] for x in (query, error))
    return query + error * (1.0 - correct)


def per_sample(
    correct: np.ndarray, stop: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray
) -> np.ndarray:
    """The cost of each sample at the stage where it stops, [N]; its mean is the risk."""
    return at_stop(stage_costs(correct, query_cost, error_cost), stop)


def risk(
    correct: np.ndarray, stop: np.ndarray, query_cost: np.ndarray, error_cost: np.ndarray
) -> float:
    """The generalized 0-1 risk (module docstring); nan without samples."""
    return _mean(per_sample(correct, stop, query_cost, error_cost))


def accuracy(correct: np.ndarray, stop: np.ndarray) -> float:
    """Share of samples that the answering stage gets right, 0..1; nan without samples."""
    return _mean(at_stop(np.asarray(correct), stop))


def send_rate(stop: np.ndarray) -> float:
    """Share of samples that leave the first stage (stop > 0), 0..1: the reject rate."""
    return _mean(np.asarray(stop) > 0)


def random_risk(
    correct: np.ndarray, rate: float, query_cost: np.ndarray, error_cost: np.ndarray
) -> float:
    """Expected risk when each sample is sent with the same probability `rate` (E = 2)."""
    local, remote = stage_costs(correct, query_cost, error_cost)
    return (1 - rate) * _mean(local) + rate * _mean(remote)


def at_stop(values: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """values[stop[n], n] of values [E, N]; ValueError for stages outside 0..E-1."""
    stop = np.asarray(stop)
    if values.ndim != 2 or stop.shape != values.shape[1:]:
        raise ValueError(f"stop {stop.shape} does not fit {values.shape} (stages, samples)")
    if stop.size and (stop.min() < 0 or stop.max() >= len(values)):
        raise ValueError(f"stop holds stages outside 0..{len(values) - 1}")
    if len(values) == 2:  # a third of the time
        return np.where(stop > 0, values[1], values[0])
    return values[stop, np.arange(stop.size)]


def _mean(values: np.ndarray) -> float:
    return float(values.sum() / values.size) if values.size else float("nan")
