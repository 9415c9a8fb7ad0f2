"""RANet: published counts and names, logits of fixed weights, states, gradients, bad settings."""

import hashlib
import math

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from models.cost import exit_multiply_adds, parameters
from models.exit_net import each, keep
from models.ranet import RANet
from tests.made import fill_by_formula, one_line_error, settings_of

EIGHT = {"scale_list": "1-2-3-3", "gr_factor": "4-2-1-1", "bn_factor": "4-2-1-1"}
# Blocks 1, 2, 3, 4 of two layers, an exit after the last of each flow, for images of 17 to 48 px.
SMALL = {"n_blocks": 1, "block_step": 1, "step": 2, "n_channels": 4, "growth_rate": 4} | EIGHT


def new(changes, num_classes=5, size=20, seed=0):
    """A network whose batch norm has seen something, so that no path is lost behind 0 or 1."""
    torch.manual_seed(seed)
    net = RANet.from_settings(settings_of("ranet", **changes), num_classes, size)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_(0, 0.2)
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return net.eval()


def shapes(net):
    return {name: "x".join(map(str, t.shape)) or "-" for name, t in net.state_dict().items()}


@pytest.mark.parametrize(
    ("changes", "count", "cost", "names", "digest"),
    [
        (
            {},
            2_520_818,
            [13390336, 28836864, 42137472, 47839616, 58013248, 61012032],
            1020,
            "e7d80e36f22ed7380cbd54fd5e925fa855ed59d63603431902c32fc56aac34b5",
        ),
        (
            EIGHT,
            3_354_710,
            [15749632, 31196160, 44496768, 50198912, 60372544, 63371328, 89603200, 94339200],
            1774,
            "ae2d6840fd73f5a3a98b3a773b0b37e0ca44b6bd43418e1850ef17757decaa67",
        ),
    ],
    ids=["6 exits", "8 exits"],
)
def test_published_counts_and_names(changes, count, cost, names, digest):
    """The digest is that of the sorted lines `name shape` of the published checkpoint."""
    net = RANet.from_settings(settings_of("ranet", **changes), 100, 32)
    assert parameters(net) == count
    assert net.num_exits == len(cost)
    assert exit_multiply_adds(net, torch.zeros(1, 3, 32, 32)) == cost
    lines = [f"{name} {shape}\n" for name, shape in sorted(shapes(net).items())]
    assert len(lines) == names
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest


# Logits of class 0 at each exit. A second implementation, which read fusion, halving and reduction
# off the published parameter names, gave the same values.
LOGITS = {
    "even": ({}, [0.190740, 0.484311, 0.798540, 0.601793]),
    "lin_grow": ({"step_mode": "lin_grow"}, [0.807673, 0.564743, 0.204118, 0.353047]),
    "a reduction without fusion": (
        {"block_step": 3, "step": 1, "scale_list": "1-2", "gr_factor": "2-1", "bn_factor": "3-2"},
        [0.309053, 0.227930, 0.603041, 0.807937],
    ),
}


@pytest.mark.parametrize("case", LOGITS)
def test_logits_of_fixed_weights(case):
    """Order of concatenation and interpolation are part of the format of published weights."""
    changes, expected = LOGITS[case]
    net = fill_by_formula(RANet.from_settings(settings_of("ranet", **SMALL | changes), 5, 20))
    image = torch.cos(torch.arange(1200, dtype=torch.float64) * 0.37).view(1, 3, 20, 20)
    with torch.no_grad():
        assert [y[0, 0].item() for y in net(image)] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("rows", [[3, 0], [False, True, False, True, True]], ids=["int", "bool"])
def test_stepping_and_leaving(rows):
    """block and head in turn are forward; samples may leave after any exit."""
    net, x, rows = new(SMALL), torch.randn(5, 3, 20, 20), torch.tensor(rows)
    with torch.no_grad():
        logits = net(x)
        for leave in range(net.num_exits):
            state = x
            for k in range(net.num_exits):
                state = net.block(k, state)
                if k <= leave:
                    assert torch.equal(net.head(k, state), logits[k])
                if k == leave:
                    state = keep(state, rows)
                if k >= leave:
                    torch.testing.assert_close(net.head(k, state), logits[k][rows])


def test_the_state_holds_what_is_still_needed_once():
    """Exit by exit: the last map; maps that the next flow fuses; inputs of flows to come."""
    net, state, found = new({}, 5, 32), torch.randn(2, 3, 32, 32), []
    with torch.no_grad():
        for k in range(net.num_exits):
            state = net.block(k, state)
            found.append(each(lambda x: x.shape, state))
    # every tensor has one row a sample
    inputs = [(2, 32, 16, 16), (2, 16, 32, 32)]
    first = [[(2, 80, 16, 16)], [(2, 136, 16, 16), (2, 148, 8, 8)], [(2, 140, 8, 8)]]
    assert found == [
        [(2, 160, 8, 8), [[(2, 160, 8, 8)]], inputs],
        [(2, 256, 8, 8), [[(2, 160, 8, 8)], [(2, 256, 8, 8)]], inputs],
        [(2, 140, 8, 8), first, inputs[1:]],
        [(2, 188, 8, 8), [*first, [(2, 188, 8, 8)]], inputs[1:]],
        [(2, 93, 8, 8), [], []],
        [(2, 117, 8, 8), [], []],
    ]


@pytest.mark.parametrize("changes", [SMALL, SMALL | {"step_mode": "lin_grow"}])
def test_every_parameter_has_a_gradient(changes):
    net = new(changes).train()
    sum(y.square().sum() for y in net(torch.randn(4, 3, 20, 20))).backward()
    none = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert none == []


def test_an_exit_has_no_gradient_for_later_parameters():
    """Exit k's logits have gradients for its own head and the blocks so far, and none beyond."""
    net, x = new({}, 5, 32), torch.randn(2, 3, 32, 32)
    flow_of_exit, blocks_in_reach = [0, 0, 1, 1, 2, 2], [1, 2, 3, 4, 5, 6]
    for k, y in enumerate(net(x)):
        net.zero_grad()
        y.square().sum().backward(retain_graph=True)
        used = {n for n, p in net.named_parameters() if p.grad is not None}
        assert {n.split(".")[1] for n in used if n.startswith("classifier")} == {str(k)}
        blocks = {tuple(map(int, n.split(".")[1:3])) for n in used if n.startswith("scale_flows")}
        assert max(s for s, _ in blocks) == flow_of_exit[k]
        assert max(b for s, b in blocks if s == flow_of_exit[k]) == blocks_in_reach[k] - 1


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, for its own scripting
def test_forward_mode_differentiates_in_train_mode():
    """What weighting samples by an exact meta-gradient needs: J v equals the backward pass."""
    net = new(SMALL).double().train()
    x = torch.randn(3, 3, 20, 20).double()
    v = {n: torch.randn_like(p) for n, p in net.named_parameters()}
    sum(y.logsumexp(1).sum() for y in net(x)).backward()
    expected = sum((p.grad * v[n]).sum() for n, p in net.named_parameters())
    with forward_ad.dual_level():
        duals = {n: forward_ad.make_dual(p.detach(), v[n]) for n, p in net.named_parameters()}
        loss = sum(y.logsumexp(1).sum() for y in torch.func.functional_call(net, duals, (x,)))
        torch.testing.assert_close(forward_ad.unpack_dual(loss).tangent, expected)


def test_initialisation():
    torch.manual_seed(0)
    net = RANet.from_settings(settings_of("ranet"), 10, 32)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            std = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            assert layer.weight.std().item() == pytest.approx(std, rel=0.06)
            assert abs(layer.weight.mean().item()) < 0.06 * std


@pytest.mark.parametrize(
    ("changes", "telling"),
    [
        ({"gr_factor": "4-2"}, "--gr_factor 4-2, --bn_factor 4-2-1: give the same number"),
        ({"scale_list": "1-2-x"}, "--scale_list 1-2-x: give whole numbers"),
        ({"scale_list": "1-3-4"}, "--scale_list 1-3-4: start with 1; each later scale"),
        ({"scale_list": "1-2-1"}, "--scale_list 1-2-1: start with 1; each later scale"),
        ({"scale_list": "2-3-3"}, "--scale_list 2-3-3: start with 1"),
        ({"growth_rate": 3}, "--compress_factor 0.25: this share of the 3 channels that a layer"),
        ({"compress_factor": 0.1}, "of the 6 channels that a layer of sub-network 2 adds rounds"),
    ],
)
def test_bad_settings(changes, telling):
    with one_line_error(telling):
        RANet.from_settings(settings_of("ranet", **changes), 10, 32)


def test_one_sub_network_fuses_nothing():
    """So that no share of its 3 new channels is too small."""
    one = {"scale_list": "1", "gr_factor": "1", "bn_factor": "1", "growth_rate": 3}
    net = new(SMALL | one | {"n_blocks": 3}, size=8)
    assert [y.shape for y in net(torch.randn(2, 3, 8, 8))] == [(2, 5)] * 3
    assert not any("conv_up" in name or "conv_last" in name for name in net.state_dict())


@pytest.mark.parametrize(("scales", "least", "most"), [("1", 5, 12), ("1-2-2", 9, 24)])
def test_image_sizes(scales, least, most):
    """The limits that are refused are where the heads fail."""
    ones = "-".join("1" for _ in scales.split("-"))
    changes = SMALL | {"scale_list": scales, "gr_factor": ones, "bn_factor": ones}
    for size in (least, most):
        net = new(changes, size=size)
        with torch.no_grad():
            assert {y.shape for y in net(torch.randn(2, 3, size, size))} == {(2, 5)}
    for size in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"takes images of {least} to {most} px, .* {size}:"):
            new(changes, size=size)
        with pytest.raises(RuntimeError):
            net(torch.randn(2, 3, size, size))
