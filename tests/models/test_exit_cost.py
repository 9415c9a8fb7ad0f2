"""Multiply-adds of networks with exits against closed forms, and counting without side effects."""

import pytest
import torch
from torch.backends import mha
from torch.utils.flop_counter import flop_registry
from torchvision.models import VisionTransformer, resnet18

from models.cost import exit_multiply_adds, multiply_adds, release_multiply_adds
from models.exit_net import ExitNet
from models.msdnet import MSDNet
from models.ranet import RANet
from models.resnet_exits import ResNetExits
from models.vit_exits import ViTExits
from tests.made import settings_of


def vit(exits=(1, 3), dim=32, heads=4, mlp=48, patch=8, size=32, classes=10):
    return ViTExits(
        classes, size, patch_size=patch, hidden_dim=dim, num_layers=exits[-1], num_heads=heads,
        mlp_dim=mlp, exits=list(exits),
    )  # fmt: skip


def resnet(name="resnet18", exits=(1, 2, 3, 4), width=8, imagenet=False, classes=10):
    return ResNetExits(classes, resnet=name, width=width, exits=list(exits), imagenet=imagenet)


def vit_by_hand(exits, dim, mlp, patch, size, classes):
    patches = (size // patch) ** 2
    tokens = patches + 1
    layer = tokens * dim * 3 * dim  # queries, keys, values
    layer += tokens * tokens * dim  # QK^T: over all heads as many as for one of full width
    layer += tokens * tokens * dim  # AV
    layer += tokens * dim * dim  # out projection
    layer += 2 * tokens * dim * mlp
    first = patches * dim * 3 * patch**2
    # All heads so far, on the class token alone.
    return [first + e * layer + (k + 1) * dim * classes for k, e in enumerate(exits)]


def resnet_by_hand(counts, bottleneck, exits, width, imagenet, size, classes):
    px = size // 2 if imagenet else size
    total = px**2 * width * 3 * (49 if imagenet else 9)
    px = px // 2 if imagenet else px
    channels, totals = width, []
    for stage, count in enumerate(counts):
        planes = width * 2**stage
        out = planes * (4 if bottleneck else 1)
        for i in range(count):
            before = px
            if i == 0 and stage > 0:
                px //= 2
            if bottleneck:  # the stride is in the 3x3 one
                total += before**2 * channels * planes + px**2 * planes * (9 * planes + out)
            else:
                total += px**2 * planes * 9 * (channels + planes)
            if i == 0 and (stage > 0 or channels != out):
                total += px**2 * channels * out
            channels = out
        if stage + 1 in exits:
            total += channels * classes
            totals.append(total)
    return totals


@pytest.mark.parametrize(
    ("exits", "dim", "mlp", "patch", "size", "classes"),
    [((1, 3), 32, 48, 8, 32, 10), ((2,), 24, 96, 4, 20, 7), ((2, 4, 6), 128, 256, 4, 32, 10)],
)
def test_vit(exits, dim, mlp, patch, size, classes):
    net = vit(exits, dim, 4, mlp, patch, size, classes)
    counted = exit_multiply_adds(net, torch.zeros(1, 3, size, size))
    assert counted == vit_by_hand(exits, dim, mlp, patch, size, classes)


def test_resnet_of_torchvision():
    """Its published cost, 1.814 G multiply-adds for 1,000 classes."""
    with torch.device("meta"):
        images = torch.zeros(1, 3, 224, 224)
        total = multiply_adds(resnet18(), images)
        assert exit_multiply_adds(resnet("resnet18", (4,), 64, True, 1000), images) == [total]
    assert round(total / 1e6) == 1814


def test_without_exits_attention_is_counted_as_well():
    net = VisionTransformer(32, 8, 3, 4, 32, 48, num_classes=10)
    images = torch.zeros(1, 3, 32, 32)
    assert [multiply_adds(net, images)] == vit_by_hand([3], 32, 48, 8, 32, 10)


def test_the_last_exit_costs_what_the_network_costs():
    images = torch.zeros(1, 3, 32, 32)
    for net in (vit(), resnet()):
        assert exit_multiply_adds(net, images)[-1] == multiply_adds(net, images)


def test_as_the_releases_count():
    """ReLUs, pooling and biases of one layer on two scales, 16 and 8 px, and one head, by hand."""
    flags = settings_of("msdnet", n_blocks=1, base=1, gr_factor="1-2", bn_factor="1-2")
    net, image = MSDNet.from_settings(flags, 10, 16), torch.zeros(1, 3, 16, 16)
    relus = 256 * (16 + 6 + 6 + 6) + 64 * (32 + 6 + 12 + 6) + 128 * (16 + 4)
    expected = exit_multiply_adds(net, image)[0] + relus + 128 * 4 + 10
    assert release_multiply_adds(net, image) == [expected]
    assert release_multiply_adds(net.train(), image) == [expected]
    assert net.training


# 10 classes for the network of 5 blocks that grow, 100 for the others.
RELEASED = [
    (
        MSDNet, settings_of("msdnet", n_blocks=5, base=1, step=1, step_mode="lin_grow"), 10,
        [6781184, 14185984, 27244288, 41327616, 58030336],
        [6848266, 14326804, 27501854, 41668136, 58422578],
    ),
    (
        MSDNet, settings_of("msdnet", n_blocks=7), 100,
        [14967296, 25259008, 36780544, 45972480, 56933888, 66529280, 75487744],
        [15140452, 25505992, 37095980, 46331024, 57335540, 66960728, 75937724],
    ),
    (
        RANet, settings_of("ranet"), 100,
        [13390336, 28836864, 42137472, 47839616, 58013248, 61012032],
        [13450340, 28930760, 42314540, 48029072, 58336948, 61341976],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "flags", "classes", "ours", "released"), RELEASED)
def test_released_networks_in_both_units(arch, flags, classes, ours, released):
    with torch.device("meta"):
        net, image = arch.from_settings(flags, classes, 32), torch.zeros(1, 3, 32, 32)
        assert exit_multiply_adds(net, image) == ours
        assert release_multiply_adds(net, image) == released


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_counter_that_knows_no_fused_attention(device, monkeypatch):
    """Of older versions of torch."""
    fused = [op for op in flop_registry if "scaled_dot_product" in str(op)]
    assert fused
    for op in fused:
        monkeypatch.delitem(flop_registry, op)
    with torch.device(device):
        counted = exit_multiply_adds(vit(), torch.zeros(1, 3, 32, 32))
    assert counted == vit_by_hand((1, 3), 32, 48, 8, 32, 10)


@pytest.mark.parametrize("fast_path", [True, False])
def test_counting_changes_no_state(fast_path):
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(fast_path)
    try:
        net, images = resnet().train(), torch.randn(1, 3, 32, 32)
        net.bn1.eval()  # one layer frozen
        state = {k: v.clone() for k, v in net.state_dict().items()}
        exit_multiply_adds(net, images)
        assert net.training
        assert net.layer1.training
        assert not net.bn1.training
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
        assert mha.get_fastpath_enabled() == fast_path
        assert torch.is_grad_enabled()
    finally:
        mha.set_fastpath_enabled(before)


def test_also_when_the_network_fails():
    class Broken(ExitNet):
        num_exits = 1

        def block(self, k, state):
            raise RuntimeError("no such block")

    before, net = mha.get_fastpath_enabled(), Broken()
    with pytest.raises(RuntimeError, match="no such block"):
        exit_multiply_adds(net, torch.zeros(1, 3, 32, 32))
    assert net.training
    assert mha.get_fastpath_enabled() == before
    assert torch.is_grad_enabled()
