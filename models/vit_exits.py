"""A vision transformer (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929) with exits.

torchvision's network, layer by layer, with its parameter names.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from experiment import number
from models.attention import attention_of
from models.edgenet import imagenet_weights
from models.exit_net import ExitNet, State, tensor_of
from models.localnet import resize
from models.trunks import exit_points, load_trunk, thirds

SHAPE = ("patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim")
SMALL = dict(zip(SHAPE, (4, 128, 6, 4, 256), strict=True))
NAMED = {
    "vit_b_16": dict(zip(SHAPE, (16, 768, 12, 12, 3072), strict=True)),
    "vit_b_32": dict(zip(SHAPE, (32, 768, 12, 12, 3072), strict=True)),
    "vit_l_16": dict(zip(SHAPE, (16, 1024, 24, 16, 4096), strict=True)),
    "vit_l_32": dict(zip(SHAPE, (32, 1024, 24, 16, 4096), strict=True)),
}
NAMED_SIZE = 224  # px


class ViTExits(ExitNet):
    """The encoder on patches and a class token; exits classify the token after chosen layers.

    An exit is a layer norm and a linear layer on the class token. Each exit has its own norm, since
    the scale of tokens grows with depth; the last exit uses the encoder's norm. Linear layers have
    the initialisation of nn.Linear, not torchvision's zeros, with which no gradient reaches the
    trunk in the first step. Images of another size are resized. State: tokens [B, 1 + patches,
    hidden_dim], the class token first. Parameters at 32 px, 10 classes, defaults: 814,238; exits
    after 19,597,056, 38,800,896 and 58,004,736 multiply-adds.
    """

    @staticmethod
    def add_flags(group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--vit_name",
            choices=("", *NAMED),
            default="",
            help="torchvision network; if not given, the five flags below define the network",
        )
        for flag, text in zip(
            SHAPE,
            (
                "side of a patch, px",
                "dimension of a token",
                "encoder layers",
                "attention heads",
                "dimension of the MLPs' hidden layer",
            ),
            strict=True,
        ):
            group.add_argument(f"--{flag}", type=number(int, 1), default=SMALL[flag], help=text)
        group.add_argument(
            "--vit_size",
            type=number(int, 0),
            default=0,
            help="px to which images are resized; 0: no resizing, or 224 with --vit_name",
        )
        group.add_argument(
            "--vit_dropout",
            type=number(float, 0, 1, below=True),
            default=0.0,
            help="dropout of tokens and MLPs",
        )
        group.add_argument(
            "--exits",
            default="",
            help="layers followed by an exit, as 2-4-6 (default: each third of the layers)",
        )
        group.add_argument(
            "--pretrained",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="start from torchvision's ImageNet weights of --vit_name",
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any], num_classes: int, size: int) -> ViTExits:
        name, shape = settings["vit_name"], _shape(settings)
        layers = shape["num_layers"]
        size = settings["vit_size"] or (NAMED_SIZE if name else size)
        if size % shape["patch_size"]:
            raise ValueError(
                f"--patch_size {shape['patch_size']} does not divide images of {size} px: give "
                "a divisor, or a multiple of it as --vit_size"
            )
        exits = exit_points(settings["exits"] or thirds(layers), layers, "layers")
        if settings["pretrained"] and not name:
            raise ValueError(
                "--pretrained: ImageNet weights exist for networks of --vit_name only; give one of "
                f"{', '.join(NAMED)}, or omit --pretrained"
            )
        # Before the network is built, which takes seconds, since fetching the weights may fail.
        weights = imagenet_weights(name) if settings["pretrained"] else None
        net = cls(num_classes, size, exits=exits, dropout=settings["vit_dropout"], **shape)
        if weights is not None:
            from torchvision.models.vision_transformer import interpolate_embeddings

            weights = interpolate_embeddings(size, shape["patch_size"], weights)
            load_trunk(net, name, weights, new=("norms.", "heads."))
        return net

    def __init__(
        self,
        num_classes: int,
        size: int,
        *,
        patch_size: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        mlp_dim: int,
        exits: list[int],
        dropout: float = 0.0,
    ):
        from torchvision.models import VisionTransformer  # here, as in edgenet.py

        super().__init__()
        self.num_exits, self.size = len(exits), size
        self.bounds = [0, *exits]
        trunk = VisionTransformer(
            size, patch_size, num_layers, num_heads, hidden_dim, mlp_dim, dropout
        )
        self.class_token, self.conv_proj = trunk.class_token, trunk.conv_proj
        self.encoder = trunk.encoder
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim, eps=1e-6) for _ in exits[:-1])
        self.heads = nn.ModuleList(nn.Linear(hidden_dim, num_classes) for _ in exits)

    def block(self, k: int, state: State) -> State:
        tokens = self._tokens(tensor_of(state)) if k == 0 else tensor_of(state)
        for i in range(self.bounds[k], self.bounds[k + 1]):
            layer = self.encoder.layers[i]
            with attention_of(layer, tokens):
                tokens = layer(tokens)
        return tokens

    def head(self, k: int, state: State) -> Tensor:
        norm = self.norms[k] if k < self.num_exits - 1 else self.encoder.ln
        return self.heads[k](norm(tensor_of(state)[:, 0]))

    def _tokens(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to the tokens that enter the first layer."""
        patches = self.conv_proj(resize(images, self.size)).flatten(2).transpose(1, 2)
        token = self.class_token.expand(len(patches), -1, -1)
        return self.encoder.dropout(torch.cat([token, patches], 1) + self.encoder.pos_embedding)


def _shape(settings: dict[str, Any]) -> dict[str, int]:
    """Sizes of the encoder from --vit_name or the flags; ValueError for impossible ones."""
    shape = {flag: settings[flag] for flag in SHAPE}
    if name := settings["vit_name"]:
        if name not in NAMED:
            raise ValueError(f"--vit_name {name}: unknown; {', '.join(NAMED)}")
        for flag, value in shape.items():
            if value not in (SMALL[flag], NAMED[name][flag]):
                raise ValueError(
                    f"--{flag} {value}: {name} has {NAMED[name][flag]}; omit one of the two flags"
                )
        return NAMED[name]
    if shape["hidden_dim"] % shape["num_heads"]:
        raise ValueError(
            f"--hidden_dim {shape['hidden_dim']} is not a multiple of --num_heads "
            f"{shape['num_heads']}"
        )
    return shape
