"""Checkpoints of networks with exits: ours, which say what they are, and published ones.

All errors are ValueError of one line that begins with the file's name, and OSError.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from experiment import load_checkpoint
from losses.early_exit import METHODS
from models.checkpoints import exit_net
from models.exit_net import ExitNet
from models.exit_nets import EXIT_NETS
from models.weights import is_state_dict

# What a checkpoint of ours says of the data it was trained on.
DATA = ("dataset", "data", "val_size", "split_seed", "stream", "seed", "epochs")


@dataclass
class Trained:
    """A trained network and what it must be given.

    path: of the file. net: on the CPU, in eval mode. ensemble_reweight: t of
    G_k = f_k + t G_(k-1), 0 unless boosted. size: px. mean, std: of the pixels, 3 each, in units of
    0..1. about: what else the file says.
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
            f"{path}: does not say what it is; for a published file give --model_path, --arch and "
            "the flags of its network"
        )
    if kind != "early_exit":
        raise ValueError(f"{path}: is a checkpoint of kind {kind!r}, not of early_exit.train")
    own = [f.name for f in fields(Trained) if f.name not in ("path", "net", "about")]
    missing = [name for name in (*own, "state_dict", *DATA) if name not in checkpoint]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; train it again")
    found = {name: checkpoint.pop(name) for name in own}
    if found["method"] not in METHODS:
        raise ValueError(f"{path}: method {found['method']!r} is unknown; {', '.join(METHODS)}")
    state = checkpoint.pop("state_dict")
    net = exit_net(
        found["arch"], found["settings"], found["num_classes"], found["size"], state, str(path)
    )
    return Trained(str(path), net, **found, about=checkpoint)


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
    """A bare state dict, or one under `state_dict` beside an epoch, an optimizer and so on.

    That is how the releases of L2W and Boosted save theirs, some with DataParallel's `module.`
    before every name. They do not say what they are, so all of that is given.
    """
    checkpoint = _load(path)
    state = checkpoint if is_state_dict(checkpoint) else checkpoint.get("state_dict")
    if not isinstance(state, dict):
        holds = ", ".join(list(checkpoint)[:5]) or "nothing"
        raise ValueError(f"{path}: holds {holds}: give a state dict, bare or as state_dict")
    epochs = checkpoint.get("epoch")
    net = exit_net(arch, settings, num_classes, size, state, str(path))
    about = {"epochs": epochs} if type(epochs) is int else {}
    given = method, ensemble_reweight, num_classes, size, mean, std
    return Trained(str(path), net, arch, settings, *given, about)


def find(save_dir: Path, dataset: str, arch: str | None) -> Path:
    """The checkpoint of a run directory, {dataset}-{arch}.pth; `arch` None: the only one there."""
    named = [save_dir / f"{dataset}-{name}.pth" for name in ([arch] if arch else EXIT_NETS)]
    there = [path for path in named if path.exists()]
    if not there:
        what = named[0] if arch else save_dir / f"{dataset}-ARCH.pth"
        raise ValueError(f"{what}: not there; python -m early_exit.train makes it")
    if len(there) > 1:
        names = ", ".join(path.name for path in there)
        raise ValueError(f"{save_dir}: has {names}; say which with --arch")
    return there[0]


def _load(path: str | Path) -> dict:
    try:
        return load_checkpoint(path)
    except ValueError as e:
        if "not a checkpoint" not in str(e):
            raise
        # A release may have pickled numpy scalars or a Namespace beside the weights.
        raise ValueError(
            f"{e}; if the file is whole and you trust it, keep its weights alone: "
            f"torch.save(torch.load({str(path)!r}, weights_only=False)['state_dict'], 'new.pth')"
        ) from None
