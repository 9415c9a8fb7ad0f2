"""The ResNet with exits against torchvision's, and its flags."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model, resnet18

from models.cost import parameters
from models.resnet_exits import ResNetExits
from tests.made import one_line_error, settings_of


def make(size=32, num_classes=10, **changed):
    return ResNetExits.from_settings(settings_of("resnet", **changed), num_classes, size)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_last_exit_is_torchvisions(name, mode):
    torch.manual_seed(0)
    net = make(size=96, num_classes=5, resnet=name, exits="2-4")
    theirs = get_model(name, num_classes=5)
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("heads")}
    theirs.load_state_dict(state | {f"fc.{k}": v for k, v in net.heads[-1].state_dict().items()})
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        ours, same = getattr(net, mode)()(images), getattr(theirs, mode)()(images)
        assert torch.allclose(ours[-1], same, rtol=0, atol=1e-6 * float(same.abs().max()))
        # The exit after stage 2, as torchvision's network would be without the last two.
        if mode == "eval":
            theirs.layer3 = theirs.layer4 = nn.Identity()
            theirs.fc = net.heads[0]
            assert torch.allclose(ours[0], theirs(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        net, theirs = make(size=224, resnet=name), get_model(name)
    ours = {k: v.shape for k, v in net.state_dict().items() if not k.startswith("heads")}
    assert ours == {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc")}


def test_weights_start_as_torchvisions():
    """The same distribution: kaiming's, over the channels that go out."""
    torch.manual_seed(0)
    net, theirs = make(size=224), resnet18()
    for name in ("conv1", "layer2.0.conv1", "layer3.0.downsample.0", "layer4.1.conv2"):
        ours, same = net.get_submodule(name).weight, theirs.get_submodule(name).weight
        assert torch.isclose(ours.std(), same.std(), rtol=0.05)


def test_parameters_at_the_defaults():
    # torchvision documents 11,689,512 for 1000 classes
    heads = 10 * (64 + 128 + 256 + 512 + 4)
    assert parameters(make()) == 11_689_512 - 513_000 - 64 * 3 * (49 - 9) + heads == 11_178_472


@pytest.mark.parametrize(
    ("size", "stem", "last"),
    [(32, "auto", 4), (95, "auto", 12), (96, "auto", 3), (32, "imagenet", 1), (96, "cifar", 12)],
)
def test_stem(size, stem, last):
    """By the px of the last map: an eighth of the image's, or with ImageNet's stem a 32nd."""
    net = make(size=size, stem=stem, width=4).eval()
    state = torch.randn(1, 3, size, size)
    with torch.no_grad():
        for k in range(4):
            state = net.block(k, state)
    assert state.shape == (1, 32, last, last)


def test_width():
    net = make(width=6, resnet="resnet50", exits="1-3-4")
    assert [head.in_features for head in net.heads] == [24, 96, 192]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exits": "1-2-3"}, "--exits 1-2-3: the last one must be 4, the number of stages"),
        ({"exits": "3-2-4"}, "give stages that increase"),
        ({"width": 32, "pretrained": True}, "--width 32: ImageNet weights have 64"),
        ({"resnet": "resnet19"}, "--resnet resnet19: unknown; resnet18, "),
    ],
)
def test_impossible_settings(changed, message):
    with one_line_error(message):
        make(**changed)


def test_weights_that_cannot_be_downloaded(downloads):
    downloads()
    with one_line_error("resnet18 cannot be downloaded (no route to host)"):
        make(pretrained=True)


@pytest.mark.parametrize(("size", "new"), [(96, set()), (32, {"conv1.weight"})])
def test_a_start_from_torchvisions_weights(size, new, downloads):
    theirs = resnet18().state_dict()
    # The files of the first versions do not count batches.
    theirs = {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
    theirs["bn1.running_mean"] += 3
    downloads(theirs)
    net = make(size=size, pretrained=True)
    ours = net.state_dict()
    different = {k for k, v in theirs.items() if k not in ours or not torch.equal(ours[k], v)}
    assert different == {"fc.weight", "fc.bias"} | new
    assert net.training


def test_weights_that_do_not_fit(downloads):
    theirs = get_model("resnet34").state_dict()
    theirs["layer1.0.conv1.weight"] = torch.zeros(3)
    downloads(theirs)
    with pytest.raises(ValueError, match=r"weights of resnet34: .*layer1.0.conv1.weight is \[3\]"):
        make(resnet="resnet34", pretrained=True)
