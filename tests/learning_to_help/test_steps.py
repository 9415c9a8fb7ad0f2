"""One pass as a CUDA graph would run it, in bfloat16, compiled and channels last, against plain."""

import copy

import pytest
import torch
from torch import nn

import data
from data.augment import flip_crop
from experiment.cuda_graph import set_lr, steer
from learning_to_help.edge_copies import adaptive
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.edgenet import build_edge, prefers_channels_last
from tests import recorded
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


def one_pass(edge, epochs=2, capture=None, augment=None, falls=False, outages=(), **how):
    """L1, L2, the edge and the rejectors after some epochs of 7 batches, the last one smaller."""
    part, device = made_part(), torch.device("cpu")
    batches = data.Batches(part, 8, device, shuffle=True, augment=augment)
    optimizer = torch.optim.SGD(edge.parameters(), 0.05, 0.9, fused=True)
    step = EdgeStep(edge, optimizer, 8, capture=capture, **how)
    link = {"probe": batches.plain(torch.arange(8)), "probe_every": 3, "outages": outages}
    rejectors = Rejectors(
        SETTINGS, edge, device, seed=0, lr=0.01, momentum=0.9, capture=capture, ask=step.ask, **link
    )
    local_logits = torch.randn(54, 4, generator=torch.Generator().manual_seed(4))
    both = optimizer, rejectors.optimizer
    for each in both:
        steer(each, device if capture and falls else None)

    def schedule(i):
        if falls:
            for each, lr in zip(both, (0.05, 0.01), strict=True):
                set_lr(each, lr / (1 + i))

    losses = []
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        losses.append(train_one_epoch(step, rejectors, batches, local_logits, epoch, "", schedule))
    l1, l2 = (torch.cat(parts) for parts in zip(*losses, strict=True))
    return l1, l2, edge.state_dict(), rejectors, step


@pytest.mark.parametrize(
    "flags",
    [{}, {"augment": flip_crop}, {"falls": True}, {"outages": [(3, 9)]}],
    ids=["plain", "augmented", "falling rate", "outage"],
)
def test_replayed_it_is_the_same_to_the_bit(flags):
    """Losses, edge and rejectors of every S, from graphs that run no Python of their steps."""
    first = made_edge()
    l1, l2, edge, rejectors, _ = one_pass(copy.deepcopy(first), **flags)
    r1, r2, other, replayed, step = one_pass(first, capture=recorded.capture, **flags)
    assert step.step.replay is not None
    assert step.edge_answers.replay is not None
    assert replayed.update.replay is not None
    assert l1.isfinite().all()
    assert torch.equal(l1, r1)
    assert torch.equal(l2, r2)
    assert len(l2.unique()) > len(l2) * 5  # the settings do differ
    for name, value in edge.items():
        assert torch.equal(value, other[name]), name
    for a, b in zip(rejectors.net.values, replayed.net.values, strict=True):
        assert torch.equal(a, b)
    assert rejectors.copies.sent(2) == replayed.copies.sent(2)


def test_a_loss_is_of_its_own_step():
    """Graphs give the same memory each step; what is kept of it must have been copied."""
    l1, l2, *_ = one_pass(made_edge(), capture=recorded.capture)
    assert len(l1.unique()) == len(l1) == 14
    assert (l2[1:] != l2[:-1]).any(1).all()


def test_bf16_is_near_and_leaves_weights_and_rejectors_float32():
    first = made_edge()
    l1, l2, *_ = one_pass(copy.deepcopy(first), epochs=1)
    b1, b2, edge, rejectors, step = one_pass(first, epochs=1, bf16=True)
    assert {v.dtype for k, v in edge.items() if "tracked" not in k} == {torch.float32}
    assert {v.dtype for v in rejectors.net.values} == {torch.float32}
    assert not torch.equal(l1, b1)  # it does compute otherwise
    assert torch.allclose(l1, b1, atol=0.05)
    assert torch.allclose(l2[:2], b2[:2], atol=0.01)
    loss, logits = step(torch.randn(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64))
    assert loss.dtype == logits.dtype == torch.float32


def test_channels_last_is_the_same_up_to_rounding():
    first = made_edge()
    first[3].p = 0.0  # which units are dropped hangs on the order in memory
    l1, *_ = one_pass(copy.deepcopy(first), epochs=1)
    edge = first.to(memory_format=torch.channels_last)
    c1, _, state, *_ = one_pass(edge, epochs=1, channels_last=True)
    assert torch.allclose(l1, c1, atol=1e-5)
    assert state["0.weight"].is_contiguous(memory_format=torch.channels_last)


def test_compiled_batches_are_those_of_full_size():
    """Which network is asked for which batch; torch.compile itself is tried by the benchmark."""
    edge = made_edge()
    step = EdgeStep(edge, torch.optim.SGD(edge.parameters(), 0.1), 8)
    step.fast, seen = nn.Module(), []
    step.fast.forward = lambda images: seen.append(len(images)) or edge(images)
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
    one_pass(made_edge(), epochs=1, augment=lambda images, generator: images + 100)
    assert len(seen) == 7
    assert max(seen) <= 1
    assert max(asked) <= 1


def test_what_a_resume_reads_has_rates_as_numbers():
    """Whatever a graph needs: a run may go on on another device."""
    *_, rejectors, _ = one_pass(made_edge(), epochs=1, capture=recorded.capture, falls=True)
    assert isinstance(rejectors.optimizer.param_groups[0]["lr"], torch.Tensor)
    (group,) = rejectors.state()["rejector_optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(0.01 / 7)
    assert isinstance(group["lr"], float)
