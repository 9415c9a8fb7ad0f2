"""BERT (Devlin et al., NAACL 2019, arXiv 1810.04805) with exits, for texts.

transformers' BertModel, layer by layer, with its parameter names. The library is optional
(requirements-nlp.txt) and imported when a network is built.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiment import number
from models.attention import attention_of
from models.bert_folder import SHAPE, STD, bert_config, transformers_library
from models.exit_net import ExitNet, State, tensor_of
from models.trunks import exit_points, thirds
from models.weights import fill

LEAST = {"vocab_size": 5}  # the special tokens; the other sizes must be 1 or more


class BertExits(ExitNet):
    """BERT's encoder; exits classify the first token, [CLS], after chosen layers.

    An exit has its own pooler (a linear layer on the first token, tanh), dropout and linear layer,
    as BERT's classifier does; the last exit uses BertModel's pooler. Input: int64 [B, 2, l], token
    ids and segments, as data/text/tokens.py makes them, l up to `max_positions`; tokens do not
    attend to padding, id 0. State: [token vectors [B, l, hidden_dim], not padding, bool [B, l]].
    Parameters for 2 classes at the defaults: 1,958,022; exits after 58,736,896, 88,113,664 and
    117,490,432 multiply-adds at 128 tokens.
    """

    reads = "text"

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        for flag, default, text in (
            ("num_layers", 4, "encoder layers"),
            ("hidden_dim", 128, "dimension of a token"),
            ("num_heads", 2, "attention heads"),
            ("mlp_dim", 512, "dimension of the MLPs' hidden layer"),
            ("vocab_size", 8192, "tokens in the vocabulary; a maximum if the tokenizer is trained"),
            ("max_positions", 512, "maximum tokens per text"),
        ):
            at_least = number(int, LEAST.get(flag, 1))
            group.add_argument(f"--{flag}", type=at_least, default=default, help=text)
        group.add_argument(
            "--exits",
            default="",
            help="layers followed by an exit, as 2-4 (default: each third of the layers)",
        )
        group.add_argument(
            "--bert_dropout",
            type=number(float, 0, 1, below=True),
            default=0.1,
            help="dropout of tokens, attention and exits",
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> BertExits:
        """The network for texts of up to `size` tokens; ValueError for impossible settings.

        Weights are initialised at random as in BERT, normal with std `STD`; see `start_from`.
        """
        shape = {flag: settings[flag] for flag in SHAPE}
        if shape["hidden_dim"] % shape["num_heads"]:
            raise ValueError(
                f"--hidden_dim {shape['hidden_dim']} is not a multiple of --num_heads "
                f"{shape['num_heads']}"
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
        """An input for counting costs: `size` tokens without padding, int64 [1, 2, size]."""
        return torch.stack([torch.ones(1, size), torch.zeros(1, size)], 1).long()

    def block(self, k: int, state: State) -> State:
        if k == 0:
            ids, segments = tensor_of(state).unbind(1)
            state = [self.embeddings(input_ids=ids, token_type_ids=segments), ids != 0]
        tokens, mask = map(tensor_of, state)
        for i in range(self.bounds[k], self.bounds[k + 1]):
            layer = self.encoder.layer[i]
            with attention_of(layer, tokens):
                out = layer(tokens, mask[:, None, None, :])
            tokens = out[0] if isinstance(out, tuple) else out  # transformers 4 returns a tuple
        return [tokens, mask]

    def head(self, k: int, state: State) -> Tensor:
        pooler = self.poolers[k] if k < self.num_exits - 1 else self.pooler
        return self.heads[k](self.dropout(pooler(state[0])))


class _Pooler(nn.Module):
    """A pooler like BertModel's, for the exits before the last."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.dense = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, l, D] to [B, D]."""
        return self.dense(tokens[:, 0]).tanh()


def start_from(net: ExitNet, state: dict[str, Tensor], path: str | Path) -> bool:
    """Load the weights that `read_folder` read from `path` into `net`; heads are unchanged.

    Poolers of earlier exits start as copies of the last one's. Files of networks that were trained
    on masked words only have no pooler: then poolers stay random, and False is returned.

    Raises:
        ValueError: a weight of the trunk is missing, does not fit or is not finite (one line).
    """
    full = dict(state)
    for name, current in net.state_dict().items():
        if name.startswith(("pooler", "heads.")):
            last = re.sub(r"^poolers\.\d+", "pooler", name)
            full[name] = state.get(last, current)
    fill(net, full, str(path), "BERT of this network's settings").train()
    return "pooler.dense.weight" in state
