"""BERT with exits against transformers' BertModel, and its flags."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, jvp

from models import attention
from models.attention import plain_attention
from models.bert_exits import BertExits
from models.cost import parameters
from models.exit_net import keep
from tests.made import one_line_error, settings_of
from tests.models.tiny_bert import shuffled, texts, theirs_of, tiny

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def net():
    return shuffled(tiny(exits="1-2-3", bert_dropout=0.2))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_every_layer_equals_that_of_transformers(net, mode):
    getattr(net, mode)()
    model, tokens = getattr(theirs_of(net), mode)(), texts()
    torch.manual_seed(1)  # the same dropout, as long as no head draws in between
    hidden, state = [], tokens
    for k in range(3):
        state = net.block(k, state)
        hidden.append(state[0])
    pooled = net.pooler(state[0])
    torch.manual_seed(1)
    seen = tokens[:, 0] != 0
    theirs = model(tokens[:, 0], seen, tokens[:, 1], output_hidden_states=True)
    for ours, other in zip(hidden, theirs.hidden_states[1:], strict=True):
        assert torch.allclose(ours[seen], other[seen], rtol=0, atol=1e-5)
    assert torch.allclose(pooled, theirs.pooler_output, rtol=0, atol=1e-5)


def test_exits_are_poolers_and_linear_layers_on_the_first_token(net):
    net.eval()
    tokens, state = texts(), texts()
    logits = net(tokens)
    for k, dense in enumerate([net.poolers[0].dense, net.poolers[1].dense, net.pooler.dense]):
        state = net.block(k, state)
        pooled = torch.tanh(state[0][:, 0] @ dense.weight.T + dense.bias)
        expected = pooled @ net.heads[k].weight.T + net.heads[k].bias
        assert torch.allclose(logits[k], expected, rtol=0, atol=1e-5)


def test_dropout_of_an_exit_is_between_pooler_and_linear_layer(net):
    net.train()
    state = [torch.randn(5, 4, 16), torch.ones(5, 4, dtype=torch.bool)]
    torch.manual_seed(3)
    found = net.head(1, state)
    torch.manual_seed(3)
    assert torch.equal(found, net.heads[1](F.dropout(net.poolers[1](state[0]), 0.2)))


def test_padding_changes_no_logits(net):
    net.eval()
    tokens = texts()
    longer = F.pad(tokens, (0, 3))
    for one, other in zip(net(tokens), net(longer), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5)
    for row, length in enumerate((tokens[:, 0] != 0).sum(1).tolist()):
        alone = net(tokens[row : row + 1, :, :length])
        for one, other in zip(alone, net(tokens), strict=True):
            assert torch.allclose(one[0], other[row], rtol=0, atol=1e-5)


def test_step_by_step_without_those_that_left(net):
    """The rest of a batch is what it would be with all of it."""
    net.eval()
    tokens, stay = texts(7), torch.tensor([5, 0, 2])
    with torch.no_grad():
        expected, state = net(tokens), tokens
        for k in range(3):
            state = net.block(k, state)
            if k == 1:
                state = keep(state, stay)
            rows = stay if k >= 1 else torch.arange(7)
            assert torch.allclose(net.head(k, state), expected[k][rows], rtol=0, atol=1e-5)


@pytest.mark.parametrize("equilibrium", ["none", "all"])
def test_gradients_reach_every_parameter(equilibrium):
    net = tiny(exits="1-2-3")
    logits = net(texts(), equilibrium)
    sum(F.cross_entropy(x, torch.tensor([0, 1, 2, 1])) for x in logits).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_an_exit_gives_later_layers_no_gradient():
    net = tiny(exits="1-3")
    net(texts())[0].sum().backward()
    later = [*net.encoder.layer[1:].parameters(), *net.pooler.parameters()]
    assert all(p.grad is None for p in [*later, *net.heads[1].parameters()])
    assert net.embeddings.word_embeddings.weight.grad.any()


def per_sample_losses(net, tokens, labels):
    buffers = {name: b.clone() for name, b in net.named_buffers()}

    def losses(weights):
        logits = functional_call(net, (weights, buffers), tokens)
        return torch.stack([F.cross_entropy(x, labels, reduction="none") for x in logits])

    return losses


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_forward_mode_derivatives(mode):
    """Of the losses along a direction: by two backward passes, and by finite differences."""
    net = getattr(shuffled(tiny(exits="2-3", bert_dropout=0.0)).double(), mode)()
    losses = per_sample_losses(net, texts(3), torch.tensor([1, 0, 2]))
    weights = {k: p.detach().requires_grad_() for k, p in net.named_parameters()}
    direction = {k: torch.randn_like(p) for k, p in weights.items()}
    forward = jvp(losses, (weights,), (direction,))[1].detach()

    with plain_attention():  # the fused kernels have no second derivative
        charge = torch.zeros_like(forward, requires_grad=True)
        total = (losses(weights) * charge).sum()
        gradients = torch.autograd.grad(total, list(weights.values()), create_graph=True)
        along = sum((g * direction[k]).sum() for k, g in zip(weights, gradients, strict=True))
        (twice,) = torch.autograd.grad(along, charge)
    assert torch.allclose(forward, twice, rtol=1e-9, atol=1e-9)

    step = 1e-6
    with torch.no_grad():
        there, back = (
            losses({k: p + sign * step * direction[k] for k, p in weights.items()})
            for sign in (1, -1)
        )
    assert torch.allclose(forward, (there - back) / (2 * step), rtol=1e-4, atol=1e-5)


def test_fused_attention_is_left_out_under_forward_mode_only(monkeypatch):
    def refuse(backend):
        raise AssertionError("no fused kernels")

    net = tiny()
    losses = per_sample_losses(net, texts(2), torch.tensor([1, 0]))
    monkeypatch.setattr(attention, "sdpa_kernel", refuse)
    weights = dict(net.named_parameters())
    losses(weights).sum().backward()
    with pytest.raises(AssertionError, match="no fused kernels"):
        jvp(losses, (weights,), (weights,))
    # One layer's parameters alone have a tangent, and none comes in.
    name = "encoder.layer.1.attention.self.query.weight"
    with pytest.raises(AssertionError, match="no fused kernels"):
        jvp(lambda w: losses({name: w}), (weights[name],), (weights[name],))


def test_bfloat16():
    net = tiny().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = net(texts())
    assert low[-1].dtype == torch.bfloat16
    for one, other in zip(low, net(texts()), strict=True):
        assert torch.allclose(one.float(), other, rtol=0.05, atol=0.01)


def test_compiled_in_one_graph():
    net, tokens = tiny(num_layers=1).eval(), texts()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for one, other in zip(compiled(tokens), net(tokens), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


def by_hand(layers, d, mlp, vocabulary, positions, classes, exits):
    """Parameters: embeddings and their norm, layers, a pooler and a linear layer an exit."""
    layer = 4 * d * (d + 1) + (d + 1) * mlp + (mlp + 1) * d + 2 * 2 * d
    return (
        (vocabulary + positions + 2 + 2) * d
        + layers * layer
        + exits * (d * (d + 1) + classes * (d + 1))
    )


def test_parameters_at_the_defaults():
    net = BertExits.from_settings(settings_of("bert"), 2, 128)
    assert net.bounds == [0, 2, 3, 4]
    assert net.reads == "text"
    assert parameters(net) == by_hand(4, 128, 512, 8192, 512, 2, 3) == 1_958_022
    assert net.example(128).shape == (1, 2, 128)
    assert (net.example(7)[:, 0] != 0).all()
    # As BERT starts: linear layers normal with std 0.02, biases 0, in the new layers too.
    for dense in (net.poolers[0].dense, net.heads[1], net.encoder.layer[3].output.dense):
        assert not dense.bias.any()
        assert 0.015 < dense.weight.std() < 0.025


def test_parameters_of_bert_base():
    """Of bert-base-uncased 109,482,240 are documented, with the pooler and no head."""
    base = {"num_layers": 12, "hidden_dim": 768, "num_heads": 12, "mlp_dim": 3072}
    with torch.device("meta"):
        flags = settings_of("bert", **base, vocab_size=30522, exits="12")
        net = BertExits.from_settings(flags, 2, 512)
    assert parameters(net) == 109_482_240 + 2 * 769
    assert parameters(net) == by_hand(12, 768, 3072, 30522, 512, 2, 1)


@pytest.mark.parametrize(
    ("changed", "size", "message"),
    [
        ({"exits": "1-2"}, 12, "--exits 1-2: the last one must be 3, the number of layers"),
        ({"hidden_dim": 15}, 12, "--hidden_dim 15 is not a multiple of --num_heads 2"),
        ({}, 13, "texts of 13 tokens: give 1 to --max_positions 12"),
        ({}, 0, "texts of 0 tokens"),
    ],
)
def test_impossible_settings(changed, size, message):
    with one_line_error(message):
        tiny(size=size, **changed)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install -r requirements-nlp\.txt"):
        tiny()
