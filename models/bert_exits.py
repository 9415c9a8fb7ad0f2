"""BERT (Devlin et al., NAACL 2019, arXiv 1810.04805) with exits, for texts.

transformers' BertModel, layer by layer, with its parameter names. The library is optional
(requirements-nlp.txt) and imported when a network is built.
"""

from __future__ import annotations

import argparse
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.attention import has_tangent
from models.bert_folder import SHAPE, STD, bert_config, transformers_library
from models.exit_net import ExitNet, State, tensor_of
from models.trunks import exit_points, thirds
from models.weights import fill

LEAST = {"vocab_size": 5}  # the special tokens; of everything else 1


class BertExits(ExitNet):
    """Embeddings through the encoder; exits see the first token, [CLS], after chosen layers.

    An exit is a pooler (a linear layer on the first token, tanh), dropout and a linear layer, each
    exit with its own, as BERT classifies; the last one's pooler is BertModel's. Input: tokens int64
    [B, 2, l] as of data/text/tokens.py, token ids and segments, l up to `max_positions`; id 0 is
    padding, which no token sees. State: [tokens' vectors [B, l, hidden_dim], which of them are
    seen, bool [B, l]]. Parameters for 2 classes at the defaults: 1,958,022; exits after 58,736,896,
    88,113,664 and 117,490,432 multiply-adds at 128 tokens.
    """

    reads = "text"

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        for flag, default, text in (
            ("num_layers", 4, "encoder layers"),
            ("hidden_dim", 128, "width of a token"),
            ("num_heads", 2, "of attention"),
            ("mlp_dim", 512, "hidden layer"),
            ("vocab_size", 8192, "tokens there are, at most where they are learnt"),
            ("max_positions", 512, "tokens a text, at most"),
        ):
            group.add_argument(f"--{flag}", type=int, default=default, help=text)
        group.add_argument(
            "--exits",
            default="",
            help="the layers they follow, as 2-4; not given: after each third of the layers",
        )
        group.add_argument(
            "--bert_dropout", type=float, default=0.1, help="of tokens, attention and exits"
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> BertExits:
        """The network for texts of `size` tokens at most. ValueError, one line, if there is none.

        Weights are random, normal with std `STD` as BERT's first ones; see `start_from`.
        """
        shape = {flag: settings[flag] for flag in SHAPE}
        for flag, value in shape.items():
            if value < LEAST.get(flag, 1):
                raise ValueError(f"--{flag} {value}: give {LEAST.get(flag, 1)} or more")
        if shape["hidden_dim"] % shape["num_heads"]:
            raise ValueError(
                f"--hidden_dim {shape['hidden_dim']} does not divide into --num_heads "
                f"{shape['num_heads']}: give a multiple"
            )
        if not 0 <= settings["bert_dropout"] < 1:
            raise ValueError(
                f"--bert_dropout {settings['bert_dropout']:g}: give 0 or more, below 1"
            )
        if not 1 <= size <= shape["max_positions"]:
            raise ValueError(
                f"texts of {size} tokens: give 1 to --max_positions {shape['max_positions']}"
            )
        layers = shape["num_layers"]
        exits = exit_points(settings["exits"] or thirds(layers), layers, "layers")
        return cls(num_classes, exits=exits, dropout=settings["bert_dropout"], **shape)

    def __init__(
        self,
        num_classes: int,
        *,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        mlp_dim: int,
        vocab_size: int,
        max_positions: int,
        exits: list[int],
        dropout: float = 0.0,
    ):
        super().__init__()
        self.num_exits = len(exits)
        self.bounds = [0, *exits]
        shape = (num_layers, hidden_dim, num_heads, mlp_dim, vocab_size, max_positions)
        config = bert_config(dict(zip(SHAPE, shape, strict=True)), dropout)
        trunk = transformers_library().BertModel(config)
        self.embeddings, self.encoder = trunk.embeddings, trunk.encoder
        self.pooler = trunk.pooler
        self.poolers = nn.ModuleList(_Pooler(hidden_dim) for _ in exits[:-1])
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(hidden_dim, num_classes) for _ in exits)
        for layer in [*(pooler.dense for pooler in self.poolers), *self.heads]:
            nn.init.normal_(layer.weight, std=STD)
            nn.init.zeros_(layer.bias)

    def example(self, size: int) -> Tensor:
        """A text of `size` tokens without padding, int64 [1, 2, size]."""
        return torch.stack([torch.ones(1, size), torch.zeros(1, size)], 1).long()

    def block(self, k: int, state: State) -> State:
        if k == 0:
            ids, segments = tensor_of(state).unbind(1)
            state = [self.embeddings(input_ids=ids, token_type_ids=segments), ids != 0]
        tokens, seen = map(tensor_of, state)
        for i in range(self.bounds[k], self.bounds[k + 1]):
            layer = self.encoder.layer[i]
            with _attention_of(layer, tokens):
                out = layer(tokens, seen[:, None, None, :])
            tokens = out[0] if isinstance(out, tuple) else out  # a tuple up to transformers 4
        return [tokens, seen]

    def head(self, k: int, state: State) -> Tensor:
        pooler = self.poolers[k] if k < self.num_exits - 1 else self.pooler
        return self.heads[k](self.dropout(pooler(state[0])))


class _Pooler(nn.Module):
    """What BertModel has under `pooler`, for the exits before the last."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.dense = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, l, D] to [B, D]."""
        return self.dense(tokens[:, 0]).tanh()


def start_from(net: ExitNet, state: dict[str, Tensor], path: str | Path) -> bool:
    """Give `net` the weights that `read_folder` read from `path`; heads stay as they are.

    Poolers of earlier exits start as copies of the last one's. Some files have no pooler (of
    networks trained on words alone): then poolers stay random, and the answer is False.

    Raises:
        ValueError: a weight of the trunk is missing, does not fit or is not finite. One line.
    """
    full = dict(state)
    for name, own in net.state_dict().items():
        if name.startswith(("pooler", "heads.")):
            last = re.sub(r"^poolers\.\d+", "pooler", name)
            full[name] = state.get(last, own)
    fill(net, full, str(path), "BERT of this network's settings").train()
    return "pooler.dense.weight" in state


def _attention_of(layer: nn.Module, tokens: Tensor) -> AbstractContextManager:
    """Attention as plain matrix products under forward-mode AD, which fused kernels do not have.

    As in models/vit_exits.py, where it is measured what they save.
    """
    return sdpa_kernel(SDPBackend.MATH) if has_tangent(layer, tokens) else nullcontext()
