"""Accuracy under a bound on the reject rate: four ways to keep it, for one rejector.

    python -m figures.bounded_rate results/runs/cifar10 --cost_1 1.25 --cost_e 0.25

Each rule is fitted on val for bounds q from 0 to 1 and drawn at its reject rate on test: a
threshold on the rejector's score, the release's Bernoulli thinning or topping up of the rejector's
decisions (mean of 20 draws), its sliding window (q = 1, 1/2, 1/3, ...), and random sending.
"""

from pathlib import Path

import numpy as np

from deferral import rules
from deferral.predictions import Predictions
from deferral.risk import accuracy, send_rate
from figures import settings, style
from figures.command import command

SEED, DRAWS = 0, 20  # of the Bernoulli rule, whose points are means over the draws
BOUNDS = np.linspace(0, 1, 21)
WINDOWS = np.array([1, 2, 3, 4, 5, 7, 10, 20])  # samples a query


def draw(
    predictions: Predictions,
    out: Path,
    name: str,
    cost_1: float | None = None,
    cost_e: float | None = None,
) -> list[Path]:
    """name-bounded_rate.pdf and .png; NotDrawn for an edge-only run."""
    setting = settings.one_setting(predictions, cost_1, cost_e)
    curves = bounded(predictions, setting["row"])
    fig, (ax,) = style.panels(1, 1, 3.1)
    for rule, points in curves.items():
        change = {"rejector": {"linestyle": ""}, "random": {"marker": ""}}.get(rule, {})
        look = style.rule(rule, **change)
        ax.plot(*(100 * np.array(points)).T, **look)
    ax.set(xlim=(-2, 102), xlabel="reject rate (%)", ylabel="accuracy (%)")
    costs = f"$c_1$ = {setting['cost_1']:g}, $c_e$ = {setting['cost_e']:g}"
    about = f"{style.tested(predictions)}, {costs}, {settings.in_words(setting)}"
    style.finish(fig, f"{style.nets(predictions)}\n{about}", 3)
    return style.save(fig, out, f"{name}-bounded_rate")


def bounded(predictions: Predictions, row: int) -> dict[str, list[tuple[float, float]]]:
    """(reject rate, accuracy) on test per rule and bound, for the rejector `scores[row]`."""
    val, test = predictions.part("val"), predictions.part("test")
    score_val, score = val.scores[row], test.scores[row]
    decisions = rules.threshold(score, 0)
    own_rate = send_rate(rules.threshold(score_val, 0))
    rng = np.random.default_rng(SEED)

    def point(*stops: np.ndarray) -> tuple[float, float]:
        pairs = [(send_rate(stop), accuracy(test.correct, stop)) for stop in stops]
        rate, right = np.mean(pairs, axis=0)
        return float(rate), float(right)

    def thinned(q: float) -> list[np.ndarray]:
        return [rules.thin_or_top_up(decisions, own_rate, q, rng) for _ in range(DRAWS)]

    cuts = [rules.rate_threshold(score_val, q) for q in BOUNDS]
    return {
        "random": [(float(net), float(test.correct[net].mean())) for net in (0, 1)],
        "empirical": [point(rules.threshold(score, t)) for t in cuts],
        "bernoulli": [point(*thinned(q)) for q in BOUNDS],
        "sliding_window": [point(rules.sliding_window(decisions, 1 / n)) for n in WINDOWS],
        "rejector": [point(decisions)],
    }


main = command(__doc__, draw, choose=settings.one_setting)

if __name__ == "__main__":
    main()
