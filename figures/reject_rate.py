"""Accuracy against reject rate, and reject rate against c_e: a row of two panels per c_1.

    python -m figures.reject_rate results/runs/cifar10

One dot is one rejector setting, measured on test. A confidence curve is a threshold on the local
net's max softmax, say, fitted on val to rates from 0 to 1 (left) or to the costs (right); the
random line is the expectation when samples are sent at random.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from deferral import rules
from deferral.catalogue import SUMMARY
from deferral.predictions import Predictions
from deferral.risk import accuracy, send_rate
from deferral.summary import baselines, summarise
from figures import settings, style
from figures.command import command

Doubt = Callable[[np.ndarray], np.ndarray]


def draw(predictions: Predictions, out: Path, name: str) -> list[Path]:
    """name-reject_rate.pdf and .png; NotDrawn for an edge-only run."""
    sweep = settings.cost_sweep(predictions)
    summary = summarise(predictions)
    groups = settings.by_cost_1(sweep)
    fig, axes = style.panels(2 * len(groups), 2, 2.5)
    for i, (cost_1, group) in enumerate(groups.items()):
        left, right = axes[2 * i : 2 * i + 2]
        rejectors = [summary[s["row"]] for s in group]
        decided = by_cost(predictions, group)
        _draw_accuracy(left, predictions, rejectors, decided["oracle"])
        _draw_rates(right, rejectors, decided)
        left.set_title(f"$c_1$ = {cost_1:g}", loc="left")
        if i < len(groups) - 1:
            for ax in (left, right):
                ax.set_xlabel("")
    about = f"{style.nets(predictions)}\n{style.tested(predictions)}, {settings.in_words(sweep[0])}"
    style.finish(fig, about, 3)
    return style.save(fig, out, f"{name}-reject_rate")


def by_cost(predictions: Predictions, group: list[dict]) -> dict[str, list[tuple[float, float]]]:
    """(reject rate, accuracy) on test of every rule without a rejector at each cost pair."""
    correct, simple = predictions.part("test").correct, baselines(predictions)
    decided: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for setting in group:
        for key, stop in simple.stops(setting["cost_1"], setting["cost_e"]).items():
            decided[key].append((send_rate(stop), accuracy(correct, stop)))
    return decided


def confidence_curve(predictions: Predictions, doubt: Doubt) -> list[tuple[float, float]]:
    """(reject rate, accuracy) on test of thresholds on `doubt` that send 0, 1, ... 100 % of val."""
    val, test = predictions.part("val"), predictions.part("test")
    doubt_val, doubt_test = (doubt(part.stage_logits[0]) for part in (val, test))
    stops = [
        rules.threshold(doubt_test, rules.rate_threshold(doubt_val, rate))
        for rate in np.linspace(0, 1, 101)
    ]
    return [(send_rate(stop), accuracy(test.correct, stop)) for stop in stops]


def _draw_accuracy(ax: Axes, predictions: Predictions, rejectors: list[dict], oracle: list) -> None:
    local, edge = rejectors[0]["local_accuracy"], rejectors[0]["edge_accuracy"]
    oracle_points = 100 * np.array(sorted(set(oracle)))
    ax.plot([0, 100], [100 * local, 100 * edge], **style.rule("random", marker=""))
    for rule in SUMMARY:
        if rule.doubt is not None:
            curve = 100 * np.array(confidence_curve(predictions, rule.doubt))
            ax.plot(*curve.T, **style.rule(rule.name, marker=""))
    ax.plot(*oracle_points.T, **style.rule("oracle", linestyle=""))
    ax.plot(0, 100 * local, **style.rule("never", marker="X", linestyle="", markersize=6))
    ax.plot(100, 100 * edge, **style.rule("always", marker="X", linestyle="", markersize=6))
    points = 100 * np.array([(row["reject_rate"], row["accuracy"]) for row in rejectors])
    ax.plot(*points.T, **style.rule("rejector", linestyle=""))
    ax.set(xlim=(-3, 103), xlabel="reject rate (%)", ylabel="accuracy (%)")


def _draw_rates(ax: Axes, rejectors: list[dict], decided: dict[str, list]) -> None:
    cost_e = [row["cost_e"] for row in rejectors]
    for rule in SUMMARY:
        if rule.doubt is not None or rule.name == "oracle":
            ax.plot(cost_e, [100 * rate for rate, _ in decided[rule.key]], **style.rule(rule.name))
    ax.plot(cost_e, [100 * row["reject_rate"] for row in rejectors], **style.rule("rejector"))
    ax.set(ylim=(-3, 103), ylabel="reject rate (%)")
    style.cost_axis(ax, cost_e)


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
