"""What the curves of cost against size share: taking turns, bytes of tensors, and the file."""

import gc
import json
import os
import tempfile
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

import experiment
from benchmarks.clock import seconds
from data.memory import free_on_host

WARM = 6  # steps: a CUDA graph is captured at the fourth
FLOAT, INT = 4, 8  # bytes
WEIGHTS = 12  # bytes a parameter in training: itself, its gradient, its momentum, float32


def take_turns(
    works: dict[Hashable, tuple[Callable[[], object], int]], rounds: int, device: torch.device
) -> dict[Hashable, list[float]]:
    """Milliseconds a step of each of `works`, {name: (it, steps it takes)}, once a round.

    All are warm before the first round, and what else the machine does falls on all alike.
    """
    for work, steps in works.values():
        for _ in range(-(-WARM // steps) if device.type == "cuda" else 1):
            work()
    found: dict[Hashable, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, steps) in works.items():
            found[name].append(1e3 * seconds(work, device) / steps)
    return found


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors on `device` at any time of `run()`, above what was there before.

    On CUDA what the allocator counts. On a CPU the same from the profiler, which sees each tensor
    that comes and goes, those inside an operator too; what a library takes for itself is not seen.
    ValueError on other devices.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        raise ValueError(f"--device {device}: its memory is not counted here; cuda or cpu")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it speaks of CUDA where there is none
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def kept_bytes(forward: Callable[[], object], net: nn.Module) -> int:
    """Bytes that a forward pass keeps for its backward pass, the parameters of `net` aside.

    Memory that several operators keep counts once.
    """
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: list[Tensor] = []  # alive till the end, so that no two share an address by chance

    def keep(x: Tensor) -> Tensor:
        kept.append(x.detach())
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        outputs = forward()  # noqa: F841, the graph lives as long as they do
    stores = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in kept}
    return sum(size for where, size in stores.items() if where not in own)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def free_bytes(device: torch.device) -> float:
    """What can still be had: on the card, or of the machine's memory (inf where nothing tells)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_on_host()
    return float("inf") if free is None else free


def fits(what: str, needed: int, device: torch.device) -> bool:
    """Whether `needed` bytes can be had; says that `what` is left out where not."""
    free = free_bytes(device)
    if needed > free:
        print(f"{what}: left out, needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} are free")
    return needed <= free


def about(device: torch.device, **more: Any) -> dict[str, Any]:
    """What the numbers were measured with."""
    head, dirty = experiment.commit()
    return {
        "hardware": experiment.hardware(device),
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": head,
        "dirty": dirty,
    } | more
