"""Reading the L2H release's checkpoints: a bare state dict for each setting, with its own edge."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

import experiment
from learning_to_help.settings import Setting, released_setting
from models.checkpoints import kind_of, release_nets
from models.weights import State, under

ONLY = "-edgenet-only"  # end of the stem of an edge net trained alone: its rejector is untrained
OPTIMISTIC = (
    "the release trains on all of train, val included: thresholds fitted on val are optimistic"
)

# The cut of the data set for files that record none, as the release's.
SPLIT = {"val_size": 0.1, "split_seed": 0, "rejector_val_size": 0}


def split_of(checkpoint: dict[str, Any]) -> list[Any]:
    """val_size, split_seed and rejector_val_size of a checkpoint, or of `SPLIT`."""
    return [checkpoint.get(key, default) for key, default in SPLIT.items()]


def find(save_dir: Path, name: str) -> dict[Path, Setting | None]:
    """The setting of each of the release's checkpoints of a data set; None for an edge net alone.

    Empty if the directory holds an edge net of train_edgenet_async.py: then it is a native run.
    ValueError for a file name that is not of the release's form.
    """
    paths = experiment.RunPaths(save_dir, name)
    if paths.edge.exists():
        return {}
    settings = {
        path: None if path.stem.endswith(ONLY) else released_setting(path.stem)
        for path in paths.settings()
    }
    for path, setting in settings.items():
        if setting is None and not path.stem.endswith(ONLY):
            raise ValueError(
                f"{path}: {paths.edge.name}, made by train_edgenet_async.py, is not here, nor is "
                f"this name one of the release's, as {name}-edgenet-cost_1-1.25-cost_e-0.25"
            )
    return settings


def read(path: Path, name: str, num_classes: int) -> tuple[nn.Module, nn.Module, str]:
    """(rejector, edge net, SHA-256 of the edge's weights) of one of `find`'s checkpoints."""
    state = experiment.load_checkpoint(path)
    if kind_of(state, str(path)) != "release":
        edge = experiment.RunPaths(path.parent, name).edge
        raise ValueError(
            f"{path}: not a state dict of the release, and {edge} is not there; "
            "train_edgenet_async.py makes it"
        )
    return *release_nets(state, num_classes, str(path)), _digest(under(state, "edge_net."))


def _digest(state: State) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
