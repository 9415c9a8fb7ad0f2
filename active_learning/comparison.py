"""Each method's numbers over the rounds of a study, and its difference to random.

Labels at random are what any way to choose them must beat, and one seed cannot tell (Tang and Huang
report one). So everything is paired: the same seeds, rounds and test samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from active_learning.over_seeds import holm, paired_p, t_interval
from active_learning.results import REFERENCE, Study, comparable
from active_learning.round_results import CASCADE, MEASURES, Round
from deferral import bootstrap
from figures.command import NotDrawn

DRAWS, SEED = 2000, 0  # of the bootstrap


def summarise(study: Study) -> dict[str, Any]:
    """Every number of the study, over the rounds that all methods have in all their seeds.

    methods[M] has `seeds`; for each measure its value by seed, mean over rounds; `last`; the mean
    seconds; `published`; `versus_random` (`compare`); and `runs`, what every seed and round gave.
    """
    rounds = study.rounds(study.methods)
    if not rounds:
        raise NotDrawn("there is no round that all methods have in all their seeds")
    told = {r["method"]: r["top1"] for r in comparable(study, rounds) if r["round"] is None}
    methods = {}
    for method, found in study.methods.items():
        seeds = list(found)
        means = {m: study.values(method, m, seeds, rounds).mean(1) for m in study.measures}
        methods[method] = {
            "seeds": seeds,
            **{m: values.tolist() for m, values in means.items()},
            "last": study.values(method, "top1", seeds, rounds[-1:])[:, 0].tolist(),
            **{k: _mean_seconds(found, rounds, k) for k in ("train_seconds", "select_seconds")},
            "published": told.get(method),
            "versus_random": compare(study, method, rounds),
            "runs": {s: {r: _one(found[s][r]) for r in sorted(found[s])} for s in seeds},
        }
    for measure in study.measures:
        tested = [m["versus_random"][measure] for m in methods.values() if m["versus_random"]]
        for one, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
            one["p_holm"] = p
    first = study.first
    return {
        "dataset": study.dataset,
        "model_num": study.model_num,
        "targets": list(first.targets),
        "unseen_nets": list(first.unseen),
        "test_samples": len(first.labels),
        "cascade": {k: first.cascade[k] for k in ("local", "edge", "cost_1", "cost_e")},
        "rounds": rounds,
        "labelled": study.labelled,
        "left_out": study.left_out(),
        "draws": DRAWS,
        "bootstrap_seed": SEED,
        "made_by": study.made_by.strip(),
        "methods": methods,
    }


def compare(study: Study, method: str, rounds: list[int]) -> dict[str, dict[str, Any]]:
    """Every measure of a method minus random's, over the seeds that both have; {} if there is none.

    Round 0 is left out: its labels are the same, so it would only make differences smaller. A
    sample's difference is the mean over rounds; the bootstrap draws seeds and samples (crossed, see
    `deferral.bootstrap.resample`), the t test knows the seeds' differences alone.
    """
    rounds, seeds = [r for r in rounds if r], study.seeds_with_reference(method)
    if method == REFERENCE or not rounds or not seeds:
        return {}
    ours, theirs = study.methods[method], study.methods[REFERENCE]
    measures = study.measures
    gaps = np.zeros((len(seeds), len(study.first.labels), len(measures)))
    for s, seed in enumerate(seeds):
        for j, measure in enumerate(measures):
            for r in rounds:
                gaps[s, :, j] += ours[seed][r].sums(measure) - theirs[seed][r].sums(measure)
    gaps /= [len(rounds) * study.first.nets(measure) for measure in measures]
    low, high = bootstrap.interval(bootstrap.resample(gaps, DRAWS, SEED))
    by_seed = gaps.mean(1)
    mean, half = t_interval(by_seed)
    found = {}
    for j, measure in enumerate(measures):
        # The bootstrap's words are about risks, of which less is better.
        ends = (-high[j], -low[j]) if MEASURES[measure] else (low[j], high[j])
        found[measure] = {
            "seeds": seeds,
            "by_seed": by_seed[:, j].tolist(),
            "difference": float(mean[j]),
            "low": float(low[j]),
            "high": float(high[j]),
            "verdict": bootstrap.verdict(*ends),
            "t_low": float(mean[j] - half[j]),
            "t_high": float(mean[j] + half[j]),
            "p": paired_p(by_seed[:, j]),
        }
    return found


def _one(found: Round) -> dict[str, Any]:
    """What one round gave."""
    count = len(found.targets)
    return {
        "labelled": found.labelled,
        "top1": found.top1[:count].tolist(),
        "top5": found.top5[:count].tolist(),
        "unseen_top1": found.top1[count:].tolist(),
        **{k: found.cascade[k] for k in CASCADE},
        "train_seconds": found.train_seconds,
        "select_seconds": found.select_seconds,
    }


def _mean_seconds(found: dict[int, dict[int, Round]], rounds: list[int], key: str) -> float:
    """Over seeds and the rounds that took any; nan where none did."""
    seconds = [getattr(of_seed[r], key) for of_seed in found.values() for r in rounds]
    known = [s for s in seconds if not math.isnan(s)]
    return sum(known) / len(known) if known else math.nan
