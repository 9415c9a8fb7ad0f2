"""Each method's numbers over the rounds of a study, and its difference to random labels.

Comparisons are paired: the same seeds, rounds and test samples (Tang and Huang report one seed,
which cannot separate methods).
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from active_learning.over_seeds import holm, paired_p, t_interval
from active_learning.results import REFERENCE, Study, comparable
from active_learning.round_results import MEASURES
from deferral import bootstrap
from figures.command import NotDrawn

DRAWS, SEED = 2000, 0  # of the bootstrap
REFERENCES = (REFERENCE, "margin")


def summarise(study: Study) -> dict[str, Any]:
    """Every number of the study, over the rounds that all methods have in all their seeds.

    methods[M] has `seeds`; each measure's mean over rounds, by seed; `last`, top-1 of the last
    round; mean seconds; `published` (NaN if there is none); `versus_random` and `versus_margin`
    (`compare`); and `runs`, the record of every seed and round.
    """
    if study.summary is not None:
        return study.summary
    rounds = study.rounds(study.records)
    if not rounds:
        raise NotDrawn("there is no round that all methods have in all their seeds")
    published = comparable(study, rounds)
    means = published[published["round"].isna()].set_index("method").top1
    in_rounds = study.table[study.table["round"].isin(rounds)]
    seconds = in_rounds.groupby("method")[["train_seconds", "select_seconds"]].mean()
    methods = {}
    for method, runs in study.records.items():
        seeds = list(runs)
        methods[method] = {
            "seeds": seeds,
            **{
                measure: study.values(method, measure, seeds, rounds).mean(1).tolist()
                for measure in study.measures
            },
            "last": study.values(method, "top1", seeds, rounds[-1:])[:, 0].tolist(),
            **seconds.loc[method].to_dict(),
            "published": float(means.get(method, math.nan)),
            **{f"versus_{other}": compare(study, method, rounds, other) for other in REFERENCES},
            "runs": runs,
        }
    for other, measure in product(REFERENCES, study.measures):
        versus = [m[f"versus_{other}"] for m in methods.values()]
        tests = [found[measure] for found in versus if found]
        for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = p
    return {
        "dataset": study.dataset,
        "model_num": study.model_num,
        "targets": study.targets,
        "unseen_nets": study.unseen,
        "test_samples": study.test_samples,
        "cascade": study.cascade,
        "rounds": rounds,
        "labelled": study.labelled,
        "left_out": study.left_out(),
        "draws": DRAWS,
        "bootstrap_seed": SEED,
        "made_by": study.made_by,
        "methods": methods,
    }


def compare(
    study: Study, method: str, rounds: list[int], reference: str = REFERENCE
) -> dict[str, dict[str, Any]]:
    """Every measure of a method minus the reference's over their common seeds; {} without any.

    Round 0 is left out: its labels are the same for all methods, so it would only make differences
    smaller. A sample's difference is the mean over rounds. The bootstrap resamples seeds and
    samples (crossed, see `deferral.bootstrap.resample`); the t test uses the seeds' differences
    only.
    """
    rounds, seeds = [r for r in rounds if r], study.seeds_with_reference(method, reference)
    if method == reference or not rounds or not seeds:
        return {}
    measures = study.measures
    # Sums of whole numbers first, one division last: equal answers give exactly 0.
    gaps = np.zeros((len(seeds), study.test_samples, len(measures)))
    for s, seed in enumerate(seeds):
        for r in rounds:
            ours, other = (study.answers[name, seed, r] for name in (method, reference))
            for j, measure in enumerate(measures):
                gaps[s, :, j] += ours.sums(measure) - other.sums(measure)
    first = study.answers[method, seeds[0], rounds[0]]
    gaps /= [len(rounds) * first.nets(measure) for measure in measures]
    low, high = bootstrap.interval(bootstrap.resample(gaps, DRAWS, SEED))
    by_seed = gaps.mean(1)
    mean, half = t_interval(by_seed)
    return {
        measure: {
            "seeds": seeds,
            "by_seed": by_seed[:, j].tolist(),
            "difference": float(mean[j]),
            "low": float(low[j]),
            "high": float(high[j]),
            # `verdict` is about risks, where lower is better.
            "verdict": bootstrap.verdict(-high[j], -low[j])
            if MEASURES[measure]
            else bootstrap.verdict(low[j], high[j]),
            "t_low": float(mean[j] - half[j]),
            "t_high": float(mean[j] + half[j]),
            "p": paired_p(by_seed[:, j]),
        }
        for j, measure in enumerate(measures)
    }
