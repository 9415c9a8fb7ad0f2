"""One pass in bfloat16, compiled or channels last against a plain one; who sees which images."""

import copy

import pytest
import torch
from torch import nn

import data
from learning_to_help.edge_copies import adaptive
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.edgenet import build_edge, prefers_channels_last
from train_edgenet_async import train_one_epoch

SETTINGS = [
    *(Setting(s, 1.25, 0.25) for s in (1, 2, 0, "joint", adaptive(0.1))),
    Setting(1, 1.0, 0.0),
    Setting(2, None, None, "one_vs_all"),
]


def made_part(count=54):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(4, (count,), generator=generator)
    return data.Part(pictures, labels, torch.arange(count))


def made_edge():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.2),
        nn.Flatten(), nn.Linear(6 * 64, 4),
    )  # fmt: skip


def one_pass(edge, augment=None, **how):
    """L1, L2, the edge and the rejectors after an epoch of 7 batches, the last one smaller."""
    part, device = made_part(), torch.device("cpu")
    batches = data.Batches(part, 8, device, shuffle=True, augment=augment)
    optimizer = torch.optim.SGD(edge.parameters(), 0.05, 0.9, fused=True)
    step = EdgeStep(edge, optimizer, 8, **how)
    rejectors = Rejectors(
        SETTINGS, edge, device, seed=0, lr=0.01, momentum=0.9, ask=step.ask,
        probe=batches.plain(torch.arange(8)), probe_every=3,
    )  # fmt: skip
    local_logits = torch.randn(54, 4, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)
    l1, l2 = train_one_epoch(step, rejectors, batches, local_logits, 0, "")
    return l1, l2, edge.state_dict(), rejectors, step


def test_bf16_is_near_and_leaves_weights_and_rejectors_float32():
    first = made_edge()
    l1, l2, *_ = one_pass(copy.deepcopy(first))
    b1, b2, edge, rejectors, step = one_pass(first, bf16=True)
    assert {v.dtype for k, v in edge.items() if "tracked" not in k} == {torch.float32}
    assert {v.dtype for v in rejectors.net.values} == {torch.float32}
    assert not torch.equal(l1, b1)  # it does compute otherwise
    assert torch.allclose(l1, b1, atol=0.05)
    assert torch.allclose(l2[:2], b2[:2], atol=0.01)
    loss, logits = step(torch.randn(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64))
    assert loss.dtype == logits.dtype == torch.float32


def test_channels_last_is_the_same_up_to_rounding():
    first = made_edge()
    first[3].p = 0.0  # which units are dropped depends on the memory order
    l1, *_ = one_pass(copy.deepcopy(first))
    edge = first.to(memory_format=torch.channels_last)
    c1, _, state, *_ = one_pass(edge, channels_last=True)
    assert torch.allclose(l1, c1, atol=1e-5)
    assert state["0.weight"].is_contiguous(memory_format=torch.channels_last)


def test_compiled_batches_are_those_of_full_size():
    """Which network is asked for which batch; torch.compile itself is tried by the benchmark."""
    edge = made_edge()
    step = EdgeStep(edge, torch.optim.SGD(edge.parameters(), 0.1), 8)
    seen = []
    step.full_batch_forward = lambda images: seen.append(len(images)) or edge(images)
    frozen = copy.deepcopy(edge)
    for count in (8, 5):
        images = torch.randn(count, 3, 32, 32)
        step(images, torch.zeros(count, dtype=torch.int64))
        step.ask(edge, images)
        step.ask(frozen, images)
    assert seen == [8, 8]


@pytest.mark.parametrize(("name", "better"), [("mobilenet_v3_small", True), ("resnet18", False)])
def test_depthwise_networks_are_channels_last_on_a_cpu(name, better):
    net = build_edge(name, 10, 32)
    assert prefers_channels_last(net, torch.device("cpu")) is better
    assert not prefers_channels_last(net, torch.device("cuda"))


def test_rejectors_and_copies_see_the_images_as_they_are(monkeypatch):
    """The edge alone is given what augmentation makes of them."""
    seen, asked, update, ask = [], [], Rejectors._update, EdgeStep.ask
    monkeypatch.setattr(
        Rejectors, "_update", lambda s, *args: seen.append(args[0].max()) or update(s, *args)
    )
    monkeypatch.setattr(
        EdgeStep, "ask", lambda s, *args: asked.append(args[1].max()) or ask(s, *args)
    )
    one_pass(made_edge(), augment=lambda images, generator: images + 100)
    assert len(seen) == 7
    assert max(seen) <= 1
    assert max(asked) <= 1
