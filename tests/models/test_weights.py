"""Filling a network: a saved one is read whole, and no infinity gets in."""

import signal

import pytest
import torch

from models.checkpoints import edge_net, rejector_net
from models.edgenet import ViT, build_edge
from models.rejector import Rejector
from models.weights import fill

ABOUT = {"kind": "edge", "edge_size": 32, "num_classes": 4}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("convnet", 32), ("mobilenet_v3_small", 32),
        ("regnet_y_400mf", 32),  # reads numbers out of tensors while it is built
        ("swin_t", 32),  # has buffers that are computed
    ],
)  # fmt: skip
def test_a_saved_edge_net_is_the_one_that_was_saved(name, size):
    """Also after a training step, and no random number is used up in reading it."""
    edge = build_edge(name, 4, size, seed=3)
    images = torch.randn(4, 3, size, size)
    edge(images)  # batch norm's statistics move
    edge.eval()
    state = {k: v.double() if v.is_floating_point() else v for k, v in edge.state_dict().items()}
    random = torch.get_rng_state()
    again = edge_net(ABOUT | {"net": name, "edge_size": size, "state_dict": state}, 4, "here")
    assert torch.equal(torch.get_rng_state(), random)
    assert not again.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in again.parameters())
    with torch.no_grad():
        torch.testing.assert_close(again(images), edge(images), rtol=0, atol=0)


def test_a_saved_vit_is_read_without_hanging():
    """Once its truncated normal weights were drawn anew for ever; they need no drawing at all."""
    with torch.device("meta"):
        empty = ViT(4, 224).state_dict()
    state = {k: torch.full(v.shape, 0.5) for k, v in empty.items()}

    def stuck(*_):
        raise TimeoutError

    handler = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(60)
    try:
        vit = edge_net(ABOUT | {"net": "vit", "edge_size": 224, "state_dict": state}, 4, "here")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert all(bool((p == 0.5).all()) for p in vit.parameters())


def test_a_saved_rejector_has_its_weights():
    rejector = Rejector()
    again = rejector_net({"kind": "rejector", "state_dict": rejector.state_dict()}, "here")
    expected = rejector.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize("values", [[float("nan")], [float("inf")], [float("inf"), -float("inf")]])
def test_weights_that_are_not_finite(values):
    state = Rejector().state_dict()
    state["fc1.weight"][0, : len(values)] = torch.tensor(values)
    with pytest.raises(ValueError, match="here: holds weights that are not finite"):
        fill(Rejector(), state, "here", "rejector")


def test_weights_whose_sum_alone_is_infinite():
    state = Rejector().state_dict()
    state["fc1.weight"][0, :4] = 3e38
    assert fill(Rejector(), state, "here", "rejector").fc1.weight[0, 3] == 3e38
