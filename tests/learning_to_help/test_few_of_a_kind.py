"""Every fit on who is right works where all are right, none is, or few are of one kind."""

import numpy as np
import pytest
import torch

from deferral import estimates
from deferral.predictions import Predictions
from deferral.stopping import Stopping
from learning_to_help import amortized
from learning_to_help.amortized import fit_per_cost
from losses.surrogates import SURROGATES
from models.amortized import AmortizedRejector

N = 60
RIGHT = {
    "all right": np.ones(N, bool),
    "all wrong": np.zeros(N, bool),
    "one wrong": np.arange(N) != 30,
    "one right": np.arange(N) == 30,
    "every fifth wrong": np.arange(N) % 5 != 0,
    "every fifth right": np.arange(N) % 5 == 0,
    "the first ten wrong": np.arange(N) >= 10,
    "one sample": np.ones(1, bool),
}


def logits_of(right, stages):
    """[stages, N, 3] and labels [N]; every stage is right where `right` is."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, len(right))
    logits = rng.normal(size=(stages, len(right), 3)).astype(np.float32)
    rows = np.arange(len(right))
    logits[:, rows, labels] = np.where(right, logits.max(2) + 1, logits.min(2) - 1)
    return logits, labels


def predictions(right, stages):
    logits, labels = logits_of(right, stages)
    n = len(right)
    return Predictions(labels, logits, np.ones(n, int), np.arange(n), np.zeros((0, n)), {})


def post_hoc(right):
    both = predictions(right, 2)
    return np.concatenate(Stopping(both, both).estimated[-1], 1)


def stopping(right):
    both = predictions(right, 4)
    fitted = Stopping(both, both)
    stops = fitted.decide(np.array([0, 0.1, 0.2, 0.4]), np.array([1, 1, 1, 1.2]))
    assert all(set(part.exit) <= {0, 1, 2} for part in stops)
    return np.concatenate([p.ravel() for pair in fitted.estimated for p in pair])


def combiner(right):
    torch.manual_seed(0)
    net = AmortizedRejector("features", 3, 4, hidden=4)
    x = torch.randn(len(right), net.combiner.in_features)
    both = torch.from_numpy(np.stack([right, right], 1)).float()
    amortized.fit_combiner(net, x, both)
    amortized.calibrate(net, net.combiner(x).detach(), both)
    return net.combiner(x).sigmoid().detach().numpy()


def per_cost(right):
    (local, edge), labels = logits_of(right, 2)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(len(right), 5))).float()
    weight, bias = fit_per_cost(
        x, *map(torch.from_numpy, (local, edge, labels)),
        [*SURROGATES], [(1.0, 0.1), (1.25, 0.25)],
    )  # fmt: skip
    return torch.sigmoid(x @ weight.T + bias).numpy()


@pytest.fixture(autouse=True)
def _few_strengths(monkeypatch):
    for module in (amortized, estimates):
        monkeypatch.setattr(module, "STRENGTHS", (0.01, 1.0))


@pytest.mark.parametrize("fit", [post_hoc, stopping, combiner, per_cost])
@pytest.mark.parametrize("name", RIGHT)
def test_fits_on_right_and_wrong(fit, name):
    p = fit(RIGHT[name])
    assert np.isfinite(p).all()
    assert ((p >= 0) & (p <= 1)).all()
    if name in ("all right", "all wrong") and fit is not per_cost:
        # Laplace's rule, on all of the samples or all but a fold: sure, but never certain.
        worst = (1 - p if name == "all right" else p).max()
        assert 0 < worst <= 1 / (0.8 * N + 2) + 1e-6


def test_fewer_than_a_fold_each_is_a_constant():
    p = combiner(RIGHT["one wrong"])
    np.testing.assert_allclose(p, 60 / 62, rtol=1e-5)
