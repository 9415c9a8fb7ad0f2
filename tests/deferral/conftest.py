"""A small valid predictions file for tests to spoil, and reports without a page."""

import json

import numpy as np
import pytest

from deferral.report import __main__ as report


@pytest.fixture
def no_page(monkeypatch):
    """Reports write their JSON alone; the page has ten figures."""
    monkeypatch.setattr(report, "page", lambda *_: "")


@pytest.fixture
def arrays():
    """Arrays of a predictions.npz: 6 val and 8 test rows, 3 classes, 2 rejectors."""
    rng = np.random.default_rng(0)
    n, k = 14, 3
    rejectors = [
        {"stem": f"r{i}", "cost_1": 1.25, "cost_e": 0.25 * i, "async_freq": s}
        | {"surrogate": "stage_switching", "seed": 43}
        for i, s in enumerate((1, 0))
    ]
    settings = {"dataset": "digits", "classes": ["a", "b", "c"], "rejectors": rejectors}
    return {
        "labels": rng.integers(0, k, n),
        "stage_logits": rng.normal(size=(2, n, k)).astype(np.float32),
        "split": np.repeat([0, 1], [6, 8]).astype(np.int8),
        "index": rng.permutation(n),
        "scores": rng.normal(size=(2, n)).astype(np.float32),
        "settings": np.array(json.dumps(settings)),
        "example_index": np.array([13, 6, 9]),
        "example_images": rng.integers(0, 256, (3, 1, 4, 4)).astype(np.uint8),
        "loss_step": np.array([10, 20]),
        "loss_edge": np.array([2, 1], dtype=np.float32),
        "loss_rejector": np.ones((2, 2), dtype=np.float32),
    }


@pytest.fixture
def save(tmp_path):
    """Write arrays to a file; returns its path."""

    def write(arrays):
        path = tmp_path / "digits-predictions.npz"
        np.savez(path, **arrays)
        return path

    return write
