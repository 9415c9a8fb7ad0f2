"""Using an exit of a network that early_exit.train wrote as the local net."""

from pathlib import Path
from typing import Any, NamedTuple

import experiment
from data import Dataset
from models.checkpoints import exit_local
from models.exit_local import ExitLocal, ExitName

# The entries of an exit network's checkpoint that describe its training data.
DATA = ("dataset", "data", "val_size", "split_seed", "stream", "seed", "method")


class TakenExit(NamedTuple):
    """A local net made of an exit.

    kept: the part that its own checkpoint stores: `net`, num_classes, settings, inputs and weights
    (models.checkpoints.exit_local). trained: the entries `DATA` of the exit network's checkpoint.
    origin: the name and SHA-256 of that checkpoint.
    """

    net: ExitLocal
    kept: dict[str, Any]
    trained: dict[str, Any]
    origin: dict[str, str]


def find(path: Path, dataset: str, arch: str) -> Path:
    """The checkpoint at `path`, or in that run directory; ValueError if there is none."""
    file = path if path.is_file() else experiment.RunPaths(path, dataset).checkpoint(arch)
    if not file.exists():
        raise ValueError(f"{file}: not there; python -m early_exit.train makes it, or --exits_path")
    return file


def read(path: Path, name: ExitName) -> TakenExit:
    """The exit `name` of a checkpoint. ValueError, one line, if it cannot be a local net.

    A network trained on streamed data is refused: early_exit crops its images otherwise than
    learning to help does.
    """
    checkpoint = experiment.load_checkpoint(path)
    net, kept = exit_local(checkpoint, name, str(path))
    if missing := [key for key in DATA if key not in checkpoint]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; train it again")
    if checkpoint["stream"]:
        raise ValueError(
            f"{path}: was trained on streamed images, which early_exit crops otherwise than "
            "learning to help does; train it without --stream"
        )
    origin = {"exits_file": path.name, "exits_sha256": experiment.sha256(path)}
    return TakenExit(net, kept, {key: checkpoint[key] for key in DATA}, origin)


def check_data(taken: TakenExit, dataset: Dataset, path: Path) -> None:
    """ValueError unless the network was trained on this data set with this val split."""
    trained = taken.trained
    if trained["data"] != dataset.fingerprint():
        raise ValueError(
            f"{path}: was trained on other data or another val split; give its --dataset "
            f"({trained['dataset']}), --val_size {trained['val_size']:g} and --split_seed "
            f"{trained['split_seed']}"
        )
