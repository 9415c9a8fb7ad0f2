"""The files of a published once-for-all network (Cai et al., ICLR 2020), in a folder of its own.

    net.config   JSON: the layers of a MobileNetV3 of the space
    run.config   JSON: `image_size`, px, or several, of which the largest counts
    init         weights on ImageNet as torch.save writes them, a state dict or {"state_dict": ...}

A block's layers are called `mobile_inverted_conv` in older files and `conv` in newer ones, both in
net.config and in the weights. All errors are ValueError of one
line that begins with the file's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import experiment
from models.ofa_mobilenet import ACTIVATIONS, LARGEST, Block, OFAMobileNet, Shape, check_size
from models.weights import fill, is_state_dict, under

FILES = ("net.config", "run.config", "init")
HEAD = ("classifier.linear.weight", "classifier.linear.bias")
INNER = ("mobile_inverted_conv", "conv")
# The layers outside the blocks; a network with other values is not of this space.
ALWAYS = {
    "first_conv": {"kernel_size": 3, "stride": 2, "in_channels": 3, "use_bn": True},
    "final_expand_layer": {"kernel_size": 1, "stride": 1, "use_bn": True},
    "feature_mix_layer": {"kernel_size": 1, "stride": 1, "use_bn": False},
}
PLAIN = {"dilation": 1, "groups": 1, "bias": False, "act_func": "h_swish"}


class Files(NamedTuple):
    """Contents of a folder: the network, its input size in px, and the file of its weights."""

    shape: Shape
    size: int
    init: Path
    sha256: str


def folders_of(ofa_dir: str | Path, names: Iterable[str]) -> dict[str, Path]:
    """The folder of each network that has one, by name.

    A folder is that of the longest name that it begins with, `_...` or the like after it.
    ValueError where a network has several, where none has one, or where there is no `ofa_dir`.
    """
    if not Path(ofa_dir).is_dir():
        raise ValueError(f"{ofa_dir}: no folder of published networks")
    names = list(names)
    found: dict[str, Path] = {}
    for folder in sorted(f for f in Path(ofa_dir).iterdir() if f.is_dir()):
        fit = [n for n in names if re.match(re.escape(n) + r"(?![A-Za-z0-9])", folder.name)]
        if not fit:
            continue
        name = max(fit, key=len)
        if name in found:
            raise ValueError(
                f"{ofa_dir}: {found[name].name} and {folder.name} both begin with {name}; keep one"
            )
        found[name] = folder
    if not found:
        raise ValueError(f"{ofa_dir}: no folder in it begins with the name of a target")
    return found


def read(folder: Path) -> Files:
    """Reads all three files and loads the weights once; ValueError if one is missing or wrong."""
    for name in FILES:
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: lacks {name}; a network is {', '.join(FILES)}")
    shape = _checked(folder / "net.config", shape_of_config)
    size = _checked(folder / "run.config", _image_size)
    init = folder / "init"
    digest = experiment.sha256(init)
    state = weights(init, digest)
    with torch.random.fork_rng(devices=[]):
        net = OFAMobileNet(shape, _classes(state) or 1, size)
    load_weights(net, state, init)
    return Files(shape, size, init, digest)


def weights(init: Path, digest: str) -> dict[str, Tensor]:
    """The state dict of the file, in the older spelling and without DataParallel's `module.`.

    ValueError where `digest` is not the file's SHA-256, or where it holds no state dict.
    """
    checkpoint = experiment.load_checkpoint(init, digest)
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, dict) or not is_state_dict(state):
        raise ValueError(f"{init}: holds no state dict")
    return {
        re.sub(r"^(blocks\.\d+)\.conv\.", rf"\1.{INNER[0]}.", key): value
        for key, value in under(state, "").items()
    }


def load_weights(net: nn.Module, state: dict[str, Tensor], init: Path) -> None:
    """Give `net` the weights of the file `init`, in whatever mode it is.

    Its last layer stays as it is where the file's is for another number of classes. All else has to
    fit, name by name: ValueError where it does not.
    """
    own, training = net.state_dict(), net.training
    if _classes(state) not in (0, _classes(own)):
        state = state | {key: own[key] for key in HEAD}
    # A count of batches, which files from before torch 0.4.1 lack; no weight.
    state = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")} | state
    fill(net, state, str(init), "file of weights for its net.config").train(training)


def _classes(state: dict[str, Tensor]) -> int:
    """The classes of a state dict's last layer; 0 where it has none."""
    return min((len(state[key]) if key in state and state[key].ndim else 0) for key in HEAD)


def _checked(path: Path, read_config: Callable[[dict[str, Any]], Any]) -> Any:
    """`read_config` of the JSON object in a file; its errors begin with the file's name."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{path}: not JSON") from None
    try:
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__}, not an object")
        return read_config(config)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None


def _image_size(config: dict[str, Any]) -> int:
    entry = config.get("image_size")
    sizes: list[Any] = entry if isinstance(entry, list) and entry else [entry]
    for size in sizes:
        check_size(size)
    return max(sizes)


def shape_of_config(config: dict[str, Any]) -> Shape:
    """The network that the JSON of a net.config describes.

    A block's middle is `mid_channels`, or `expand_ratio` times its input where that is null; its
    shortcut is there where the config has one. ValueError where the config is of another space, or
    its layers do not fit together.
    """
    if config.get("name") != "MobileNetV3":
        raise ValueError(f"describes a {config.get('name')!r}, not a MobileNetV3")
    for layer, values in ALWAYS.items():
        for key, expected in (values | PLAIN).items():
            found = _entry(config, layer).get(key, expected)
            if found != expected:
                raise ValueError(f"{layer}.{key} is {found!r}, not {expected!r}")
    channels = _count(_entry(config, "first_conv"), "out_channels", "first_conv")
    listed = config.get("blocks")
    if not isinstance(listed, list) or not listed:
        raise ValueError("has no list of blocks")
    blocks: list[Block] = []
    for k, entry in enumerate(listed):
        blocks.append(_block(entry, channels, f"blocks.{k}"))
        channels = blocks[-1].channels
    expand, features = (
        _count(_entry(config, layer), "out_channels", layer) for layer in list(ALWAYS)[1:]
    )
    norm = _entry(config, "bn")
    for key, most in (("momentum", 1), ("eps", 0.1)):
        if type(norm.get(key)) not in (int, float) or not 0 < norm[key] <= most:
            raise ValueError(
                f"bn.{key} is {norm.get(key)!r}; above 0 and at most {most:g} is right"
            )
    return Shape(
        blocks[0].channels_in, tuple(blocks), expand, features, norm["momentum"], norm["eps"]
    )


def _block(entry: Any, channels_in: int, where: str) -> Block:
    layers = (
        next((entry[k] for k in INNER if k in entry), None) if isinstance(entry, dict) else None
    )
    if not isinstance(layers, dict):
        raise ValueError(f"{where}: has neither {INNER[0]} nor {INNER[1]}")
    if _count(layers, "in_channels", where) != channels_in:
        raise ValueError(f"{where} takes {layers['in_channels']} channels, not {channels_in}")
    channels, kernel = _count(layers, "out_channels", where), _count(layers, "kernel_size", where)
    stride, ratio = _count(layers, "stride", where), layers.get("expand_ratio")
    if layers.get("mid_channels") is not None:
        middle = _count(layers, "mid_channels", where)
    elif (
        isinstance(ratio, int | float)
        and not isinstance(ratio, bool)
        and 1 <= ratio <= LARGEST["expansions"]
    ):
        middle = round(channels_in * ratio)
    else:
        raise ValueError(f"{where} has neither mid_channels nor an expand_ratio from 1")
    if kernel % 2 == 0 or kernel > LARGEST["kernels"] or stride > 2:
        raise ValueError(f"{where}: kernel {kernel}, stride {stride}: give an odd one, and 1 or 2")
    if layers.get("act_func") not in list(ACTIVATIONS) or type(layers.get("use_se")) is not bool:
        raise ValueError(f"{where}: act_func has to be {' or '.join(ACTIVATIONS)}, use_se a bool")
    shortcut = _shortcut(entry.get("shortcut"), where)
    if shortcut and (stride, channels) != (1, channels_in):
        raise ValueError(f"{where}: has a shortcut that cannot be added to what its layers give")
    activation, squeeze = layers["act_func"], layers["use_se"]
    return Block(channels_in, middle, channels, kernel, stride, activation, squeeze, shortcut)


def _shortcut(entry: Any, where: str) -> bool:
    """Whether the input is added; null and a ZeroLayer stand for no."""
    name = entry.get("name") if isinstance(entry, dict) else entry
    if name not in (None, "ZeroLayer", "IdentityLayer"):
        raise ValueError(f"{where}: shortcut {name!r} is not an IdentityLayer")
    return name == "IdentityLayer"


def _entry(config: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(config.get(key), dict):
        raise ValueError(f"lacks {key}")
    return config[key]


def _count(entry: dict[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int or not 1 <= value <= LARGEST["widths"]:
        raise ValueError(f"{where}.{key} is {value!r}; whole numbers from 1 are right")
    return value
