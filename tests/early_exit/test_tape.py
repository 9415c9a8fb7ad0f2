"""The derivative from the tape of a pass is that of the same pass made again in forward mode."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.meta_gradient import double_backward
from early_exit import meta_gradient
from early_exit.tangents import Refused
from early_exit.tape import Tape
from losses.early_exit import exit_losses
from models.exit_nets import EXIT_NETS
from tests.early_exit.test_meta_gradient import SGD, by_forward_mode, make
from tests.early_exit.toy import SMALL, settings_of

BERT = {"num_layers": 3, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 16, "vocab_size": 50}
CASES = [(arch, {}) for arch in SMALL] + [
    ("vit", {"vit_dropout": 0.3}),
    ("resnet", {"resnet": "resnet50", "stem": "imagenet"}),
    ("bert", BERT | {"bert_dropout": 0.2}),
    ("bert", BERT | {"bert_dropout": 0.0}),
]


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_like(tensors):
    return {name: torch.randn_like(x) for name, x in tensors.items()}


def taped(net, run):
    """What `run()` gives, its tape, and directions for the parameters of `net`."""
    params = dict(net.named_parameters())
    with Tape(params.values()) as tape:
        value = run()
    return value, tape, random_like(params)


def again(net, run_at, along):
    """The same derivative by torch's forward mode."""
    return meta_gradient.inner_products(run_at, dict(net.named_parameters()), along)


@pytest.mark.parametrize(
    ("arch", "changes", "channels_last"),
    [(*case, False) for case in CASES] + [("msdnet", {}, True), ("resnet", {}, True)],
)
def test_equals_forward_mode(arch, changes, channels_last):
    """On every network, with its dropout; and the pass can still be differentiated afterwards."""
    if arch == "bert":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = settings_of(arch, **(SMALL.get(arch, {}) | changes))
    net = EXIT_NETS[arch].from_settings(settings, 4, 32).train()
    inputs, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 4
    if arch == "bert":
        inputs = torch.randint(1, 50, (6, 2, 9))
        inputs[:, 1], inputs[:3, 0, 5:] = 0, 0  # one segment; padding
    if channels_last:
        net, inputs = (x.to(memory_format=torch.channels_last) for x in (net, inputs))
    state = meta_gradient.random_state(inputs.device)
    losses, tape, along = taped(net, lambda: exit_losses(net(inputs), labels, 0.1))
    with meta_gradient.same_dropout(state, inputs.device):
        expected = again(
            net, lambda p: exit_losses(meta_gradient.call(net, p, inputs), labels, 0.1), along
        )
    running = {name: x.clone() for name, x in net.named_buffers()}
    got = tape.along(along.values(), losses)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    assert not got.requires_grad
    assert all(torch.equal(x, running[name]) for name, x in net.named_buffers())
    losses.sum().backward()
    products = sum(
        (p.grad * along[name]).sum() for name, p in net.named_parameters() if p.grad is not None
    )
    torch.testing.assert_close(got.sum(), products)


def test_it_keeps_what_autograd_keeps():
    """The tape of MSDNet needs hardly a byte more than the graph of the pass has already."""
    torch.manual_seed(0)
    net = EXIT_NETS["msdnet"].from_settings(settings_of("msdnet", **SMALL["msdnet"]), 4, 32).train()
    saved = {}

    def note(x):
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        _, tape, _ = taped(
            net, lambda: exit_losses(net(torch.randn(8, 3, 32, 32)), torch.arange(8) % 4)
        )
    kept = {
        x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()
        for step in tape.steps
        for x, _ in step.reads
    }
    assert sum(kept.values()) > 1e6
    assert sum(size for at, size in kept.items() if at not in saved) < 0.01 * sum(kept.values())


class Odd(nn.Module):
    """Operations without a rule, tensors that are not learnt, an ended gradient, in-place sums."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.rand(6))
        self.frozen = nn.Parameter(torch.rand(6), requires_grad=False)

    def forward(self, x):
        h = self.first(x)
        h = torch.cat([h[:, :3].sigmoid(), 2 + h[:, 3:] - x[:, :3]], 1) * self.frozen
        h = F.layer_norm(h, (6,), self.scale) + h.detach().cos()
        parts = torch.stack(h.split(2, 1))
        top = torch.logsumexp(parts, 0).repeat(1, 3) / self.scale
        top += h
        return self.last(F.softplus(top) * torch.where(h > 0, h, 0.5))


def test_operations_without_a_rule():
    torch.manual_seed(0)
    net, x = Odd(), torch.randn(7, 5)
    value, tape, along = taped(net, lambda: net(x))
    params = {name: p for name, p in net.named_parameters() if p.requires_grad}
    expected = meta_gradient.inner_products(
        lambda p: torch.func.functional_call(net, p, (x,)), params, along
    )
    torch.testing.assert_close(tape.along(along.values(), value), expected)


def test_a_pass_under_autocast():
    """In bf16 too; the casts of the weights are part of the pass."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)
    )
    x = torch.randn(6, 3, 8, 8)

    def run(p):
        with torch.autocast("cpu", torch.bfloat16):
            return meta_gradient.call(net, p, x)

    with torch.autocast("cpu", torch.bfloat16):
        value, tape, along = taped(net, lambda: net(x))
    got, expected = tape.along(along.values(), value), again(net, run, along)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


class Rude(nn.Module):
    """A layer, and then something that a tape cannot follow."""

    def __init__(self, what):
        super().__init__()
        self.layer, self.what = nn.Linear(3, 4), what

    def forward(self, x):
        return self.what(self.layer(x))


def changed_view(h):
    part = h[:, :2]
    h.relu_()
    return part.cos()


@pytest.mark.parametrize(
    ("what", "telling"),
    [
        (lambda h: torch.bernoulli(h.sigmoid()) * h, "cannot be computed again"),
        (lambda h: torch.zeros(5, 4).copy_(h), "changes its input"),
        (changed_view, "changed beside the pass"),
        (lambda h: h * OUTSIDE.cos(), "made elsewhere"),
    ],
)
def test_refuses_what_it_cannot_follow(what, telling):
    net, x = Rude(what), torch.randn(5, 3)
    value, tape, along = taped(net, lambda: net(x))
    with pytest.raises(Refused, match=telling):
        tape.along(along.values(), value)


OUTSIDE = torch.ones(4, requires_grad=True)


@pytest.mark.parametrize("change", ["input", "weight"])
def test_refuses_where_the_pass_was_changed_since(change):
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)), torch.randn(5, 3)
    value, tape, along = taped(net, lambda: net(x))
    with torch.no_grad():
        (x if change == "input" else net[1].weight).add_(1)
    with pytest.raises(Refused, match="changed in place"):
        tape.along(along.values(), value)


def test_refuses_another_pass():
    net, x = nn.Linear(3, 4), torch.randn(5, 3)
    _, tape, along = taped(net, lambda: net(x))
    with pytest.raises(Refused, match="not of this pass"):
        tape.along(along.values(), net(x))


def with_tape(method, a, b):
    """The weight net's gradients by the tape of the pass that the real step would use."""
    with Tape(method.net.parameters()) as tape:
        losses, logits = method.both(a.images, a.labels)
    method.meta_optimizer.step = lambda: None
    state = method.random_state(a)
    method.train_weight_net(a, b, (losses, method.seen(a, losses, logits), state), tape)
    return [p.grad for p in method.weight_net.parameters()]


@pytest.mark.parametrize("name", [*SGD])
def test_the_meta_gradient_equals_double_backward(name):
    method, a, b = make(SGD[name], 0.1)
    expected, got = double_backward(method, a, b), with_tape(method, a, b)
    assert method.taped
    largest = max(e.abs().max() for e in expected)
    for e, g in zip(expected, got, strict=True):
        assert (e - g).abs().max() < 1e-9 * largest


def test_a_network_that_the_tape_refuses_is_trained_all_the_same():
    """An operation in place that has no rule: then forward mode, exact too, and no tape again."""

    class Doubled(nn.Module):
        def forward(self, x):
            return x.clone().mul_(2.0)

    gradients = []
    for follow in (True, False):
        method, a, b = make(SGD["nesterov"])
        method.net.classifier[1].linear = nn.Sequential(method.net.classifier[1].linear, Doubled())
        gradients.append(
            (with_tape if follow else by_forward_mode)(method, a, b, *[False][follow:])
        )
        assert method.taped is not follow
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-14)


def test_a_step_uses_the_tape(monkeypatch):
    """A whole step of L2W makes no pass in forward mode, and two with --save_memory."""
    counts = []
    for save_memory in (False, True):
        method, a, b = make(SGD["momentum"])
        method.save_memory, calls = save_memory, []
        inner = meta_gradient.inner_products
        monkeypatch.setattr(
            meta_gradient, "inner_products", lambda *x, c=calls, f=inner: c.append(1) or f(*x)
        )
        method.step(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]), 17)
        monkeypatch.setattr(meta_gradient, "inner_products", inner)
        counts.append(len(calls))
    assert counts == [0, 2]
