"""A made-up run with the structure of a real one: hard samples, and rejectors that see hardness."""

import json

import numpy as np
import pytest

from figures import style

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def synthetic(
    path,
    *,
    cost_1=(1.0, 1.25),
    cost_e=(0.0, 0.1, 0.2, 0.3, 0.4),
    sweep_s=1,
    async_costs=((1.25, 0.25),),
    async_freq=(1, 100, 1000, 0),
    surrogates=("stage_switching",),
    n=(150, 250),
    steps=300,
    pictures=40,
    channels=3,
    seed=0,
    dataset="cifar10",
):
    """Write predictions.npz; returns its arrays, settings as a dict."""
    rng = np.random.default_rng(seed)
    total, k = sum(n), len(CLASSES)
    labels = rng.integers(0, k, total)
    hard = rng.normal(size=total)
    lift = np.stack([2.7 - 1.1 * hard, 3.8 - 0.8 * hard + 0.6 * rng.normal(size=total)])
    logits = 1.3 * rng.normal(size=(2, total, k))
    logits += lift[:, :, None] * (np.arange(k) == labels[:, None])
    wrong = logits.argmax(-1) != labels
    pairs = [(a, b, sweep_s) for a in cost_1 for b in cost_e]
    pairs += [(a, b, s) for a, b in async_costs for s in async_freq if (a, b, s) not in pairs]
    settings, scores = [], []
    seen = 0.25 * wrong + 0.55 / (1 + np.exp(-1.5 * hard)) + 0.16 * rng.normal(size=(2, total))
    for surrogate in surrogates:
        for a, b, s in pairs:
            stem = f"{dataset}-edgenet-async-{s}-cost_1-{a:g}-cost_e-{b:g}"
            settings.append(
                {
                    "stem": stem,
                    "cost_1": a,
                    "cost_e": b,
                    "async_freq": s,
                    "surrogate": surrogate,
                    "seed": 43,
                }
            )
            late = 0.05 * rng.normal(size=total) * (s != 1)
            scores.append(4 * (seen[0] - b - a * seen[1] + late))
    step = np.arange(steps) * 10
    decay = np.exp(-3 * step / max(1, step[-1:].sum()))
    slow = [
        0.02 if isinstance(s["async_freq"], str) else 0.06 * np.log10(s["async_freq"] or 1e4)
        for s in settings
    ]
    arrays = {
        "labels": labels,
        "stage_logits": logits.astype(np.float32),
        "split": np.repeat([0, 1], n).astype(np.int8),
        "index": rng.permutation(total),
        "scores": np.array(scores, dtype=np.float32).reshape(len(settings), total),
        "loss_step": step,
        "loss_edge": (0.7 + 1.6 * decay + 0.1 * rng.normal(size=steps)).astype(np.float32),
        "loss_rejector": (
            0.4
            + 0.3 * decay[:, None]
            + np.array(slow) * (1 - decay[:, None] / 2)
            + 0.05 * rng.normal(size=(steps, len(settings)))
        ).astype(np.float32),
    }
    if pictures:
        y, x = np.mgrid[:32, :32]
        rows = n[0] + rng.choice(n[1], pictures, replace=False)
        waves = 2 * labels[rows, None, None, None] + np.arange(channels)[None, :, None, None]
        image = 127 + 90 * np.sin((x * (1 + waves % 5) + y * (1 + waves // 5)) / 9)
        arrays["example_index"] = rows
        arrays["example_images"] = image.astype(np.uint8)
    about = {
        "dataset": dataset,
        "classes": CLASSES,
        "edge": "alexnet",
        "local": "lenet5",
        "seed": 43,
        "commit": "0" * 40,
        "hardware": "a test",
        "rejectors": settings,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, settings=json.dumps(about), **arrays)
    return arrays | {"settings": about}


@pytest.fixture(autouse=True)
def small_pngs(monkeypatch):
    """PNG files of few pixels: rendering is most of a figure's time."""
    monkeypatch.setitem(style.plt.rcParams, "savefig.dpi", 40)


@pytest.fixture
def finished(monkeypatch):
    """(figure, title) of every figure, laid out but not saved: rendering takes longest."""
    figures = []

    def save(fig, out, name):
        fig.draw_without_rendering()
        return []

    finish = style.finish
    monkeypatch.setattr(style, "save", save)
    monkeypatch.setattr(
        style, "finish", lambda fig, title, n: figures.append((fig, title)) or finish(fig, title, n)
    )
    return figures


@pytest.fixture
def write():
    """The function that writes a made-up predictions file."""
    return synthetic


@pytest.fixture
def run_dir(tmp_path):
    """A run with a cost sweep, an S sweep, losses and pictures."""
    synthetic(tmp_path / "run" / "cifar10-predictions.npz")
    return tmp_path / "run"
