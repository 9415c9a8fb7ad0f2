"""MSDNet: published counts and names, logits of fixed weights, scales, transitions, sizes."""

import hashlib

import pytest
import torch
from torch import nn

from models.cost import exit_multiply_adds, parameters
from models.exit_net import keep
from models.msdnet import MSDNet
from tests.made import fill_by_formula, one_line_error, settings_of

IMAGENET = {
    "n_channels": 32,
    "growth_rate": 16,
    "gr_factor": "1-2-4-4",
    "bn_factor": "1-2-4-4",
}
SMALL = {"n_blocks": 3, "base": 1, "step": 1, "n_channels": 4, "growth_rate": 2}


def new(num_classes=5, size=32, **changes):
    """A network whose batch norm has seen something."""
    torch.manual_seed(0)
    net = MSDNet.from_settings(settings_of("msdnet", **changes), num_classes, size)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.2)
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return net.eval()


def digest(net):
    """16 hex digits of the SHA-256 of all names and shapes, sorted."""
    lines = sorted(
        f"{name} {'x'.join(map(str, t.shape)) or '-'}" for name, t in net.state_dict().items()
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


# Parameters, multiply-adds up to each exit, and the digest of the published names and shapes.
PUBLISHED = {
    "cifar10, 5 blocks": (
        {}, 10, 32, 1_892_990,
        [14955776, 24081920, 32377600, 39532544, 47373568],
        "c35d3418d1f44cb9",
    ),
    "cifar100, 10 blocks": (
        {"n_blocks": 10}, 100, 32, 4_955_644,
        [14967296, 25259008, 37467648, 51667968, 61744640, 73590784, 87206400, 99483648,
         109548032, 121086976],
        "881c0eb01013a700",
    ),
    "cifar100, lin_grow, 6 blocks": (
        {"n_blocks": 6, "base": 1, "step": 1, "step_mode": "lin_grow"}, 100, 32, 2_852_392,
        [6792704, 14209024, 27041280, 46184448, 66947584, 88562688],
        "1c17fb0a2173ee3f",
    ),
    "imagenet, step 4": (
        IMAGENET | {"base": 4, "step": 4}, 1000, 224, 23_958_440,
        [337214464, 681654272, 1003659008, 1249626240, 1355606016],
        "da475833726d2894",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    changes, classes, size, count, cost, names = PUBLISHED[name]
    with torch.device("meta"):  # shapes only: nothing is computed
        net = MSDNet.from_settings(settings_of("msdnet", **changes), classes, size)
        assert exit_multiply_adds(net, torch.zeros(1, 3, size, size)) == cost
    assert parameters(net) == count
    assert digest(net) == names


def test_logits_of_fixed_weights():
    """The order of the concatenated features is part of the format of published weights.

    Layers written out from the parameter names gave the same logits of class 0 at each exit.
    """
    net = fill_by_formula(MSDNet.from_settings(settings_of("msdnet", **SMALL), 5, 32))
    image = torch.cos(torch.arange(3072, dtype=torch.float64) * 0.37).view(1, 3, 32, 32)
    with torch.no_grad():
        logits = [y[0, 0].item() for y in net(image)]
    assert logits == pytest.approx([0.606492, 0.806882, 0.467280], abs=2e-6)


@pytest.mark.parametrize("changes", [SMALL, SMALL | {"prune": "min", "base": 4}])
def test_a_compacted_state_is_that_of_the_others(changes):
    net, x = new(**changes), torch.randn(4, 3, 32, 32)
    rows = torch.tensor([0, 3])
    state = net.block(0, x)
    expected = net(x)
    for k in range(3):
        if k:
            state = net.block(k, state)
        if k == 1:
            state = keep(state, rows)
        expect = expected[k][rows] if k else expected[k]
        torch.testing.assert_close(net.head(k, state), expect, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter_of_the_published_configuration():
    net = new().train()
    torch.stack(net(torch.randn(2, 3, 32, 32))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_scales_fall_as_the_paper_has_it():
    """min: layer n keeps the scales that can still reach the last exit, a third at both thirds."""
    net = new(n_blocks=3, base=2, step=2, prune="min")
    scales = [[len(m.layers) for m in b if hasattr(m, "layers")] for b in net.blocks]
    assert scales == [[3, 3, 3], [3, 3], [2, 1]]  # the first entry is the first layer
    narrow = [[i for i, m in enumerate(b) if hasattr(m, "m")] for b in net.blocks]
    assert narrow == [[3], [2], []]  # behind layers 2 and 4 of 6


@pytest.mark.parametrize(
    ("reduction", "shapes"),
    [(0.0, []), (0.5, [(34, 68), (68, 136)]), (1.0, [(68, 68), (136, 136)])],
)
def test_transitions_of_every_reduction(reduction, shapes):
    """Three layers on 16 channels, then a scale is dropped; 1 narrows nothing, 0 has none."""
    net = new(n_blocks=2, base=2, step=2, reduction=reduction)
    narrow = [m.m for block in net.blocks for m in block if hasattr(m, "m")]
    assert [tuple(conv.net[0].weight.shape[:2]) for m in narrow for conv in m] == shapes


@pytest.mark.parametrize(
    ("changes", "size", "telling"),
    [
        ({"gr_factor": "1-2"}, 32, "--gr_factor has 2 scales and --bn_factor 3"),
        ({"gr_factor": "1-x-4"}, 32, "--gr_factor 1-x-4"),
        ({"growth_rate": 3, "gr_factor": "1-1-1", "bn_factor": "1-1-1"}, 32, "is odd"),
        ({"reduction": 0.001}, 32, "--reduction 0.001 of 46 channels is 0"),
    ],
)
def test_bad_settings(changes, size, telling):
    with one_line_error(telling):
        MSDNet.from_settings(settings_of("msdnet", **changes), 10, size)


@pytest.mark.parametrize(
    ("scales", "stem", "least", "most"),
    [("1", "cifar", 5, 12), ("1-2-4", "auto", 17, 48), ("1-2", "imagenet", 33, 96)],
)
def test_image_sizes(scales, stem, least, most):
    """What is refused is what the heads fail at, and the line says which sizes do."""
    small = {"gr_factor": scales, "bn_factor": scales, "stem": stem, "n_channels": 4}
    for size in (least, most):
        net = MSDNet.from_settings(settings_of("msdnet", **small), 5, size).eval()
        assert {y.shape for y in net(torch.zeros(2, 3, size, size))} == {(2, 5)}
    for size in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"images of {least} to {most} px .* have {size}:"):
            MSDNet.from_settings(settings_of("msdnet", **small), 5, size)
        with pytest.raises(RuntimeError):
            net(torch.zeros(2, 3, size, size))
