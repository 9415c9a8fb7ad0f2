"""The stack cut over rejectors and samples."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from models.localnet import pooled
from models.rejector import Rejector, StackedRejectors


def even_images(count):
    """Half of each image is one shade: convolutions of it are equal, so pooling has ties."""
    images = torch.randn(count, 3, 32, 32)
    images[..., :16] = 0.5
    return images


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("rejectors", "chunk"), [(1, 1), (2, 6), (3, 12), (8, 1000)])
def test_any_cut_gives_what_each_gives_alone(rejectors, chunk, training, monkeypatch):
    monkeypatch.setattr("models.rejector.CPU_REJECTORS", rejectors)
    monkeypatch.setattr("models.rejector.CPU_CHUNK", chunk)
    torch.manual_seed(0)
    singles, x = [Rejector() for _ in range(7)], even_images(5)
    stacked = StackedRejectors(singles)
    with torch.set_grad_enabled(training):
        logits = stacked(x)
        each = torch.stack([net(x) for net in singles])
    torch.testing.assert_close(logits, each, rtol=0, atol=1e-6)
    if training:
        logits.square().sum().backward()
        each.square().sum().backward()
        for name, values in zip(stacked.names, stacked.values, strict=True):
            wanted = torch.stack([net.get_parameter(name).grad for net in singles])
            torch.testing.assert_close(values.grad, wanted, rtol=1e-4, atol=1e-5)


def test_pooling_without_gradients_is_pooling():
    torch.manual_seed(0)
    x = torch.randint(-3, 3, (4, 6, 10, 8)).float()  # full of ties
    for memory in (torch.contiguous_format, torch.channels_last):
        y = x.contiguous(memory_format=memory)
        wanted = F.relu(F.max_pool2d(y, 2))
        assert torch.equal(pooled(y), wanted)
        assert torch.equal(pooled(y.clone().requires_grad_()), wanted)
    y.requires_grad_()
    gradients = [
        torch.autograd.grad(f(y).sum(), y)[0] for f in (pooled, lambda y: F.max_pool2d(y, 2).relu())
    ]
    assert torch.equal(*gradients)


def test_a_gpu_is_never_waited_for():
    """A pretended GPU: a mix of devices, or a value read back, would raise."""
    with FakeTensorMode(), torch.device("cuda"):
        stacked = StackedRejectors([Rejector() for _ in range(3)])
        logits = stacked(torch.randn(4, 3, 28, 28))  # a backward pass needs a real one
    assert logits.shape == (3, 4, 2)
    assert logits.device.type == "cuda"
