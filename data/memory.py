"""Whether data fit into the free memory of a device or of the machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

# The rest is for networks, gradients and activations. An assumption, not measured.
DEVICE_SHARE = 0.5

MACHINE, CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def fits_device(size: int, device: torch.device) -> bool:
    """Whether `size` bytes of images take at most `DEVICE_SHARE` of a device's free memory.

    True for all devices but CUDA's, which share the machine's memory, where the images are already.
    Memory that torch caches counts as used.
    """
    return device.type != "cuda" or size <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def fits_host(size: int) -> bool:
    """Whether `size` bytes are free in the machine's memory; True where that is unknown.

    Each of torchrun's processes on this machine needs as much.
    """
    free = free_on_host()
    return free is None or size * int(os.environ.get("LOCAL_WORLD_SIZE", 1)) <= free


def free_on_host() -> int | None:
    """Bytes that this process may still take without swapping; None where nothing tells.

    What the files read last occupy counts as free, since it is given back when it is needed. Of
    the machine and of the container (cgroup 2), whichever has less.
    """
    found = [free for free in (_of_the_machine(), _of_the_container()) if free is not None]
    return min(found, default=None)


def _of_the_machine() -> int | None:
    with contextlib.suppress(OSError, KeyError, ValueError):
        return _numbers(MACHINE)["MemAvailable:"] * 1024
    with contextlib.suppress(OSError, ValueError):  # no Linux; macOS knows neither
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_the_container() -> int | None:
    with contextlib.suppress(OSError, KeyError, ValueError):  # no cgroup, or its limit is "max"
        limit, used = (int((CONTAINER / f"memory.{k}").read_text()) for k in ("max", "current"))
        return limit - used + _numbers(CONTAINER / "memory.stat")["inactive_file"]
    return None


def _numbers(path: Path) -> dict[str, int]:
    """The first number behind each first word of a file's lines."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
