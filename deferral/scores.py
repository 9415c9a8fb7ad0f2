"""Class scores of any form as logits [N, K], whose softmax is the model's probabilities."""

import numpy as np

FORMS = ("logits", "probabilities", "percentages", "sigmoids")
MASKED = 1000.0  # so far below the highest logit is a class of probability 0
ROUNDED = 0.05  # rows of rounded probabilities sum to 1 within this


def as_logits(scores: np.ndarray, name: str, form: str = "auto") -> tuple[np.ndarray, str]:
    """Logits, float32 unless scores are float64, and a phrase that says what they were and why.

    scores [N, K], K >= 2; rows of nan are answers that are missing and stay so; -inf is a masked
    class. form: one of FORMS; "named": logits, as the column's name says; or "auto": where
    every row is >= 0 and sums to 1 within ROUNDED probabilities, to 100 percentages; where all are
    in 0..1 otherwise independent sigmoids, whose logits are log(s / (1 - s)); else logits.
    ValueError where scores are not numbers, or not of the form that was asked for.
    """
    if scores.ndim != 2 or scores.shape[1] < 2 or scores.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {scores.dtype} {scores.shape}, not numbers [N, K] with K >= 2")
    values = scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float32)
    present = ~np.isnan(values).all(1)
    there = values[present]
    if np.isnan(there).any() or (there == np.inf).any() or (there == -np.inf).all(1).any():
        raise ValueError(f"{name} holds values that are not numbers, or no finite one in a row")
    if np.isneginf(there).any():
        lowest = there.max(1, keepdims=True) - MASKED
        values = values.copy()
        values[present] = np.where(np.isneginf(there), lowest, there)
        return values, "logits (classes are masked with -inf)"
    low, high = (there.min(), there.max()) if there.size else (0.0, 0.0)
    sums = there.sum(1, dtype=np.float64)
    reason = "by its name" if form == "named" else "as asked for"
    if form == "named":
        form = "logits"
    elif form == "auto":
        form, reason = _form(low, high, sums)
    if form == "logits":
        return values, f"logits ({reason})"
    if low < 0 or high > (100 + 1e-6 if form == "percentages" else 1 + 1e-6):
        raise ValueError(f"{name} cannot be {form}: values are in {low:g}..{high:g}")
    tiny = np.finfo(values.dtype).tiny
    with np.errstate(divide="ignore"):
        if form == "sigmoids":
            logits = np.log(np.maximum(values, tiny)) - np.log1p(-np.minimum(values, 1 - 2**-24))
        else:
            # The sum does not matter to a softmax; the smallest number stands for a 0.
            logits = np.log(np.maximum(values, tiny))
    return logits, f"{form} ({reason})"


def _form(low: float, high: float, sums: np.ndarray) -> tuple[str, str]:
    if low < 0:
        return "logits", "some are negative"
    off = np.abs(sums - 1).max(initial=0)
    if off <= ROUNDED:
        return "probabilities", f"each row sums to 1 within {max(off, 1e-6):.1g}"
    if np.abs(sums - 100).max(initial=0) <= 100 * ROUNDED:
        return "percentages", "each row sums to 100"
    if high <= 1:
        return "sigmoids", "all are in 0 to 1, and rows do not sum to 1"
    return "logits", "rows do not sum to 1"
