"""Networks against exact counts and names, stacked rejectors against single ones."""

import pytest
import torch

from models.convnet import ConvNet
from models.cost import multiply_adds, parameters
from models.edgenet import AlexNet, ViT, build_edge, edge_size
from models.localnet import LeNet5, resize
from models.rejector import Rejector, StackedRejectors, new_rejectors


def test_lenet():
    net = LeNet5(10)
    assert parameters(net) == 62_006
    assert (
        multiply_adds(net, torch.zeros(1, 3, 32, 32))
        == 28 * 28 * 6 * 75 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 840
    )
    names = {n.split(".")[0] for n in net.state_dict()}
    assert names == {"conv1", "conv2", "fc1", "fc2", "fc3"}


def test_lenet_pools_after_relu_as_the_paper_draws_it():
    """We pool first, which is the same function; held against the drawing."""
    torch.manual_seed(0)
    net, x = LeNet5(7), torch.randn(5, 3, 32, 32)
    h = torch.nn.functional.max_pool2d(torch.relu(net.conv1(x)), 2)
    h = torch.nn.functional.max_pool2d(torch.relu(net.conv2(h)), 2)
    h = torch.relu(net.fc2(torch.relu(net.fc1(h.flatten(1)))))
    assert torch.equal(net(x), net.fc3(h))


@pytest.mark.parametrize("size", [8, 28, 32, 45, 96])
def test_other_sizes_are_resized(size):
    assert LeNet5(4)(torch.randn(2, 3, size, size)).shape == (2, 4)
    assert Rejector()(torch.randn(2, 3, size, size)).shape == (2, 2)


def test_resize_leaves_what_fits():
    x = torch.randn(2, 3, 32, 32)
    assert resize(x, 32) is x
    assert resize(torch.ones(1, 3, 20, 24), 32).allclose(torch.ones(1, 3, 32, 32))


def test_alexnet_counts_and_names():
    with torch.device("meta"):
        net = AlexNet(10)
        # features of the original AlexNet without groups, its three fully connected layers
        features = 64 * 363 + 192 * 1600 + 384 * 1728 + 256 * 3456 + 256 * 2304
        features += 64 + 192 + 384 + 256 + 256
        linear = 9216 * 4096 + 4096 * 4096 + 4096 * 10 + 4096 + 4096 + 10
        assert parameters(net) == features + linear == 57_044_810
        assert {n.rsplit(".", 1)[0] for n in net.state_dict()} == {
            *(f"features.{i}" for i in (0, 3, 6, 8, 10)),
            *(f"classifier.{i}" for i in (1, 4, 6)),
        }
        convs = 15 * 15 * 64 * 363 + 7 * 7 * 192 * 1600
        convs += 3 * 3 * (384 * 1728 + 256 * 3456 + 256 * 2304)
        assert (
            multiply_adds(net, torch.zeros(1, 3, 32, 32))
            == convs + 9216 * 4096 + 4096 * 4096 + 4096 * 10
        )


def test_convnet():
    net = ConvNet(10)
    w = 24
    convs = {(3, w, 4): 16, (w, 2 * w, 3): 16, (2 * w, 4 * w, 3): 8, (4 * w, 8 * w, 3): 4}
    expected = sum(i * o * k * k * size**2 for (i, o, k), size in convs.items())
    expected += 2 * 9 * ((2 * w) ** 2 * 16**2 + (4 * w) ** 2 * 8**2) + 8 * w * 10
    assert multiply_adds(net, torch.zeros(1, 3, 32, 32)) == expected
    assert parameters(net) == 429_466
    assert net(torch.rand(2, 3, 40, 40)).shape == (2, 10)


def test_vit_counts_and_names():
    with torch.device("meta"):
        net = ViT(10)
    # torchvision documents 86,567,656 for 1000 classes
    assert parameters(net) == 86_567_656 - 1000 * 769 + 10 * 769
    names = set(net.state_dict())
    assert {"heads.weight", "heads.bias", "vit.class_token", "vit.conv_proj.weight"} <= names
    assert not any(n.startswith("vit.heads") for n in names)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_stacked_equals_single(chunk, monkeypatch):
    monkeypatch.setattr("models.rejector.CPU_CHUNK", 6 * chunk)
    torch.manual_seed(0)
    singles = [Rejector() for _ in range(5)]
    stacked, x = StackedRejectors(singles), torch.randn(6, 3, 32, 32)
    logits = stacked(x)
    for r, net in enumerate(singles):
        assert torch.allclose(logits[r], net(x), atol=1e-6)
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in stacked.unstack(r).items())


def test_a_step_of_the_stack_is_a_step_of_each():
    torch.manual_seed(0)
    singles = [Rejector() for _ in range(3)]
    stacked, x = StackedRejectors(singles), torch.randn(4, 3, 32, 32)
    optimizers = [torch.optim.SGD(net.parameters(), 0.1, 0.9) for net in (stacked, *singles)]
    for _ in range(3):
        for net, optimizer in zip((stacked, *singles), optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().mean(dim=(-2, -1)).sum().backward()
            optimizer.step()
    for r, net in enumerate(singles):
        for name, value in stacked.unstack(r).items():
            assert torch.allclose(value, net.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_rejectors_start_from_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    few, many, other = new_rejectors(1, 5), new_rejectors(7, 5), new_rejectors(1, 6)
    assert torch.equal(torch.get_rng_state(), before)
    for r in range(7):
        assert all(torch.equal(v, few.unstack(0)[k]) for k, v in many.unstack(r).items())
    assert not torch.equal(few.unstack(0)["fc1.weight"], other.unstack(0)["fc1.weight"])


def test_stacked_refuses_other_networks():
    with pytest.raises(ValueError, match="LeNet-5"):
        StackedRejectors([torch.nn.BatchNorm1d(3)] * 2)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "googlenet"])
def test_torchvision_by_name(name):
    size = edge_size(name, 40)
    net = build_edge(name, 100, size, seed=0).eval()
    assert net(torch.randn(2, 3, 40, 40)).shape == (2, 100)


@pytest.mark.parametrize(
    ("name", "size"),
    [("alexnet", 64), ("vit", 224), ("resnet18", 32), ("vit_b_32", 224), ("inception_v3", 224)],
)
def test_edge_size(name, size):
    assert edge_size(name, 32) == size


def test_edge_weights_come_from_the_seed():
    a, b, c = (build_edge("squeezenet1_1", 5, 32, seed=s) for s in (1, 1, 2))
    same = [torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


@pytest.mark.parametrize(("name", "near"), [("resnet81", "resnet18"), ("alexnett", "alexnet")])
def test_unknown_edge_net_lists_similar_names(name, near):
    with pytest.raises(ValueError, match=f"unknown; near: .*{near}"):
        build_edge(name, 10, 32)


def test_edge_that_cannot_run_at_a_size():
    with pytest.raises(ValueError, match=r"vit_b_16 cannot run at 30 px: .* can run at 224$"):
        build_edge("vit_b_16", 10, 30)


def test_pretrained_weights_that_cannot_be_downloaded(downloads):
    downloads()
    with pytest.raises(ValueError, match=r"downloaded \(no route to host\).*--no-pretrained"):
        build_edge("squeezenet1_1", 10, 64, pretrained=True)


def test_pretrained_weights_are_taken_but_for_the_head(downloads):
    theirs = build_edge("squeezenet1_1", 1000, 64, seed=7).net.state_dict()
    downloads(theirs)
    net = build_edge("squeezenet1_1", 10, 64, seed=8, pretrained=True).net
    differ = {k for k, v in net.state_dict().items() if v.shape != theirs[k].shape}
    assert differ == {"classifier.1.weight", "classifier.1.bias"}
    assert all(torch.equal(v, theirs[k]) for k, v in net.state_dict().items() if k not in differ)
