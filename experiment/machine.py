"""Device, random seeds, and the hardware and commit that results name."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent


def pick_device(name: str) -> torch.device:
    """The device of a name; `best` is cuda, else mps, else cpu. ValueError if it is missing."""
    import torch

    if name == "best":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"--device {name}: not on this machine; try --device cpu") from None
    return device


def seed_everything(seed: int, epoch: int = 0) -> None:
    """Seed torch from (seed, epoch) alone, so that a resumed run draws the same numbers."""
    import torch

    torch.manual_seed((seed * 1_000_003 + epoch) % 2**63)


def random_state(device: torch.device | None) -> list[torch.Tensor]:
    """The state of torch's generators of the CPU and, where it is CUDA, of `device`."""
    import torch

    on_cuda = device is not None and device.type == "cuda"
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(str(device))] if on_cuda else [])]


def set_random_state(state: list[torch.Tensor], device: torch.device | None) -> None:
    """Continue from a `random_state`; a CUDA device's is not set if that was another device's."""
    import torch

    torch.set_rng_state(state[0])
    if device is not None and device.type == "cuda" and len(state) > 1:
        torch.cuda.set_rng_state(state[1], device)


def hardware(device: torch.device) -> str:
    """The name of the device's hardware."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    return f"{cpu}, {torch.get_num_threads()} threads" + (", mps" if device.type == "mps" else "")


def commit() -> tuple[str, bool]:
    """The repository's commit, 'unknown' without git, and whether tracked files differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "-q", "--verify", "HEAD"], capture_output=True, text=True
        )
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    except OSError:
        return "unknown", True
    return head.stdout.strip() or "unknown", bool(dirty.stdout.strip()) or head.returncode != 0


def commit_with_changes() -> str:
    """The commit, followed by "with changes" where tracked files differ from it."""
    head, dirty = commit()
    return head + (" with changes" if dirty else "")
