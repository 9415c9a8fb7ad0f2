"""Losses of exits against their equations, written out sample by sample."""

import math

import pytest
import torch

from deferral.exits import exit_counts
from deferral.exits import shares as shares_of_exits
from losses.early_exit import (
    assign_exits,
    boosted_logits,
    boosted_losses,
    doubts,
    exit_losses,
)


def logits(seed=0, exits=3, batch=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    each = torch.randn(exits, batch, classes, generator=generator, dtype=torch.float64)
    return list(each.unbind()), torch.tensor([0, 3, 1, 1, 2])


def cross_entropy(f, y, smoothing=0.0):
    """-sum_k q_k log p_k with q the smoothed target."""
    total = sum(math.exp(v) for v in f)
    q = [(1 - smoothing) * (k == y) + smoothing / len(f) for k in range(len(f))]
    return -sum(qk * math.log(math.exp(v) / total) for qk, v in zip(q, f, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_exit_losses(smoothing):
    f, y = logits()
    got = exit_losses(f, y, smoothing)
    assert got.shape == (5, 3)
    for i in range(5):
        for k in range(3):
            expected = cross_entropy(f[k][i].tolist(), int(y[i]), smoothing)
            assert got[i, k].item() == pytest.approx(expected, abs=1e-12)


def test_low_precision_logits_are_lifted():
    f, y = logits()
    half = [x.to(torch.bfloat16) for x in f]
    assert exit_losses(half, y).dtype == torch.float32
    torch.testing.assert_close(exit_losses(half, y), exit_losses([x.float() for x in half], y))
    assert doubts(half).dtype == torch.float32


def test_boosted_predictions():
    """G_1 = f_1, G_2 = f_2 + t f_1, G_3 = f_3 + t f_2 + t^2 f_1."""
    f, _ = logits()
    got = boosted_logits(f, 0.5)
    torch.testing.assert_close(got[0], f[0])
    torch.testing.assert_close(got[1], f[1] + 0.5 * f[0])
    torch.testing.assert_close(got[2], f[2] + 0.5 * f[1] + 0.25 * f[0])
    assert torch.equal(boosted_logits(f, 0.0), torch.stack(f))


def test_boosted_loss():
    """The loss of G_k, whose gradient goes to f_k alone: softmax(G_k) - onehot(y)."""
    f, y = logits()
    f = [x.requires_grad_() for x in f]
    ensembles = boosted_logits(f, 0.5).detach()
    losses = boosted_losses(f, y, 0.5)
    for k in range(3):
        for i in range(5):
            expected = cross_entropy(ensembles[k][i].tolist(), int(y[i]))
            assert losses[i, k].item() == pytest.approx(expected, abs=1e-12)
    losses.sum().backward()
    target = torch.nn.functional.one_hot(y, 4)
    for k in range(3):
        torch.testing.assert_close(f[k].grad, ensembles[k].softmax(-1) - target)


def test_boosted_on_a_finite_distribution():
    """Two kinds of samples, P(y=0 | x) 0.9 and 0.2: minimised, every ensemble tells them.

    The first exit already does; the later ones then add only (1 - t) of its log-odds.
    """
    p = torch.tensor([0.9, 0.2], dtype=torch.float64)
    f = torch.zeros(3, 2, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([f], lr=0.5, max_iter=300, tolerance_grad=1e-12)
    labels = torch.tensor([0, 0]), torch.tensor([1, 1])

    def closure():
        optimizer.zero_grad()
        both = [boosted_losses(list(f), y, 0.5).sum(1) for y in labels]
        loss = (p * both[0] + (1 - p) * both[1]).sum()
        loss.backward()
        return loss

    for _ in range(40):
        optimizer.step(closure)
    odds = torch.log(p / (1 - p))
    told = boosted_logits(list(f), 0.5).detach()
    torch.testing.assert_close((told[..., 0] - told[..., 1]), odds.expand(3, 2), atol=1e-4, rtol=0)
    own = (f[..., 0] - f[..., 1]).detach()
    torch.testing.assert_close(own[1], 0.5 * odds, atol=1e-4, rtol=0)
    torch.testing.assert_close(own[2], 0.5 * odds, atol=1e-4, rtol=0)


def test_doubts():
    f, _ = logits()
    got = doubts(f)
    for i in range(5):
        for k in range(3):
            e = [math.exp(v) for v in f[k][i].tolist()]
            assert got[i, k].item() == pytest.approx(1 - max(e) / sum(e), abs=1e-12)


def test_shares():
    got = shares_of_exits(0.75, 4)
    powers = [0.75, 0.75**2, 0.75**3, 0.75**4]
    assert got.tolist() == pytest.approx([x / sum(powers) for x in powers], abs=1e-15)
    assert shares_of_exits(1.0, 5).tolist() == pytest.approx([0.2] * 5)


def assign_slowly(doubt, shares):
    batch, exits = doubt.shape
    taken = {}
    for k in range(exits - 1):
        free = sorted((i for i in range(batch) if i not in taken), key=lambda i: doubt[i, k].item())
        for i in free[: math.floor(batch * shares[k] + 1e-9)]:
            taken[i] = k
    return [taken.get(i, exits - 1) for i in range(batch)]


@pytest.mark.parametrize("batch", [1, 2, 7, 32])
@pytest.mark.parametrize("q", [0.05, 0.75, 1.0, 1.9])
def test_assigned_exits(batch, q):
    """Against the walk over exits, with many equal doubts."""
    generator = torch.Generator().manual_seed(batch)
    for exits in (1, 3, 5):
        doubt = torch.randint(0, 6, (batch, exits), generator=generator) / 5
        shares = shares_of_exits(q, exits)
        counts = exit_counts(batch, shares).tolist()
        got = assign_exits(doubt, counts)
        assert got.tolist() == assign_slowly(doubt, shares.tolist())
    assert torch.equal(assign_exits(doubt, counts), got)  # its input is left as it was
