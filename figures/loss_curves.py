"""Training loss L1 + L2 against step for every S (sync, S = 100, S = |D|), one panel a cost pair.

    python -m figures.loss_curves results/runs/cifar10

L1 is the edge's cross-entropy, L2 the rejector's surrogate. A point is the mean over a block of
steps, so that curves of 50 000 steps are smooth and files small.
"""

from pathlib import Path

import numpy as np
from matplotlib.ticker import EngFormatter

from deferral.predictions import Predictions
from figures import settings, style
from figures.command import NotDrawn, command

MAX_POINTS = 60


def draw(predictions: Predictions, out: Path, name: str) -> list[Path]:
    """name-loss_curves.pdf and .png; NotDrawn without losses, or without two S at one cost pair."""
    losses = predictions.losses
    if losses is None:
        raise NotDrawn("no training losses are in the predictions")
    sweeps = settings.async_sweeps(predictions)
    total = losses.edge[:, None] + losses.rejector
    step, total, width = blocks(losses.step, total, MAX_POINTS)
    fig, axes = style.panels(len(sweeps), 3, 2.4)
    surrogates = {sweep[0]["surrogate"] for sweep in sweeps}
    for ax, sweep in zip(axes, sweeps, strict=True):
        for s in sweep:
            ax.plot(step, total[:, s["row"]], **style.refresh(s["async_freq"], marker=""))
        costs = f"$c_1$ = {sweep[0]['cost_1']:g}, $c_e$ = {sweep[0]['cost_e']:g}"
        ax.set_title(costs + (f", {sweep[0]['surrogate']}" if len(surrogates) > 1 else ""))
        ax.set_xlabel("training step")
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    for ax in axes[::3]:
        ax.set_ylabel("training loss, $L_1 + L_2$")
    smooth = f"\neach point the mean of {width} logged steps" if width > 1 else ""
    drawn = {s["async_freq"] for sweep in sweeps for s in sweep}
    style.finish(fig, f"{style.nets(predictions)}{smooth}", len(drawn) if len(drawn) < 6 else 3)
    return style.save(fig, out, f"{name}-loss_curves")


def blocks(step: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Means over equal blocks of consecutive steps, at most `most` of them, and the block's length.

    step [T], values [T, R] in any order; the last block may be shorter and is divided by its own
    length.
    """
    order = np.argsort(step, kind="stable")
    width = -(-len(step) // most)
    starts = np.arange(0, len(step), width)
    count = np.diff([*starts, len(step)])
    mean_step = np.add.reduceat(step[order].astype(np.float64), starts) / count
    mean = np.add.reduceat(values[order].astype(np.float64), starts, axis=0) / count[:, None]
    return mean_step, mean, width


main = command(__doc__, draw)

if __name__ == "__main__":
    main()
