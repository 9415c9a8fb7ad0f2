"""Networks of other packages and of one's own files, and their weights."""

import copy

import pytest
import torch
from torch import nn

from models.any_local import build_local
from models.anynet import build_any, load_weights
from models.checkpoints import edge_net, local_net
from models.edgenet import build_edge, edge_size

FILE = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, num_classes),
    )

def three(num_classes):
    return 3

def broken(num_classes):
    raise RuntimeError("no such\\nlayer")
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets.py").write_text(FILE)
    return f"{tmp_path / 'nets.py'}:tiny"


def images(n=2, size=32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_file_s_function_is_an_edge_and_a_local_net(own):
    edge = build_edge(own, 5, 32, seed=0)
    assert edge(images()).shape == (2, 5)
    local = build_local(own, 5)
    logits, features = local.with_features(images())
    assert (logits.shape, features.shape) == ((2, 5), (2, 4))


def test_timm_s_networks_get_the_images_that_they_were_trained_on():
    timm = pytest.importorskip("timm")
    net = build_any("timm/test_resnet", 5, 64).eval()
    config = timm.get_pretrained_cfg("test_resnet")
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (config.mean, config.std))
    bytes_01 = images(size=64) * 0.5 + 0.5
    with torch.no_grad():
        expected = net.net((bytes_01 - mean) / std)
        torch.testing.assert_close(net(images(size=64)), expected, rtol=1e-4, atol=1e-5)
    assert edge_size("timm/test_resnet", 32) == config.input_size[-1]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm/test_resent", "near: .*timm/test_resnet"),
        ("nowhere.py:tiny", "nowhere.py: no such file"),
        ("{file}:none", "AttributeError"),
        ("{file}:three", "gives a int, not an nn.Module"),
        ("{file}:broken", "RuntimeError: no such layer"),
    ],
)
def test_unknown_networks_are_refused_in_one_line(name, reason, own):
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    with pytest.raises(ValueError, match=reason) as e:
        build_any(name.format(file=own.rpartition(":")[0]), 5, 32)
    assert "\n" not in str(e.value)


def test_checkpoints_give_the_same_network_again(own):
    for kind, build in (("local", build_local), ("edge", build_edge)):
        net = build(own, 5, 16, seed=1).eval()
        checkpoint = {"kind": kind, "net": own, "num_classes": 5, f"{kind}_size": 16}
        checkpoint["state_dict"] = net.state_dict()
        again = (local_net if kind == "local" else edge_net)(checkpoint, 5, "file")
        torch.testing.assert_close(again(images()), net(images()), rtol=0, atol=0)


@pytest.mark.parametrize("form", ["bare", "state_dict", "module.", "model.", "safetensors"])
def test_weights_of_every_form(form, own, tmp_path):
    source, path = build_any(own, 5, 32).net, tmp_path / "w.pth"
    state = source.state_dict()
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        pytest.importorskip("safetensors.torch").save_file(state, path)
    elif form == "bare":
        torch.save(state, path)
    elif form == "state_dict":
        torch.save({"state_dict": state, "best_prec1": 91.6}, path)
    else:
        torch.save({form + name: value for name, value in state.items()}, path)
    net = build_any(own, 5, 32)
    load_weights(net, path)
    for name, value in net.net.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_a_head_of_other_classes_is_new(own, tmp_path):
    source = build_any(own, 9, 32).net
    torch.save(source.state_dict(), tmp_path / "w.pth")
    net = build_any(own, 5, 32)
    head = copy.deepcopy(net.net[-1])
    assert "9 classes" in load_weights(net, tmp_path / "w.pth")
    torch.testing.assert_close(net.net[0].weight, source[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(net.net[-1].weight, head.weight, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["another network", "no file", "text", "no tensors", "objects"])
def test_other_weights_are_refused_in_one_line(kind, own, tmp_path):
    path = tmp_path / "w.pth"
    if kind == "another network":
        torch.save(nn.Linear(3, 2).state_dict(), path)
    elif kind == "text":
        path.write_text("hello")
    elif kind == "no tensors":
        torch.save({"epoch": 3}, path)
    elif kind == "objects":
        torch.save(nn.Linear(3, 2), path)
    net = build_any(own, 5, 32)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=str(path)) as e:
        load_weights(net, path)
    assert "\n" not in str(e.value)
    if kind == "another network":
        assert str(e.value).count("0.") >= 2
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
