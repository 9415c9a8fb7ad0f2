"""The choice of the rejector settings that a figure shows."""

from collections import Counter, defaultdict
from typing import Any

import experiment
from deferral.npz_checks import tolerance
from deferral.predictions import Predictions
from deferral.summary import setting_name
from figures.command import DEFAULT, NotDrawn


def rejectors(predictions: Predictions) -> list[dict[str, Any]]:
    """The R settings, each with `row`: where it is in `scores`. NotDrawn for an edge-only run."""
    settings = predictions.settings["rejectors"]
    if not settings:
        raise NotDrawn("the run has no rejectors, only an edge net")
    return [setting | {"row": row} for row, setting in enumerate(settings)]


def often_first(async_freq: int | str) -> tuple[int, float]:
    """Sort key of S: 1, joint, rarer and rarer refreshes, |D| (0); then adaptive ones."""
    if async_freq == "joint":
        return 1, 0.0
    share = tolerance(async_freq)
    if share is not None:
        return 3, share
    return (0, 0.0) if async_freq == 1 else (2, float(async_freq or "inf"))


def cost_sweep(predictions: Predictions) -> list[dict[str, Any]]:
    """The settings that differ in costs alone, sorted by (c_1, c_e).

    They share the (S, surrogate) that has the most cost pairs; of equals, the most often refreshed.
    """
    settings = rejectors(predictions)
    count = Counter((s["async_freq"], s["surrogate"]) for s in settings)
    chosen = min(count, key=lambda pair: (-count[pair], often_first(pair[0])))
    sweep = [s for s in settings if (s["async_freq"], s["surrogate"]) == chosen]
    return sorted(sweep, key=_costs)


def async_sweeps(predictions: Predictions) -> list[list[dict[str, Any]]]:
    """Lists of settings that differ in S alone, two or more each, sorted by costs, then S."""
    groups = defaultdict(list)
    for s in rejectors(predictions):
        groups[(*_costs(s), s["surrogate"])].append(s)
    sweeps = [
        sorted(group, key=lambda s: often_first(s["async_freq"]))
        for _, group in sorted(groups.items())
        if len({s["async_freq"] for s in group}) > 1
    ]
    if not sweeps:
        raise NotDrawn("no costs were trained at more than one --async_freq")
    return sweeps


def one_setting(
    predictions: Predictions, cost_1: float | None, cost_e: float | None
) -> dict[str, Any]:
    """The setting of the cost sweep with these costs; where one is None, the nearest to DEFAULT."""
    return _nearest(predictions, cost_sweep(predictions), cost_1, cost_e)


def one_async_sweep(
    predictions: Predictions, cost_1: float | None, cost_e: float | None
) -> list[dict[str, Any]]:
    """The async sweep with these costs; where one is None, the nearest to DEFAULT.

    Of two surrogates with the same costs, the one with more S, then the first by name.
    """
    sweeps = sorted(async_sweeps(predictions), key=len, reverse=True)
    first = [sweep[0] for sweep in sweeps]
    return sweeps[first.index(_nearest(predictions, first, cost_1, cost_e))]


def _nearest(
    predictions: Predictions,
    candidates: list[dict[str, Any]],
    cost_1: float | None,
    cost_e: float | None,
) -> dict[str, Any]:
    """The candidate with these costs; where one is None, the nearest to DEFAULT, ties to first."""
    wanted = (cost_1, cost_e)
    matching = [
        s
        for s in candidates
        if all(w is None or abs(w - c) < 1e-9 for w, c in zip(wanted, _costs(s), strict=True))
    ]
    if not matching:
        there = ", ".join(f"{s['cost_1']:g}:{s['cost_e']:g}" for s in candidates)
        experiment.fail(f"{predictions.source}: no such setting; cost_1:cost_e are {there}")
    return min(
        matching, key=lambda s: sum(abs(d - c) for d, c in zip(DEFAULT, _costs(s), strict=True))
    )


def by_cost_1(settings: list[dict[str, Any]]) -> dict[float, list[dict[str, Any]]]:
    """Settings grouped by c_1, order kept."""
    groups = defaultdict(list)
    for s in settings:
        groups[s["cost_1"]].append(s)
    return dict(groups)


def in_words(setting: dict[str, Any]) -> str:
    """The (S, surrogate) of a setting: "S = 1, stage_switching surrogate"."""
    return f"{setting_name(setting['async_freq'])}, {setting['surrogate']} surrogate"


def _costs(setting: dict[str, Any]) -> tuple[float, float]:
    return setting["cost_1"], setting["cost_e"]
