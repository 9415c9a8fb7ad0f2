"""Networks of other packages and of one's own files, as local or edge nets.

  timm/NAME             a classifier of timm (an optional package), such as timm/efficientnet_lite0
  path/to/file.py:NAME  a function of that file: num_classes to an nn.Module, [B, 3, H, W] to [B, K]

Images here are scaled to mean 0.5 and standard deviation 0.5; `AnyNet` rescales them to what the
network was trained with, and resizes them.
"""

import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.features import with_features
from models.localnet import LocalNet, resize
from models.weights import State, fill, is_state_dict, under

OURS = 0.5  # mean and standard deviation of the images that networks get here
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")  # where a file keeps its weights


class AnyNet(LocalNet):
    """`net` for images [B, 3, H, W] of this project.

    size: px that images are resized to. mean, std: one number, or one a channel, of what `net` was
    trained with, in units of the full range 0..1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, net: nn.Module, size: int, mean: Sequence[float] = (), std: Sequence[float] = ()
    ):
        super().__init__()
        self.net, self.size = net, size
        scale = OURS / torch.tensor(std or [OURS]).view(1, -1, 1, 1)
        shift = (OURS - torch.tensor(mean or [OURS]).view(1, -1, 1, 1)) * scale / OURS
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        return self.net(self._prepared(images))

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K], and what the last layer computes them from, [B, D]."""
        return with_features(self.net, self._prepared(images))

    def _prepared(self, images: Tensor) -> Tensor:
        return resize(images, self.size) * self.scale + self.shift


def is_any(name: str) -> bool:
    """Whether a name is one of this module's."""
    return name.startswith("timm/") or ".py:" in name


def default_size(name: str) -> int | None:
    """The input size that a network was made for; None where it does not say."""
    return int(_timm_config(name)["input_size"][-1]) if name.startswith("timm/") else None


def build_any(name: str, num_classes: int, size: int) -> AnyNet:
    """The network `name` with random weights.

    ValueError for an unknown name (with the near ones), a package or file that is not there, and a
    function that does not return a module.
    """
    if name.startswith("timm/"):
        config = _timm_config(name)
        net = _timm().create_model(name.removeprefix("timm/"), num_classes=num_classes)
        return AnyNet(net, size, config["mean"], config["std"])
    return AnyNet(_from_file(name, num_classes), size)


def _timm():
    try:
        import timm
    except ImportError:
        raise ValueError("timm/NAME needs the package timm: pip install timm") from None
    return timm


def _timm_config(name: str) -> dict:
    """timm's input_size, mean and std of a network."""
    timm, short = _timm(), name.removeprefix("timm/")
    if not timm.is_model(short):
        near = difflib.get_close_matches(short, timm.list_models(), n=3, cutoff=0.5)
        hint = f"near: {', '.join(f'timm/{n}' for n in near)}" if near else "see timm.list_models()"
        raise ValueError(f"timm has no network {short!r}; {hint}")
    config = timm.get_pretrained_cfg(short)
    found = {} if config is None else config.to_dict()
    return {"input_size": (3, 224, 224), "mean": (), "std": ()} | {
        key: found[key] for key in ("input_size", "mean", "std") if found.get(key)
    }


def _from_file(name: str, num_classes: int) -> nn.Module:
    path, _, function = name.rpartition(":")
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; a network of one's own is FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(f"_net_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        net = getattr(module, function)(num_classes)
    except Exception as e:  # whatever somebody else's file raises
        reason = " ".join(str(e).split())[:200]
        raise ValueError(f"{name}: {type(e).__name__}: {reason}") from None
    if not isinstance(net, nn.Module):
        raise ValueError(f"{name}({num_classes}) gives a {type(net).__name__}, not an nn.Module")
    return net


def load_weights(net: nn.Module, path: str | Path) -> str:
    """Fill `net` with the weights of a .pth or .safetensors file; what was done, on one line.

    Names may have a prefix that all of them share (module., net.), and the file may be a checkpoint
    around its state dict. The last layer stays as it is where the file's has another number of
    classes. The network is in train mode afterwards. ValueError, one line, for a file that cannot
    be read, weights of another network, and weights that are not finite.
    """
    own = net
    while isinstance(inner := getattr(own, "net", None), nn.Module):
        own = inner
    state, target = read_weights(path), own.state_dict()
    state = _without_prefix(state, target)
    replaced = _other_head(state, target)
    kept = {name: value for name, value in state.items() if name not in replaced}
    where = str(path)
    fill(own, kept | {name: target[name] for name in replaced}, where, "match for this network")
    own.train()
    if not replaced:
        return f"{path}: all weights"
    classes = len(state[replaced[0]])
    return f"{path}: all weights but the last layer's, which is new ({classes} classes there)"


def _other_head(state: State, target: State) -> list[str]:
    """The weights of the one layer whose shapes differ, if there is one such layer."""
    layers = {
        k.rpartition(".")[0] for k in target if k in state and state[k].shape != target[k].shape
    }
    return [k for k in target if k.rpartition(".")[0] in layers] if len(layers) == 1 else []


def weights_file(path: str | Path) -> Path:
    """The path of a file of weights; ValueError where there is none."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file of weights")
    return Path(path)


def read_weights(path: str | Path) -> State:
    """The state dict of a .pth or .safetensors file. ValueError, one line, where there is none."""
    path = weights_file(path)
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise ValueError(f"{path}: needs the package safetensors") from None
        try:
            return load_file(path)
        except Exception as e:  # safetensors raises its own kind
            raise ValueError(f"{path}: cannot be read ({str(e).splitlines()[0]})") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:
        raise ValueError(
            f"{path}: cannot be read as weights ({str(e).splitlines()[0][:80]})"
        ) from None
    for key in WRAPPERS:
        if (
            isinstance(found, dict)
            and not is_state_dict(found)
            and isinstance(found.get(key), dict)
        ):
            found = found[key]
    if not isinstance(found, dict) or not is_state_dict(found):
        raise ValueError(f"{path}: holds no state dict of tensors")
    return found


def _without_prefix(state: State, target: State) -> State:
    """The state dict without first parts that all names share and the network does not have."""
    state = under(state, "")
    first = {name.split(".")[0] for name in state}
    if len(first) == 1 and not any(name.split(".")[0] in first for name in target):
        inner = {name.partition(".")[2]: value for name, value in state.items()}
        return _without_prefix(inner, target) if all(inner) else state
    return state
