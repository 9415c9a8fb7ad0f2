"""Features are what the last layer sees, whatever the network."""

import pytest
import torch
from torch import nn

from models.edgenet import build_edge
from models.features import with_features
from models.localnet import LeNet5
from models.ofa_mobilenet import OFAMobileNet, shape_of_spec
from tests.made import one_line_error

OFA = {"depths": [1] * 5, "kernels": [3] * 5, "expansions": [3] * 5}


def ofa(num_classes, size):
    return OFAMobileNet(shape_of_spec(OFA), num_classes, size)


@pytest.mark.parametrize(
    ("make", "last", "width"),
    [
        (lambda: ofa(7, 32), "classifier.linear", 1280),
        (lambda: LeNet5(7), "fc3", 84),
        (lambda: build_edge("convnet", 7, 32), "head", 192),
        (lambda: build_edge("resnet18", 7, 32), "net.fc", 512),
        (lambda: build_edge("mobilenet_v3_small", 7, 32), "net.classifier.3", 1024),
        (lambda: build_edge("shufflenet_v2_x0_5", 7, 32), "net.fc", 1024),
    ],
    ids=["ofa", "lenet5", "convnet", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"],
)
def test_the_last_layer_makes_logits_of_them(make, last, width):
    torch.manual_seed(0)
    net, images = make().eval(), torch.rand(3, 3, 28, 28)
    with torch.no_grad():
        logits, features = with_features(net, images)
        assert features.shape == (3, width)
        assert torch.equal(logits, net(images))
        assert torch.equal(logits, net.get_submodule(last)(features))
    assert features.std(0).any()


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("alexnet", 64, 4096),
        ("vit_b_16", 224, 768),
        ("mnasnet0_5", 64, 1280),
        ("squeezenet1_1", 64, 512),
    ],
)
def test_families_of_torchvision(name, size, width):
    """Their shapes; nothing is computed."""
    with torch.device("meta"):
        net = build_edge(name, 7, size).eval()
        logits, features = with_features(net, torch.zeros(2, 3, size, size))
    assert (logits.shape, features.shape) == ((2, 7), (2, width))


def test_a_convolution_as_the_last_layer():
    """Of SqueezeNet; the map that it sees is averaged."""
    net = build_edge("squeezenet1_0", 7, 64, seed=0).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        logits, features = with_features(net, images)
        seen = net.net.features(images)
    assert seen.shape[2] > 1
    assert torch.equal(features, seen.mean(dim=(2, 3)))
    assert torch.equal(logits, net(images))


class Counted(nn.Module):
    """Registers its last layer first, and has one that the forward pass does not reach."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(4, 2), nn.Linear(3 * 8 * 8, 4)
        self.unused, self.calls = nn.Linear(4, 2), 0

    def forward(self, images):
        self.calls += 1
        return self.last(self.first(images.flatten(1)))


def test_the_last_that_is_reached_in_one_forward_pass():
    net, images = Counted(), torch.rand(5, 3, 8, 8)
    logits, features = with_features(net, images)
    assert net.calls == 1
    assert torch.equal(features, net.first(images.flatten(1)))
    assert torch.equal(logits, net.last(features))
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_in_train_mode_features_are_those_after_dropout():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 200), nn.Dropout(0.5), nn.Linear(200, 3))
    logits, features = with_features(net, torch.rand(4, 3, 2, 2))
    assert 0.3 < (features == 0).float().mean() < 0.7
    assert torch.equal(logits, net[3](features))


class Tokens(nn.Module):
    """A linear layer on each of many tokens, averaged after it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images):
        return self.head(images.flatten(2).transpose(1, 2)).mean(1)


@pytest.mark.parametrize(
    ("net", "telling"),
    [
        (nn.Sequential(nn.Flatten()), "last layer with weights is none"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.BatchNorm1d(2)), "is BatchNorm1d"),
        (nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten()), "is Conv2d"),
        (nn.Sequential(nn.Conv2d(3, 2, 1)), "is Conv2d"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.GLU()), "is Linear"),
        (Tokens(), "is Linear"),
    ],
)
def test_nets_without_such_a_layer(net, telling):
    with one_line_error(telling):
        with_features(net, torch.rand(4, 3, 2, 2))


def test_hooks_are_gone_after_an_error():
    net = LeNet5(2)
    with pytest.raises(RuntimeError):
        with_features(net, torch.rand(2, 1, 32, 32))
    assert not any(m._forward_pre_hooks for m in net.modules())
