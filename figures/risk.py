"""Test risk against the cost of asking, c_e: a panel per c_1, the rejector beside simpler rules.

    python -m figures.risk results/runs/cifar10

Thresholds are fitted on val. The random rule asks as often as the rejector. The oracle sees the
labels: it bounds the risk of any rule with these two nets.
"""

from pathlib import Path

from deferral.catalogue import SUMMARY
from deferral.predictions import Predictions
from deferral.summary import summarise
from figures import settings, style
from figures.command import command


def draw(predictions: Predictions, out: Path, name: str) -> list[Path]:
    """name-risk.pdf and .png; NotDrawn for an edge-only run."""
    sweep = settings.cost_sweep(predictions)
    summary = summarise(predictions)
    groups = settings.by_cost_1(sweep)
    fig, axes = style.panels(len(groups), 3, 2.75)
    for ax, (cost_1, group) in zip(axes, groups.items(), strict=True):
        cost_e = [s["cost_e"] for s in group]
        for rule in SUMMARY:
            risks = [summary[s["row"]][f"risk_{rule.key}"] for s in group]
            ax.plot(cost_e, risks, **style.rule(rule.name))
            if len(group) == 1 and rule.name in ("never", "always"):
                ax.axhline(risks[0], **style.rule(rule.name, marker="", label="_"))
        ax.set_title(f"$c_1$ = {cost_1:g}")
        style.cost_axis(ax, cost_e)
        ax.set_ylim(bottom=0)
    for ax in axes[::3]:
        ax.set_ylabel("risk on test data")
    _same_height(axes)
    about = f"{style.nets(predictions)}\n{style.tested(predictions)}, {settings.in_words(sweep[0])}"
    style.finish(fig, about, 3)
    return style.save(fig, out, f"{name}-risk")


def _same_height(axes: list) -> None:
    top = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(0, top)


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
