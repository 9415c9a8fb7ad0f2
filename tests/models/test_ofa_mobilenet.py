"""The network against torchvision's MobileNetV3, and its specs."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large
from torchvision.models._utils import _make_divisible

from models.cost import multiply_adds, parameters
from models.ofa_mobilenet import (
    OFAMobileNet,
    Shape,
    check_size,
    shape_of_spec,
    squeezed_channels,
)
from tests.made import one_line_error

TINY = {
    "depths": [1, 2, 1, 2, 1],
    "kernels": [3, 5, 3, 7, 3, 5, 3],
    "expansions": [3, 4, 6, 3, 6, 1, 3],
    "widths": [4, 4, 8, 8, 16, 16, 8, 24, 32],
}


def tiny(num_classes=5, size=32, dropout=0.0, seed=0, **changed):
    torch.manual_seed(seed)
    return OFAMobileNet(shape_of_spec(TINY | changed), num_classes, size, dropout)


def large() -> Shape:
    """MobileNetV3-Large: a point of the space, but for the middles of three blocks."""
    shape = shape_of_spec(
        {
            "depths": [2, 3, 4, 2, 3],
            "kernels": [3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5],
            "expansions": [4, 3, 3, 3, 3, 6, 3, 3, 3, 6, 6, 6, 6, 6],
        }
    )
    blocks = list(shape.blocks)
    for k, middle in ((7, 200), (8, 184), (9, 184)):
        blocks[k] = blocks[k]._replace(middle=middle)
    return shape._replace(blocks=tuple(blocks), momentum=0.01, eps=1e-3)


def test_the_same_answers_as_torchvision():
    """Layer by layer, in the same order, are the same weights: strides, activations, shortcuts."""
    torch.manual_seed(0)
    theirs, ours = mobilenet_v3_large(num_classes=7).eval(), OFAMobileNet(large(), 7, 64).eval()
    theirs.classifier[0].bias.data.zero_()  # we have none there
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    values = [v for k, v in theirs.state_dict().items() if k != "classifier.0.bias"]
    own = ours.state_dict()
    pairs = [(k, v.view_as(own[k])) for k, v in zip(own, values, strict=True)]
    ours.load_state_dict(dict(pairs))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        assert torch.allclose(ours(images), expected, rtol=1e-4, atol=1e-5 * expected.abs().max())
    assert parameters(ours) == parameters(theirs) - 1280
    one = torch.zeros(1, 3, 64, 64)
    assert multiply_adds(ours, one) == multiply_adds(theirs, one)


def test_squeezed_channels():
    assert [squeezed_channels(c) for c in (8, 48, 72, 96, 672)] == [8, 16, 24, 24, 168]
    for channels in range(1, 2000):
        assert squeezed_channels(channels) == _make_divisible(channels // 4, 8)


def test_parameter_names_are_the_published_ones():
    def conv(name, bias=False):
        return {f"{name}.weight"} | ({f"{name}.bias"} if bias else set())

    def norm(name):
        parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return {f"{name}.{part}" for part in parts}

    def both(name):
        return conv(f"{name}.conv") | norm(f"{name}.bn")

    names = both("first_conv") | both("final_expand_layer") | conv("feature_mix_layer.conv")
    names |= conv("classifier.linear", bias=True)
    for k in range(8):
        inner = f"blocks.{k}.mobile_inverted_conv"
        names |= both(f"{inner}.depth_conv") | both(f"{inner}.point_linear")
        if k not in (0, 6):  # expansion 1
            names |= both(f"{inner}.inverted_bottleneck")
        if k in (2, 3, 5, 6, 7):  # stages 2, 4 and 5
            for layer in ("reduce", "expand"):
                names |= conv(f"{inner}.depth_conv.se.fc.{layer}", bias=True)
    assert set(tiny().state_dict()) == names


def test_blocks_of_a_spec():
    blocks = shape_of_spec(TINY).blocks
    assert [b.middle for b in blocks] == [4, 12, 32, 48, 24, 96, 16, 48]
    assert [b.kernel for b in blocks] == [3, *TINY["kernels"]]
    assert [b.stride for b in blocks] == [1, 2, 2, 1, 2, 1, 1, 2]
    assert [b.activation for b in blocks] == ["relu"] * 4 + ["h_swish"] * 4
    # Stage 4 has stride 1, and in this spec as many channels as stage 3.
    assert [b.shortcut for b in blocks] == [True, False, False, True, False, True, True, False]


def test_images_of_any_size():
    net = tiny(size=16).eval()
    with torch.no_grad():
        for images in (torch.rand(2, 3, 28, 28), torch.rand(1, 3, 8, 40)):
            expected = net(nn.functional.interpolate(
                images, (16, 16), mode="bilinear", antialias=True
            ))  # fmt: skip
            assert net(images).shape == (len(images), 5)
            assert torch.equal(net(images), expected)


def test_dropout_is_on_the_features_in_training():
    net, images = tiny(dropout=1.0), torch.rand(4, 3, 32, 32)
    assert torch.equal(net(images), net.classifier.linear.bias.expand(4, 5))
    assert net.eval()(images).std(0).any()


def test_gradients_reach_every_parameter_and_it_learns():
    net, labels = tiny(), torch.arange(40) % 5
    images = torch.rand(5, 3, 32, 32)[labels] + 0.1 * torch.rand(40, 3, 32, 32)
    optimizer, losses = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9), []
    for _ in range(10):
        loss = nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("changed", "telling"),
    [
        ({"depths": [2, 2, 2]}, "depths: has 3 numbers, needs 5"),
        ({"depths": None}, "depths: give a list of 5"),
        ({"depths": [1, 2, 1, 2, 0]}, "depths: 0: give whole numbers from 1"),
        ({"depths": [2, 2, 1, 2, 1]}, "kernels: has 7 numbers, needs 8"),
        ({"kernels": [3, 5, 3, 7, 3, 5, 4]}, "kernels: 4 is even"),
        ({"kernels": [3, 5, 3, 7, 3, 5, 99]}, "kernels: 99: give whole numbers from 1 to 15"),
        ({"kernels": [3, 5, 3, 7, 3, 5, True]}, "kernels: True"),
        ({"expansions": [3, 4, 6, 3, 6, 1]}, "expansions: has 6 numbers, needs 7"),
        ({"expansions": [3, 4, 6, 3, 6, 1, 2.5]}, "expansions: 2.5"),
        ({"expansions": "3463613"}, "expansions: give a list of 7"),
        ({"widths": [4, 4, 8]}, "widths: has 3 numbers, needs 9"),
        ({"widths": [4, 4, 8, 8, 16, 16, 8, 24, -1]}, "widths: -1"),
    ],
)
def test_specs_that_do_not_fit(changed, telling):
    with one_line_error(start=telling):
        shape_of_spec(TINY | changed)


@pytest.mark.parametrize("size", [0, 15, 2000, 32.0, "32", None, True])
def test_sizes_that_do_not_fit(size):
    with pytest.raises(ValueError, match=r"^size .*: give whole px from 16"):
        check_size(size)
    assert check_size(16) == 16
