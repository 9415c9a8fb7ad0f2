"""Test pictures that one rejector kept on the device, and that it sent to the edge.

    python -m figures.examples results/runs/cifar10 --cost_1 1.25 --cost_e 0.25

Above each picture its true class, below it what both nets say: green and a tick where right,
orange and a cross where wrong; bold is the answer that counts. The pictures are the first of each
side, not chosen.
"""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from deferral import rules
from deferral.cascade import evenly
from deferral.predictions import Predictions
from figures import settings, style
from figures.command import NotDrawn, command

COLUMNS, ROWS = 7, 2  # pictures of each side, at most
HEAD, SIDE, CELL, PICTURE = 0.5, 0.3, 1.38, 0.84  # inches: title, a side's title, cell, picture
TITLES = ("Kept: the local net answers", "Sent: the edge net answers")


def draw(
    predictions: Predictions,
    out: Path,
    name: str,
    cost_1: float | None = None,
    cost_e: float | None = None,
) -> list[Path]:
    """name-examples.pdf and .png; NotDrawn without pictures or rejectors."""
    setting = settings.one_setting(predictions, cost_1, cost_e)
    examples = predictions.examples
    if examples is None:
        raise NotDrawn("no example pictures are in the predictions")
    stop = rules.threshold(predictions.scores[setting["row"], examples.rows], 0)
    sides = [np.flatnonzero(stop == stage) for stage in (0, 1)]
    rows = [min(ROWS, -(-len(side) // COLUMNS)) for side in sides]
    height = HEAD + 2 * SIDE + CELL * sum(rows)
    fig = plt.figure(figsize=(style.WIDTH, height))
    costs = f"$c_1$ = {setting['cost_1']:g}, $c_e$ = {setting['cost_e']:g}"
    about = f"{style.nets(predictions)}\n{costs}, {settings.in_words(setting)}"
    style.head(fig, about, y=1 - 0.06 / height)
    below = height - HEAD  # inches from the bottom: everything under this line is free
    for stage, side in enumerate(sides):
        title = f"{TITLES[stage]} ({len(side)} of {len(stop)} pictures)"
        fig.text(0.01, (below - SIDE / 2) / height, title, va="center", fontweight="bold")
        below -= SIDE
        for i, example in enumerate(evenly(side, ROWS * COLUMNS)):
            row, column = divmod(i, COLUMNS)
            width = style.WIDTH / COLUMNS
            left = column * width + (width - PICTURE) / 2
            bottom = below - row * CELL - 0.2 - PICTURE
            size = PICTURE / style.WIDTH, PICTURE / height
            ax = fig.add_axes((left / style.WIDTH, bottom / height, *size))
            _picture(ax, predictions, examples.rows[example], examples.images[example], stage)
        below -= rows[stage] * CELL
    return style.save(fig, out, f"{name}-examples")


def _picture(
    ax: Axes, predictions: Predictions, row: int, image: np.ndarray, answered_by: int
) -> None:
    """An image [C, H, W] with its true class and both answers; the one that counts is in bold."""
    classes = [str(c) for c in predictions.settings["classes"]]
    ax.set_axis_off()
    if len(image) == 3:
        ax.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    else:
        ax.imshow(image[0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(style.short(classes[predictions.labels[row]]), fontsize=7.5, pad=2.5)
    for stage, net in enumerate(("local", "edge")):
        answer = int(predictions.stage_logits[stage, row].argmax())
        right = answer == predictions.labels[row]
        ax.text(
            0.5,
            -0.04 - 0.15 * stage,
            f"{'✓' if right else '✗'} {net}: {style.short(classes[answer])}",
            transform=ax.transAxes,
            ha="center",
            va="top",
            fontsize=6.3,
            color=style.RIGHT if right else style.WRONG,
            fontweight="bold" if stage == answered_by else "normal",
        )


main = command(__doc__, draw, choose=settings.one_setting)

if __name__ == "__main__":
    main()
