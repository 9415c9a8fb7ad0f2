"""What holds for every network with exits on a torchvision trunk, and where their exits may be."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, jvp

from models.attention import plain_attention
from models.exit_net import keep
from models.resnet_exits import ResNetExits
from models.trunks import exit_points
from models.vit_exits import ViTExits
from tests.made import settings_of

SMALL = {
    ViTExits: {"hidden_dim": 32, "mlp_dim": 48, "patch_size": 8, "num_layers": 3},
    ResNetExits: {"width": 8},
}
ARCHS = {ViTExits: "vit", ResNetExits: "resnet"}
BOTH = pytest.mark.parametrize("cls", [ViTExits, ResNetExits])


def small(cls, num_classes=10, size=32, seed=0, **changed):
    torch.manual_seed(seed)
    return cls.from_settings(settings_of(ARCHS[cls], **SMALL[cls] | changed), num_classes, size)


@BOTH
def test_the_defaults_take_small_images(cls):
    values = settings_of(ARCHS[cls])
    assert all(isinstance(v, (int, float, str, bool)) for v in values.values())
    net = cls.from_settings(values, 10, 32).eval()
    logits = net(torch.randn(2, 3, 32, 32))
    assert [x.shape for x in logits] == [(2, 10)] * net.num_exits
    assert net.num_exits == {ViTExits: 3, ResNetExits: 4}[cls]


@BOTH
def test_step_by_step_without_those_that_left(cls):
    """The rest of a batch is what it would be with all of it."""
    net, images = small(cls).eval(), torch.randn(7, 3, 32, 32)
    stay = torch.tensor([5, 0, 2])
    with torch.no_grad():
        expected = net(images)
        state = images
        for k in range(net.num_exits):
            state = net.block(k, state)
            if k == 1:
                state = keep(state, stay)
            rows = stay if k >= 1 else torch.arange(7)
            assert torch.allclose(net.head(k, state), expected[k][rows], rtol=0, atol=1e-6)


@BOTH
def test_gradients_reach_every_parameter(cls):
    net, labels = small(cls), torch.arange(4)
    sum(F.cross_entropy(x, labels) for x in net(torch.randn(4, 3, 32, 32))).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@BOTH
def test_an_exit_gives_later_layers_no_gradient(cls):
    net = small(cls)
    net(torch.randn(4, 3, 32, 32))[0].sum().backward()
    later = net.encoder.layers[1:] if cls is ViTExits else net.layer2
    assert all(p.grad is None for p in [*later.parameters(), *net.heads[1:].parameters()])
    assert net.conv_proj.weight.grad.any() if cls is ViTExits else net.conv1.weight.grad.any()


def per_sample_losses(net, images, labels):
    """A function of the parameters, [E, B], in the mode that `net` is in."""
    buffers = {k: v.clone() for k, v in net.named_buffers()}

    def losses(weights):
        logits = functional_call(net, (weights, {k: v.clone() for k, v in buffers.items()}), images)
        return torch.stack([F.cross_entropy(x, labels, reduction="none") for x in logits])

    return losses


@BOTH
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_forward_mode_derivatives(cls, mode):
    """Of the losses along a direction: as by two backward passes, and by finite differences.

    These in train mode alone: with ResNet's first statistics of batch norm, 0 and 1, activations
    are so large that too many of them pass a kink of ReLU within a step.
    """
    net = getattr(small(cls).double(), mode)()
    images, labels = torch.randn(3, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 0, 7])
    weights = {k: p.detach().requires_grad_() for k, p in net.named_parameters()}
    direction = {k: torch.randn_like(p) for k, p in weights.items()}
    losses = per_sample_losses(net, images, labels)
    forward = jvp(losses, (weights,), (direction,))[1].detach()

    with plain_attention():  # the fused kernels have no second derivative
        charge = torch.zeros_like(forward, requires_grad=True)
        total = (losses(weights) * charge).sum()
        gradients = torch.autograd.grad(total, list(weights.values()), create_graph=True)
        along = sum((g * direction[k]).sum() for k, g in zip(weights, gradients, strict=True))
        (twice,) = torch.autograd.grad(along, charge)
    assert torch.allclose(forward, twice, rtol=1e-10, atol=1e-10)

    if mode == "eval":
        return
    with torch.no_grad():
        step = 1e-6
        there, back = (
            losses({k: p + sign * step * direction[k] for k, p in weights.items()})
            for sign in (1, -1)
        )
    assert torch.allclose(forward, (there - back) / (2 * step), rtol=1e-5, atol=1e-5)


def test_forward_mode_of_one_layer_alone():
    """No tangent comes in, and attention has one all the same."""
    net = small(ViTExits).double()
    images, labels = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 0])
    losses, name = per_sample_losses(net, images, labels), "encoder.layers.encoder_layer_1"
    name += ".self_attention.in_proj_weight"
    weight = net.get_parameter(name).detach()
    direction, step = torch.randn_like(weight), 1e-6
    forward = jvp(lambda w: losses({name: w}), (weight,), (direction,))[1]
    there, back = (losses({name: weight + s * step * direction}) for s in (1, -1))
    assert torch.allclose(forward, (there - back) / (2 * step), rtol=1e-5, atol=1e-7)
    assert forward[1:].any()


def test_compiled_in_one_graph():
    """Forward-mode derivatives in train mode, as torch.compile traces them."""
    net, images = small(ViTExits, num_layers=1, exits="1"), torch.randn(2, 3, 32, 32)
    losses = per_sample_losses(net.train(), images, torch.tensor([1, 0]))
    weights = {k: p.detach() for k, p in net.named_parameters()}

    def along(direction):
        return jvp(losses, (weights,), (direction,))[1]

    compiled = torch.compile(along, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(weights), along(weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("text", "points"), [("2-4-6", [2, 4, 6]), ("6", [6]), ("5-6", [5, 6])])
def test_exit_points(text, points):
    assert exit_points(text, 6, "layers") == points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2-4", "--exits 2-4: the last one must be 6, the number of layers"),
        ("2-7", "the last one must be 6"),
        ("4-2-6", "give layers that increase"),
        ("2-2-6", "give layers that increase"),
        ("0-6", "whole numbers from 1"),
        ("2,6", "whole numbers from 1"),
        ("", "whole numbers from 1"),
    ],
)
def test_impossible_exit_points(text, message):
    with pytest.raises(ValueError, match=message):
        exit_points(text, 6, "layers")
