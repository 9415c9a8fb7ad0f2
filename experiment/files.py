"""Files that appear whole or not at all, and checkpoints of tensors, numbers and strings."""

import contextlib
import functools
import hashlib
import io
import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiment.command_line import fail


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all; a full disk keeps the old file and ends the run."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException as e:
        with contextlib.suppress(OSError):
            part.unlink()
        if not isinstance(e, OSError):  # as Ctrl-C
            raise
        fail(f"{path}: cannot be written ({e.strerror}); files written before it are whole")


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> dict:
    """The object in a JSON file. OSError; ValueError, one line, if the file holds none."""
    try:
        value = json.loads(path.read_text())
    except ValueError:  # also for bytes that are not text
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: does not hold a JSON object; move it away")
    return value


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    # numpy types any keyword as `allow_pickle`, which numpy 1.26 would save as an array.
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_npz(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, or those that are among `names`.

    FileNotFoundError where there is no file; ValueError, one line, for any other that cannot be
    read and for a member that is no plain array.
    """
    try:
        with path.open("rb") as stream:  # np.load leaves a damaged file open
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError
            with file:
                wanted = file.files if names is None else names
                arrays = {name: file[name] for name in wanted if name in file}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError
    except FileNotFoundError:
        raise
    # What cut and altered files raised, RuntimeError for a bit that says "encrypted"; a bad disk.
    except (
        EOFError,
        KeyError,
        MemoryError,
        OSError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as e:
        reason = getattr(e, "strerror", None) or "truncated, or not an npz file of plain arrays"
        if isinstance(e, MemoryError):
            reason = "it does not fit into memory"
        raise ValueError(f"{path}: cannot be read: {reason}") from e
    return arrays


def save_checkpoint(path: Path, checkpoint: dict) -> str:
    """Write tensors, numbers and strings; returns the SHA-256, equal for equal content."""
    content = checkpoint_bytes(checkpoint)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def checkpoint_bytes(checkpoint: dict) -> memoryview:
    """The content that `save_checkpoint` writes."""
    import torch

    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getbuffer()


def load_checkpoint(path: str | Path, digest: str | None = None) -> dict:
    """Read a checkpoint to the CPU.

    FileNotFoundError; ValueError, one line, if it is not a checkpoint or its SHA-256 not `digest`.
    """
    import torch

    if digest is not None and sha256(path) != digest:
        raise ValueError(f"{path}: is not the file that the checkpoint was trained with (SHA-256)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, AttributeError, ValueError):
        raise ValueError(f"{path}: not a checkpoint of tensors, numbers and strings") from None
    if not isinstance(checkpoint, dict) or not all(isinstance(k, str) for k in checkpoint):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a state dict")
    return checkpoint


def sha256(path: str | Path) -> str:
    """SHA-256 of a file in hex. A process reads an unchanged file once."""
    stat = os.stat(path)
    return _sha256(str(path), (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))


@functools.lru_cache(maxsize=1024)
def _sha256(path: str, _version: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(2**18):  # fits in a CPU's cache
            digest.update(piece)
    return digest.hexdigest()
