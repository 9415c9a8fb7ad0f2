"""Measures seconds and bytes of tensors, and describes hardware and software for a JSON file."""

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

import data
import experiment
from data.memory import free_on_host

WARM = 6  # steps: a CUDA graph is captured at the fourth
FLOAT, INT = 4, 8  # bytes
WEIGHTS = 12  # bytes per parameter in training: value, gradient and momentum in float32


def add_common(parser: experiment.Parser, rounds: int) -> None:
    """The flags --rounds, --device and --out."""
    number = experiment.number(int, 1)
    parser.add_argument(
        "--rounds", type=number, default=rounds, help="rounds; medians are reported"
    )
    parser.add_argument("--device", default="best", help="cuda, mps, cpu or best")
    parser.add_argument("--out", help="JSON file for the numbers")


def random_part(count: int) -> data.Part:
    """`count` random images of CIFAR-10's size, uint8 [N, 3, 32, 32], with labels 0..9."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return data.Part(images, torch.randint(0, 10, (count,)), torch.arange(count))


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of `step()`, including its work on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def take_turns(
    works: Mapping[Hashable, tuple[Callable[[], object], int]], rounds: int, device: torch.device
) -> dict[Hashable, list[float]]:
    """Milliseconds per step of each of `works`, {name: (function, steps)}, once per round.

    All are warmed up before the first round. They alternate, so that other load on the machine
    slows all of them alike.
    """
    for work, steps in works.values():
        for _ in range(-(-WARM // steps) if device.type == "cuda" else 1):
            work()
    milliseconds: dict[Hashable, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (work, steps) in works.items():
            milliseconds[name].append(1e3 * seconds(work, device) / steps)
    return milliseconds


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Peak bytes of tensors on `device` during `run()`, minus the bytes before it.

    On CUDA the allocator's count. On a CPU from the profiler, which records every allocation of a
    tensor, also within operators, but not the buffers of libraries. ValueError on other devices.
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
        raise ValueError(f"--device {device}: memory can be measured on cuda and cpu only")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # no warnings about CUDA on machines without it
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    current = peak = 0
    for _, change in changes:
        current += change
        peak = max(peak, current)
    return peak


def kept_bytes(forward: Callable[[], object], net: nn.Module) -> int:
    """Bytes that a forward pass saves for its backward pass, without the parameters of `net`.

    Memory that several operators save counts once.
    """
    parameters_of = {p.untyped_storage().data_ptr() for p in net.parameters()}
    saved: list[Tensor] = []  # holds references, so that no address is reused

    def save(x: Tensor) -> Tensor:
        saved.append(x.detach())
        return x

    with saved_tensors_hooks(save, lambda x: x):
        outputs = forward()  # noqa: F841, keeps the graph alive
    stores = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved}
    return sum(size for address, size in stores.items() if address not in parameters_of)


def free_bytes(device: torch.device) -> float:
    """Free bytes of the GPU or the machine; inf if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = free_on_host()
    return float("inf") if free is None else free


def fits(what: str, needed: int, device: torch.device) -> bool:
    """Whether `needed` bytes are free; if not, prints that `what` is skipped."""
    free = free_bytes(device)
    if needed > free:
        print(f"{what}: skipped, needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} are free")
    return needed <= free


def about(device: torch.device, **more: Any) -> dict[str, Any]:
    """The hardware and software of a measurement, followed by `more`."""
    head, dirty = experiment.commit()
    return {
        "hardware": experiment.hardware(device),
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": head,
        "dirty": dirty,
    } | more
