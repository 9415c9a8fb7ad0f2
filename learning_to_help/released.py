"""A directory of the L2H release's checkpoints: a bare state dict a setting, each with its edge."""

import glob
import hashlib
from pathlib import Path

import torch
from torch import nn

import experiment
from learning_to_help.settings import Setting, released_setting
from models.checkpoints import kind_of, release_nets
from models.weights import State, under

ONLY = "-edgenet-only"  # ends the stem of an edge net trained alone; its rejector is untrained
OPTIMISTIC = (
    "the release trains on all of train, val included: thresholds fitted on val are optimistic"
)


def rejector_paths(save_dir: Path, name: str) -> list[Path]:
    """The checkpoints of a data set's settings, ours or the release's, sorted.

    What a run of ours that is not complete needs to resume is none of them.
    """
    paths = save_dir.glob(f"{glob.escape(name)}-edgenet-*.pth")
    return sorted(path for path in paths if not path.stem.endswith("-state"))


def find(save_dir: Path, name: str) -> dict[Path, Setting | None]:
    """The release's checkpoints of a data set by path, None for an edge net alone.

    None at all where train_edgenet_async.py has left its edge net: then this is a run of ours.
    ValueError for a name that does not say what its checkpoint was trained for.
    """
    if (save_dir / f"{name}-edgenet.pth").exists():
        return {}
    settings = {
        path: None if path.stem.endswith(ONLY) else released_setting(path.stem)
        for path in rejector_paths(save_dir, name)
    }
    for path, setting in settings.items():
        if setting is None and not path.stem.endswith(ONLY):
            raise ValueError(
                f"{path}: neither {name}-edgenet.pth, which train_edgenet_async.py makes, is here, "
                f"nor is this name one of the release's, as {name}-edgenet-cost_1-1.25-cost_e-0.25"
            )
    return settings


def read(path: Path, name: str, num_classes: int) -> tuple[nn.Module, nn.Module, str]:
    """(rejector, edge net, SHA-256 of the edge's weights) of one of `find`'s checkpoints."""
    state = experiment.load_checkpoint(path)
    if kind_of(state, str(path)) != "release":
        raise ValueError(
            f"{path}: not a state dict of the release, and {path.parent / name}-edgenet.pth is not "
            "there; train_edgenet_async.py makes it"
        )
    return *release_nets(state, num_classes, str(path)), _digest(under(state, "edge_net."))


def _digest(state: State) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
