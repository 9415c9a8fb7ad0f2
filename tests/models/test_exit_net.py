"""Gradient equilibrium: every block gets the mean of what its exits ask for."""

import pytest
import torch

from models.msdnet import MSDNet
from models.ranet import RANet
from tests.made import settings_of
from tests.models.test_msdnet import SMALL
from tests.models.test_ranet import SMALL as SMALL_RANET


def make(arch):
    torch.manual_seed(0)
    if arch == "msdnet":
        return MSDNet.from_settings(settings_of("msdnet", **SMALL), 4, 32).double().eval()
    return RANet.from_settings(settings_of("ranet", **SMALL_RANET), 4, 20).double().eval()


@pytest.mark.parametrize(("arch", "size"), [("msdnet", 32), ("ranet", 20)])
def test_equilibrium(arch, size):
    """Gradients in block i: the mean over exits i..E-1 of their losses' gradients; heads' own.

    Every parameter is held to this, through every path: what an MSDNet's finer scales carry on too.
    """
    net = make(arch)
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    factors = torch.randn(net.num_exits, 3, 4, dtype=torch.float64)
    params = dict(net.named_parameters())

    def losses(equilibrium):
        logits = net(images, equilibrium=equilibrium)
        return [(f * c).sum() for f, c in zip(logits, factors, strict=True)]

    single = [
        torch.autograd.grad(loss, list(params.values()), retain_graph=True, materialize_grads=True)
        for loss in losses("none")
    ]
    got = torch.autograd.grad(sum(losses("all")), list(params.values()), allow_unused=True)
    checked = 0
    for j, ((name, _), g) in enumerate(zip(params.items(), got, strict=True)):
        asked = [each[j] for each in single]
        used = [k for k, each in enumerate(asked) if (each != 0).any()]
        if not used:
            continue
        if name.startswith("classifier"):
            expected = asked[used[0]]  # a head serves one exit, and is left alone
            assert len(used) == 1
        else:
            # An MSDNet's finer scales may serve later exits only: their block counts.
            block = int(name.split(".")[1]) if arch == "msdnet" else used[0]
            assert block <= used[0]
            expected = sum(asked) / (net.num_exits - block)
            checked += len(used) > 1
        torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-12)
    assert checked > 10


def test_equilibrium_of_the_coarsest_map():
    """Boosted's release on MSDNet: hooks scale the gradients of the map that the heads see."""
    net, images = make("msdnet"), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    factors = torch.randn(net.num_exits, 3, 4, dtype=torch.float64)
    state, logits = images, []
    for k in range(net.num_exits):
        *finer, coarsest = net.block(k, state)
        for scale in (1 / (net.num_exits - k), net.num_exits - 1 - k):
            coarsest = coarsest.clone()
            coarsest.register_hook(lambda g, scale=scale: g * scale)
            if len(logits) == k:
                logits.append(net.head(k, [coarsest]))
        state = [*finer, coarsest]
    gradients = []
    for outputs in (logits, net(images, equilibrium="coarsest"), net(images, equilibrium="all")):
        loss = sum((f * c).sum() for f, c in zip(outputs, factors, strict=True))
        gradients.append(torch.autograd.grad(loss, list(net.parameters()), allow_unused=True))
    expected, got, of_all = ([g for g in every if g is not None] for every in gradients)
    torch.testing.assert_close(got, expected)
    assert any((a - b).norm() > 0.1 * b.norm() for a, b in zip(of_all, expected, strict=True))


@pytest.mark.parametrize("equilibrium", ["coarsest", "all"])
def test_equilibrium_changes_no_logits(equilibrium):
    net, images = make("msdnet"), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    for a, b in zip(net(images), net(images, equilibrium=equilibrium), strict=True):
        assert torch.equal(a, b)
