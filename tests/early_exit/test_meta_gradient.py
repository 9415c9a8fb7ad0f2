"""The meta-gradient in forward mode against a double backward pass through the pseudo-step."""

import copy

import pytest
import torch

import experiment
from benchmarks.meta_gradient import double_backward
from deferral.exits import shares as shares_of_exits
from early_exit import meta_gradient
from early_exit.methods import L2W, Half
from experiment import cuda_graph as graphs
from experiment.parallel import Workers
from losses.early_exit import exit_losses
from models.exit_nets import EXIT_NETS
from models.msdnet import MSDNet
from models.weight_net import WeightNet, sample_weights
from tests.early_exit.toy import ARCHS, settings_of
from tests.early_exit.toy import SMALL as TOY

SMALL = {
    "n_blocks": 3,
    "base": 2,
    "step": 1,
    "step_mode": "even",
    "n_channels": 4,
    "growth_rate": 2,
    "gr_factor": "1-2-4",
    "bn_factor": "1-2-4",
    "prune": "max",
    "reduction": 0.5,
    "stem": "cifar",
}
SGD = {
    "plain": {},
    "weight decay": {"weight_decay": 0.01},
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True},
}
ADAM = {"adamw": {"weight_decay": 0.01, "eps": 1e-6}}  # any eps; a larger one bends the step more


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(optimizer, label_smoothing=0.0, dimension="col", inputs="loss", warm=True):
    """A small MSDNet in train mode whose optimizer has taken a step, and its L2W method."""
    torch.manual_seed(0)
    net = MSDNet.from_settings(SMALL, 4, 32).train()
    weight_net = WeightNet(3, inputs, hidden=8)
    kind = torch.optim.AdamW if "eps" in optimizer else torch.optim.SGD
    stepper = kind(net.parameters(), 0.05, **optimizer)
    method = L2W(
        net, net, stepper, Workers(), label_smoothing,
        weight_net=weight_net, meta_optimizer=torch.optim.Adam(weight_net.parameters(), 1e-2),
        dimension=dimension, shares=shares_of_exits(0.75, 3),
    )  # fmt: skip
    a, b = (
        Half(torch.randn(n, 3, 32, 32), torch.randint(0, 4, (n,)), n, f)
        for n, f in ((9, 0), (8, 9))
    )
    if warm:
        method.update(exit_losses(net(a.images), a.labels).sum(), a.total)
    return method, a, b


def by_forward_mode(method, a, b, save_memory):
    passed = None
    if not save_memory:
        state = experiment.random_state(a.images.device)
        logits = method.model(method.laid_out(a.images))
        losses = exit_losses(logits, a.labels, method.label_smoothing)
        passed = losses, method.weight_inputs(a, losses, logits), state
    method.meta_optimizer.step = lambda: None
    method.train_weight_net(a, b, passed)
    assert method.net.training
    if passed:
        losses.sum().backward()  # the graph is there for the real step
    return [p.grad for p in method.weight_net.parameters()]


def assert_same(method, a, b, save_memory=False):
    expected = double_backward(method, a, b)
    got = by_forward_mode(method, a, b, save_memory)
    largest = max(e.abs().max() for e in expected)
    assert largest > 1e-7  # else agreement would mean nothing
    for e, g in zip(expected, got, strict=True):
        assert (e - g).abs().max() < 1e-10 * max(1, largest)
        assert (e - g).abs().max() < 1e-8 * largest


@pytest.mark.parametrize("name", SGD)
def test_equals_double_backward(double, name):
    assert_same(*make(SGD[name], 0.1))


@pytest.mark.parametrize("warm", [False, True])
def test_equals_double_backward_through_a_step_of_adamw(double, warm):
    assert_same(*make(ADAM["adamw"], 0.1, warm=warm))


@pytest.mark.parametrize(("dimension", "inputs"), [("mat", "conf"), ("row", "both")])
def test_equals_double_backward_whatever_the_weight_net(double, dimension, inputs):
    assert_same(*make(SGD["nesterov"], 0.1, dimension, inputs))


def test_equals_double_backward_with_a_pass_of_its_own(double):
    assert_same(*make(SGD["nesterov"], 0.1), save_memory=True)


def test_under_bfloat16_the_meta_gradient_is_that_of_float64():
    """Of `half` as a training step takes it, at the start of a training and after some steps."""
    bf16 = graphs.autocast(torch.device("cpu"), True)
    method, *halves = make(SGD["momentum"], warm=False)
    method.autocast = bf16
    method.meta_optimizer = torch.optim.SGD(method.weight_net.parameters(), 0.0)
    exact, *_ = make(SGD["momentum"], warm=False)
    exact.net.double()
    exact.weight_net.double()
    for _ in range(2):
        exact.net.load_state_dict(method.net.state_dict())
        exact.optimizer.load_state_dict(copy.deepcopy(method.optimizer.state_dict()))
        in_double = (h._replace(images=h.images.double()) for h in halves)
        expected = torch.cat([g.flatten() for g in double_backward(exact, *in_double)])
        method.half(*halves, True)
        got = torch.cat([p.grad.flatten() for p in method.weight_net.parameters()])
        assert torch.cosine_similarity(got.double(), expected, dim=0) > 0.999
        assert (got - expected).norm() < 0.005 * expected.norm()


@pytest.mark.parametrize("way", ["plain", "save_memory", "bf16"])
def test_nothing_of_the_meta_gradient_is_in_tf32(way, monkeypatch):
    """Which is on by default for convolutions on CUDA; other passes have it as it was."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    method, *halves = make(SGD["momentum"])
    method.save_memory = way == "save_memory"
    if way == "bf16":
        method.autocast = graphs.autocast(torch.device("cpu"), True)
    passes = []
    method.net.register_forward_hook(lambda *_: passes.append(torch.backends.cudnn.allow_tf32))
    for meta in (True, False):
        method.half(*halves, meta)
    own, *rest = passes
    real = [True] if way != "plain" else []  # else the real step takes the meta-gradient's pass
    others = [False, False]  # over the other half, and in forward mode
    assert [own, *rest] == [False, *others, *real, True]
    assert torch.backends.cudnn.allow_tf32


def test_both_ways_take_the_same_steps(double):
    """The real steps too, and the running statistics."""
    states = []
    for save_memory in (False, True):
        method, a, b = make(SGD["momentum"])
        method.save_memory = save_memory
        method.step(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]), 17)
        states.append(method.net.state_dict() | method.weight_net.state_dict())
    for name, x in states[0].items():
        torch.testing.assert_close(x, states[1][name], rtol=1e-12, atol=1e-13)


def test_first_step_has_no_momentum_buffer_yet(double):
    assert_same(*make(SGD["nesterov"], warm=False))


@pytest.mark.parametrize("name", [*SGD, *ADAM])
@pytest.mark.parametrize("warm", [False, True])
def test_pseudo_step_is_the_step_of_the_optimizer(double, name, warm):
    method, a, _ = make((SGD | ADAM)[name], warm=warm)
    params = dict(method.net.named_parameters())
    loss = exit_losses(method.net(a.images), a.labels).mean(0).sum()
    gradients = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
    stepped = meta_gradient.pseudo_step(
        params, dict(zip(params, gradients, strict=True)), method.optimizer
    )
    before = {name: p.detach().clone() for name, p in params.items()}
    for p, g in zip(params.values(), gradients, strict=True):
        p.grad = g
    method.optimizer.step()
    for key, p in params.items():
        torch.testing.assert_close(stepped[key], p.detach(), rtol=0, atol=1e-15)
    assert any((before[key] != p).any() for key, p in params.items())


def test_running_statistics_move_once_a_half(double):
    """Only the real pass over a half counts: neither the meta pass nor the one in forward mode."""
    method, a, b = make(SGD["momentum"])
    counts = [x for name, x in method.net.named_buffers() if name.endswith("num_batches_tracked")]
    start = int(counts[0])
    method.step(torch.cat([a.images, b.images]), torch.cat([a.labels, b.labels]), 17)
    assert {int(c) for c in counts} == {start + 2}


def test_inner_products_are_those_with_each_gradient(double):
    method, a, _ = make({})
    params = dict(method.net.named_parameters())
    along = {name: torch.randn_like(p) for name, p in params.items()}

    def losses(p):
        return exit_losses(meta_gradient.call(method.net, p, a.images), a.labels)

    got = meta_gradient.inner_products(losses, params, along)
    each = losses(params)
    for i, k in ((0, 0), (3, 1), (8, 2)):
        gradients = torch.autograd.grad(
            each[i, k], list(params.values()), retain_graph=True, materialize_grads=True
        )
        expected = sum((g * v).sum() for g, v in zip(gradients, along.values(), strict=True))
        assert abs(got[i, k] - expected) < 1e-12 * max(1, abs(expected))
    assert not got.requires_grad


BERT = {"num_layers": 3, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 16, "vocab_size": 50}


@pytest.mark.parametrize(
    ("arch", "changes"),
    [(arch, {}) for arch in ARCHS] + [("vit", {"vit_dropout": 0.3}), ("bert", {})],
)
def test_forward_mode_equals_backward_on_every_network(double, arch, changes):
    """With its dropout, and the pass itself can still be differentiated afterwards."""
    if arch == "bert":
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = settings_of(arch, **(BERT if arch == "bert" else TOY[arch]), **changes)
    net = EXIT_NETS[arch].from_settings(settings, 4, 32).train()
    inputs, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 4
    if arch == "bert":
        inputs = torch.randint(1, 50, (6, 2, 9))
        inputs[:, 1], inputs[:3, 0, 5:] = 0, 0  # one segment; padding
    params = dict(net.named_parameters())
    along = {name: torch.randn_like(p) for name, p in params.items()}
    state = experiment.random_state(inputs.device)
    losses = exit_losses(net(inputs), labels, 0.1)
    running = {name: x.clone() for name, x in net.named_buffers()}
    with meta_gradient.same_dropout(state, inputs.device):
        products = meta_gradient.inner_products(
            lambda p: exit_losses(meta_gradient.call(net, p, inputs), labels, 0.1), params, along
        )
    assert all(torch.equal(x, running[name]) for name, x in net.named_buffers())
    for i, k in ((0, 0), (5, net.num_exits - 1)):
        gradients = torch.autograd.grad(
            losses[i, k], list(params.values()), retain_graph=True, materialize_grads=True
        )
        expected = sum((g * v).sum() for g, v in zip(gradients, along.values(), strict=True))
        torch.testing.assert_close(products[i, k], expected, rtol=1e-10, atol=1e-10)


def test_dropout_is_the_same_in_both_passes(double):
    """Else the inner products would belong to another network than the one that takes the step."""
    method, a, b = make({})
    method.net.classifier[0].linear = torch.nn.Sequential(
        torch.nn.Dropout(0.5), method.net.classifier[0].linear
    )
    state = experiment.random_state(a.images.device)
    first = method.net(a.images)[0]
    second = method.net(a.images)[0]
    assert (first != second).any()
    before = torch.get_rng_state()
    with meta_gradient.same_dropout(state, a.images.device):
        again = meta_gradient.call(method.net, dict(method.net.named_parameters()), a.images)[0]
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert b.total == 8


def test_weights_have_mean_one_where_they_are_told_to():
    scores = torch.tensor([[0.5, -0.5], [0.1, 0.3]])
    for dimension, dim in (("mat", None), ("col", 1), ("row", 0)):
        weights = sample_weights(scores, 0.8, dimension)
        mean = weights.mean() if dim is None else weights.mean(dim)
        torch.testing.assert_close(mean, torch.ones_like(mean))
    expected = 1 + 0.8 * (scores - 0.1)
    torch.testing.assert_close(sample_weights(scores, 0.8, "mat"), expected)
    expected = 1 + 0.8 * torch.tensor([[0.5, -0.5], [-0.1, 0.1]])
    torch.testing.assert_close(sample_weights(scores, 0.8, "col"), expected)


def test_the_algorithm_written_out(double):
    """Two batches of `step`, the weight net trained at the first: algorithm 1 step by step.

    Meta-gradient by double backward, a step of Adam, the real step on the weighted loss of the same
    half; then the halves change places.
    """
    ours, a, b = make(SGD["nesterov"], 0.1)
    plain, _, _ = make(SGD["nesterov"], 0.1)
    ours.meta_interval = 2
    batches = [torch.cat([a.images, b.images]) + k / 10 for k in range(2)]
    labels = torch.cat([a.labels, b.labels])
    for number, images in enumerate(batches):
        sums = ours.step(images, labels, 17)
        halves = [Half(images[:9], labels[:9], 9, 0), Half(images[9:], labels[9:], 8, 9)]
        expected = 0
        for one, other in (halves, halves[::-1]):
            if number % 2 == 0:
                gradients = double_backward(plain, one, other)
                for p, g in zip(plain.weight_net.parameters(), gradients, strict=True):
                    p.grad = g
                plain.meta_optimizer.step()
            logits = plain.net(one.images)
            losses = exit_losses(logits, one.labels, 0.1)
            with torch.no_grad():
                scores = plain.weight_net(losses, losses)
                weights = 1 + 0.8 * (scores - scores.mean(1, keepdim=True))
            plain.optimizer.zero_grad()
            (weights * losses).mean(0).sum().backward()
            plain.optimizer.step()
            expected = expected + losses.detach().sum(0)
        torch.testing.assert_close(sums, expected, rtol=1e-6, atol=0)
    for one, other in ((ours.net, plain.net), (ours.weight_net, plain.weight_net)):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)
