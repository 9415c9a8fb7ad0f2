"""Checkpoints of networks with exits: those of early_exit.train, and published ones.

All errors are ValueError of one line that begins with the file's name, and OSError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiment import RunPaths, load_checkpoint
from losses.early_exit import METHODS
from models.checkpoints import exit_net
from models.exit_net import ExitNet
from models.exit_nets import EXIT_NETS
from models.weights import is_state_dict

# What a checkpoint of early_exit.train records of its data and training.
NETWORK = (
    "arch", "settings", "method", "ensemble_reweight", "num_classes", "size", "mean", "std",
    "state_dict",
)  # fmt: skip
DATA = ("dataset", "data", "val_size", "split_seed", "stream", "seed", "epochs")

# Boosted's release pickles numpy scalars in its optimizer's groups, under a name of numpy 1 or 2.
_scalar: Any = np.float64(0).__reduce__()[0]  # a function; numpy's stubs say a string
NUMPY_SCALARS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]


@dataclass
class Trained:
    """A trained network and its input format.

    path: the file. net: on the CPU, in eval mode. ensemble_reweight: t of G_k = f_k + t G_(k-1), 0
    unless boosted. size: px, or tokens of a text. mean, std: of the pixels, 3 each, in units of
    0..1. about: the other entries of the file.
    """

    path: str
    net: ExitNet
    arch: str
    settings: dict[str, Any]
    method: str
    ensemble_reweight: float
    num_classes: int
    size: int
    mean: list[float]
    std: list[float]
    about: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> Trained:
    """A checkpoint that early_exit.train wrote."""
    checkpoint = _load(path)
    kind = checkpoint.get("kind")
    if kind is None:
        raise ValueError(
            f"{path}: has no kind; for a published file give --model_path, --arch and "
            "the flags of its network"
        )
    if kind != "early_exit":
        raise ValueError(f"{path}: is a checkpoint of kind {kind!r}, not of early_exit.train")
    missing = [name for name in (*NETWORK, *DATA) if name not in checkpoint]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; train it again")
    arch, settings, method, reweight, num_classes, size, mean, std, state = (
        checkpoint.pop(name) for name in NETWORK
    )
    if method not in METHODS:
        raise ValueError(f"{path}: method {method!r} is unknown; {', '.join(METHODS)}")
    net = exit_net(arch, settings, num_classes, size, state, str(path))
    return Trained(
        str(path), net, arch, settings, method, reweight, num_classes, size, mean, std, checkpoint
    )


def read_published(
    path: str | Path,
    arch: str,
    settings: dict[str, Any],
    num_classes: int,
    size: int,
    mean: list[float],
    std: list[float],
    method: str = "base",
    ensemble_reweight: float = 0.0,
) -> Trained:
    """A published network: a bare state dict, or a dict that holds one among other entries.

    The releases of MSDNet, RANet and L2W store it as `state_dict`, Boosted's as `model` within
    `state_dict`; some have DataParallel's `module.` before every name. The file does not describe
    its network, so the caller does.
    """
    checkpoint = _load(path)
    outer = checkpoint.get("state_dict", checkpoint)
    state = outer.get("model", outer) if isinstance(outer, dict) else outer
    if not isinstance(state, dict) or (state is checkpoint and not is_state_dict(state)):
        holds = ", ".join(list(checkpoint)[:5]) or "nothing"
        raise ValueError(
            f"{path}: holds {holds}: give a state dict, bare, as state_dict or as model"
        )
    epochs = checkpoint.get("epoch")
    if type(epochs) is int and state is not outer:
        epochs += 1  # Boosted's release counts epochs from 0, L2W's from 1
    net = exit_net(arch, settings, num_classes, size, state, str(path))
    about = {"epochs": epochs} if type(epochs) is int else {}
    return Trained(
        str(path), net, arch, settings, method, ensemble_reweight, num_classes, size, mean, std,
        about,
    )  # fmt: skip


def find(save_dir: Path, dataset: str, arch: str | None) -> Path:
    """The checkpoint of a run directory, {dataset}-{arch}.pth; `arch` None: the only one there."""
    paths = RunPaths(save_dir, dataset)
    candidates = [paths.checkpoint(name) for name in ([arch] if arch else EXIT_NETS)]
    existing = [path for path in candidates if path.exists()]
    if not existing:
        expected = candidates[0] if arch else paths.checkpoint("ARCH")
        raise ValueError(f"{expected}: not there; python -m early_exit.train makes it")
    if len(existing) > 1:
        names = ", ".join(path.name for path in existing)
        raise ValueError(f"{save_dir}: has {names}; say which with --arch")
    return existing[0]


def _load(path: str | Path) -> dict:
    try:
        with torch.serialization.safe_globals(NUMPY_SCALARS):
            return load_checkpoint(path)
    except ValueError as e:
        if "not a checkpoint" not in str(e):
            raise
        # A release may have pickled a Namespace beside the weights.
        raise ValueError(
            f"{e}; if the file is whole and you trust it, keep its weights alone: "
            f"torch.save(torch.load({str(path)!r}, weights_only=False)['state_dict'], 'new.pth')"
        ) from None
