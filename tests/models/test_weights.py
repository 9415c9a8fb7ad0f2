"""Filling a network: nothing is drawn for what is filled next, and no infinity gets in."""

import signal

import pytest
import torch

from models.checkpoints import edge_net, rejector_net
from models.edgenet import ViT, build_edge
from models.rejector import Rejector
from models.weights import NothingDrawn, fill


@pytest.mark.parametrize(
    "make",
    [
        lambda: build_edge("squeezenet1_1", 5, 32),  # normal_ and kaiming_uniform_
        lambda: build_edge("regnet_y_400mf", 5, 32),  # reads numbers out of tensors meanwhile
        lambda: ViT(5, 32).vit.encoder.layers[0],  # trunc_normal_, xavier_uniform_, normal_
        Rejector,
    ],
    ids=["squeezenet1_1", "regnet_y_400mf", "vit", "rejector"],
)
def test_nothing_is_drawn(make):
    with NothingDrawn():
        net = make()
    weights = {name: value for name, value in net.named_parameters() if value.ndim > 1}
    assert weights
    assert not any(value.any() for value in weights.values())
    shapes = [(name, value.shape) for name, value in net.state_dict().items()]
    assert shapes == [(name, value.shape) for name, value in make().state_dict().items()]
    assert all(value.any() for value in dict(make().named_parameters()).values() if value.ndim > 1)


@pytest.mark.parametrize("bounds", [(-2, 2), (0.1, 5), (-0.001, 0.001), (2, 3)])
@pytest.mark.parametrize("before", [1e30, 0.0, float("nan"), float("inf")])
def test_drawing_until_within_bounds_comes_to_an_end(bounds, before):
    """trunc_normal_ looks at what it drew: at the memory that the parameter was given, if nothing.

    That memory was once left as it is, and what lay outside of the bounds was drawn for ever.
    """
    weight = torch.nn.Parameter(torch.full((50, 3), before))

    def stuck(*_):
        raise TimeoutError

    handler = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(5)
    try:
        with NothingDrawn():
            torch.nn.init.trunc_normal_(weight, a=bounds[0], b=bounds[1])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert weight.abs().max() <= max(map(abs, bounds))


def test_a_network_of_a_checkpoint_has_its_weights():
    edge = build_edge("convnet", 4, 32, seed=3)
    about = {"kind": "edge", "net": "convnet", "edge_size": 32, "num_classes": 4}
    found = edge_net(about | {"state_dict": edge.state_dict()}, 4, "here")
    rejector = Rejector()
    other = rejector_net({"kind": "rejector", "state_dict": rejector.state_dict()}, "here")
    for ours, theirs in ((found, edge), (other, rejector)):
        theirs = theirs.state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in ours.state_dict().items())


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
