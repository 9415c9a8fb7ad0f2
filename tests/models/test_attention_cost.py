"""Multiply-adds of attention against the closed form: a block is 12 n d^2 + 2 n^2 d.

n tokens of width d, with a hidden layer of 4 d: 3 n d^2 for queries, keys and values, n^2 d each
for QK^T and for AV (over all heads), n d^2 for what comes out, 8 n d^2 for the hidden layer.
"""

import contextlib

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.bert_exits import BertExits
from models.cost import exit_multiply_adds, multiply_adds
from models.vit_exits import ViTExits
from tests.made import settings_of

DIM, HEADS, LAYERS, EXITS, CLASSES, PATCH = 32, 4, 3, [1, 3], 5, 4
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]
LONG = {"vit": [8, 20], "bert": [7, 48]}  # px, and tokens


def block(n):
    return 12 * n * DIM**2 + 2 * n**2 * DIM


def by_hand(kind, size):
    """Up to exit k: what comes before the blocks, the blocks, and all heads so far."""
    if kind == "vit":
        patches = (size // PATCH) ** 2
        n, first, head = patches + 1, patches * DIM * 3 * PATCH**2, DIM * CLASSES
    else:  # embeddings are looked up; a head is a pooler and a linear layer on one token
        n, first, head = size, 0, DIM**2 + DIM * CLASSES
    return [first + e * block(n) + (k + 1) * head for k, e in enumerate(EXITS)]


def build(kind, size):
    torch.manual_seed(0)
    shape = {"hidden_dim": DIM, "num_layers": LAYERS, "num_heads": HEADS, "mlp_dim": 4 * DIM}
    if kind == "vit":
        return ViTExits(CLASSES, size, patch_size=PATCH, exits=EXITS, **shape)
    pytest.importorskip("transformers")
    return BertExits(CLASSES, exits=EXITS, vocab_size=11, max_positions=64, **shape)


@contextlib.contextmanager
def as_it_is():
    yield


KERNELS = {
    "chosen by torch": as_it_is,
    "fused": lambda: sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(("kind", "size"), [(kind, size) for kind in LONG for size in LONG[kind]])
def test_exit_by_exit(kind, size, mode, kernel, device):
    net = getattr(build(kind, size).to(device), mode)()
    inputs = net.example(size).to(device)
    with KERNELS[kernel]():
        assert exit_multiply_adds(net, inputs) == by_hand(kind, size)
        assert multiply_adds(net, inputs) == by_hand(kind, size)[-1]


@pytest.mark.parametrize("kind", LONG)
def test_a_batch_costs_what_its_samples_cost(kind):
    """Twice the samples cost twice as much: no term is counted once a batch."""
    size = LONG[kind][0]
    net = build(kind, size)
    two = net.example(size).expand(2, *net.example(size).shape[1:])
    assert exit_multiply_adds(net, two) == [2 * cost for cost in by_hand(kind, size)]


def test_padding_is_computed_and_counted():
    """A text is as expensive as the batch that it is in is long."""
    net, tokens = build("bert", 48), torch.zeros(1, 2, 48, dtype=torch.int64)
    tokens[:, 0, :20] = 3
    assert exit_multiply_adds(net, tokens) == by_hand("bert", 48)


def test_bert_of_the_defaults():
    """What the class's docstring says, at 128 tokens and 2 classes."""
    pytest.importorskip("transformers")
    net = BertExits.from_settings(settings_of("bert"), 2, 128)
    n, d = 128, 128
    layer, head = 12 * n * d**2 + 2 * n**2 * d, d**2 + 2 * d
    by_hand = [e * layer + (k + 1) * head for k, e in enumerate((2, 3, 4))]
    assert by_hand == [58_736_896, 88_113_664, 117_490_432]
    assert exit_multiply_adds(net, net.example(128)) == by_hand
