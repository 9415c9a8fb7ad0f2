"""RANet against published counts and names, and against its blocks written out from the names."""

import argparse
import hashlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad

from models.cost import exit_multiply_adds, parameters
from models.exit_net import each, keep
from models.ranet import RANet

EIGHT = {"scale_list": "1-2-3-3", "gr_factor": "4-2-1-1", "bn_factor": "4-2-1-1"}
# Blocks 1, 2, 3, 4 of two layers, an exit after the last of each flow, for images of 17 to 48 px.
SMALL = {"n_blocks": 1, "block_step": 1, "step": 2, "n_channels": 4, "growth_rate": 4} | EIGHT


def settings(**changes):
    """The defaults of the flags, with changes."""
    parser = argparse.ArgumentParser()
    RANet.add_flags(parser.add_argument_group())
    return vars(parser.parse_args([])) | changes


def new(changes, num_classes=5, size=20, seed=0):
    """A network whose batch norm has seen something, so that no path is lost behind 0 or 1."""
    torch.manual_seed(seed)
    net = RANet.from_settings(settings(**changes), num_classes, size)
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
            [
                15749632,
                31196160,
                44496768,
                50198912,
                60372544,
                63371328,
                89603200,
                94339200,
            ],
            1774,
            "ae2d6840fd73f5a3a98b3a773b0b37e0ca44b6bd43418e1850ef17757decaa67",
        ),
    ],
    ids=["6 exits", "8 exits"],
)
def test_published_counts_and_names(changes, count, cost, names, digest):
    """The digest is that of the sorted lines `name shape` of the published checkpoint."""
    net = RANet.from_settings(settings(**changes), 100, 32)
    assert parameters(net) == count
    assert net.num_exits == len(cost)
    assert exit_multiply_adds(net, torch.zeros(1, 3, 32, 32)) == cost
    lines = [f"{name} {shape}\n" for name, shape in sorted(shapes(net).items())]
    assert len(lines) == names
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == digest


def test_some_names_in_the_open():
    found = shapes(RANet.from_settings(settings(**EIGHT), 100, 32))
    expected = {
        "FirstLayer.layers.0.net.0.weight": "16x3x3x3",
        "FirstLayer.layers.3.net.0.weight": "64x32x3x3",
        "scale_flows.0.0.layers.0.conv_normal.net.1.num_batches_tracked": "-",
        "scale_flows.0.1.layers.3.conv_normal.net.0.weight": "96x232x1x1",
        "scale_flows.1.0.layers.0.conv_up.net.3.weight": "3x12x3x3",
        "scale_flows.1.0.layers.0.conv_normal.net.3.weight": "9x18x3x3",
        "scale_flows.1.1.conv_last.net.0.weight": "37x256x1x1",
        "scale_flows.1.1.trans.net.0.weight": "92x185x1x1",
        "scale_flows.3.4.trans.net.1.running_var": "101",
        "classifier.7.m.0.net.0.weight": "128x204x3x3",
        "classifier.7.linear.bias": "100",
    }
    assert {name: found[name] for name in expected} == expected
    assert "scale_flows.3.3.trans.net.0.weight" not in found


def test_a_published_style_checkpoint_loads_strictly(tmp_path):
    saved, net = new({}, 100, 32, seed=1), RANet.from_settings(settings(), 100, 32).eval()
    torch.save(saved.state_dict(), tmp_path / "ranet.pth")
    net.load_state_dict(torch.load(tmp_path / "ranet.pth", weights_only=True), strict=True)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for found, expected in zip(net(x), saved(x), strict=True):
            assert torch.equal(found, expected)


def from_names(weights, images, halved):
    """Logits in eval mode from a checkpoint alone: its names say what is fused and narrowed.

    All maps that a block's layers saw are kept. halved: (flow, block) whose last layer halves.
    """

    def conv(name, x, stride=1):
        """Convolution `name.0`, batch norm `name.1`, ReLU; then `name.3`, `name.4` likewise."""
        w = weights[f"{name}.0.weight"]
        pairs = [0, 3] if f"{name}.3.weight" in weights else [0]
        for i in pairs:
            w = weights[f"{name}.{i}.weight"]
            x = F.conv2d(x, w, stride=stride if i == pairs[-1] else 1, padding=w.shape[-1] // 2)
            mean, var = (weights[f"{name}.{i + 1}.running_{s}"] for s in ("mean", "var"))
            scale, shift = (weights[f"{name}.{i + 1}.{s}"] for s in ("weight", "bias"))
            x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
            x = torch.relu(x * scale[:, None, None] + shift[:, None, None])
        return x

    def to(x, y):
        return F.interpolate(x, y.shape[-2:], mode="bilinear", align_corners=True)

    def indices(prefix):
        found = {n[len(prefix) + 1 :].split(".")[0] for n in weights if n.startswith(f"{prefix}.")}
        return range(len(found & set(map(str, range(99)))))

    flows = indices("scale_flows")
    widths = [weights[f"FirstLayer.layers.{i}.net.0.weight"].shape[0] for i in flows]
    starts, x = [], images
    for i in flows:
        same = i == 0 or widths[i] == widths[i - 1]  # here, where the scale has no change
        x = conv(f"FirstLayer.layers.{i}.net", x, 1 if same else 2)
        starts.insert(0, x)
    logits, coarse = [], []
    for s in flows:
        x, features = starts[s], []
        for b in indices(f"scale_flows.{s}"):
            name, fused = f"scale_flows.{s}.{b}", b < len(coarse)
            layers, seen = indices(f"{name}.layers"), [x]
            for i in layers:
                stride = 2 if (s, b) in halved and i == layers[-1] else 1
                own = conv(f"{name}.layers.{i}.conv_normal.net", x, stride)
                up = [coarse[b][i]] if fused else []
                up = [to(conv(f"{name}.layers.{i}.conv_up.net", u), own) for u in up]
                x = torch.cat([to(x, own), *up, own], dim=1)
                seen.append(x)
            if fused:
                x = torch.cat([x, to(conv(f"{name}.conv_last.net", coarse[b][-1]), x)], dim=1)
            if f"{name}.trans.net.0.weight" in weights:
                x = conv(f"{name}.trans.net", x)
            features.append(seen)
            if not fused:
                head = f"classifier.{len(logits)}"
                y = conv(f"{head}.m.1.net", conv(f"{head}.m.0.net", x, 2), 2)
                y = F.avg_pool2d(y, 2).flatten(1)
                logits.append(
                    y @ weights[f"{head}.linear.weight"].T + weights[f"{head}.linear.bias"]
                )
        coarse = features
    return logits


@pytest.mark.parametrize(
    ("changes", "exits", "halved"),
    [
        (SMALL, 4, {(1, 0), (2, 0), (2, 1), (3, 1), (3, 2)}),
        (SMALL | {"step_mode": "lin_grow"}, 4, {(1, 0), (2, 0), (2, 1), (3, 1), (3, 2)}),
        # flow 1 has blocks 0..3, fuses the first, narrows in its second (1/2 of 4), unfused
        (SMALL | {"block_step": 3, "step": 1, "scale_list": "1-2", "gr_factor": "2-1"}
         | {"bn_factor": "3-2"}, 4, {(1, 0)}),
    ],
    ids=["even", "lin_grow", "narrowed where nothing is fused"],
)  # fmt: skip
def test_the_network_is_its_names_written_out(changes, exits, halved):
    net = new(changes, size=20).double()
    x = torch.randn(3, 3, 20, 20).double()
    with torch.no_grad():
        found, expected = net(x), from_names(net.state_dict(), x, halved)
    assert len(found) == len(expected) == exits
    for k in range(exits):
        torch.testing.assert_close(found[k], expected[k])


def test_lin_grow_adds_step_layers_a_block():
    net = RANet.from_settings(settings(step_mode="lin_grow", step=3), 5, 32)
    for flow, blocks in zip(net.scale_flows, (2, 4, 6), strict=True):
        assert [len(block.layers) for block in flow] == [3 * (b + 1) for b in range(blocks)]


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


def test_an_exit_needs_no_later_parameters():
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
    net = RANet.from_settings(settings(), 10, 32)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            std = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            assert layer.weight.std().item() == pytest.approx(std, rel=0.06)
            assert abs(layer.weight.mean().item()) < 0.06 * std


def test_it_learns():
    net = new(SMALL).train()
    x, y = torch.randn(20, 3, 20, 20), torch.arange(20) % 5
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        losses.append([F.cross_entropy(logits, y) for logits in net(x)])
        optimizer.zero_grad()
        sum(losses[-1]).backward()
        optimizer.step()
    assert all(last < 0.5 * first for first, last in zip(losses[0], losses[-1], strict=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_blocks": 0}, "--n_blocks 0: give 1 or more"),
        ({"block_step": 0}, "--block_step 0: give 1 or more"),
        ({"step": -1}, "--step -1: give 1 or more"),
        ({"n_channels": 0}, "--n_channels 0: give 1 or more"),
        ({"growth_rate": 0}, "--growth_rate 0: give 1 or more"),
        (
            {"gr_factor": "4-2"},
            "--gr_factor 4-2, --bn_factor 4-2-1: give the same number of values",
        ),
        ({"scale_list": "1-2-x"}, "--scale_list 1-2-x: give whole numbers"),
        ({"scale_list": "1-3-4"}, "--scale_list 1-3-4: start with 1; each later scale"),
        ({"scale_list": "1-2-1"}, "--scale_list 1-2-1: start with 1; each later scale"),
        ({"scale_list": "2-3-3"}, "--scale_list 2-3-3: start with 1"),
        ({"compress_factor": 0.0}, "--compress_factor 0: give a value between 0 and 1"),
        ({"compress_factor": 1.0}, "--compress_factor 1: give a value between 0 and 1"),
        ({"compress_factor": math.nan}, "--compress_factor nan: give a value"),
        ({"growth_rate": 3}, "--compress_factor 0.25: this share of the 3 channels that a layer"),
        ({"compress_factor": 0.1}, "of the 6 channels that a layer of sub-network 2 adds rounds"),
    ],
)
def test_bad_settings_are_refused(changes, said):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        RANet.from_settings(settings(**changes), 10, 32)
    assert said in str(refused.value)


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
