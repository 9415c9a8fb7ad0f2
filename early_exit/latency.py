"""Latency of a network with exits: all exits, the last one alone, and real early exit."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batches import Steps
from early_exit.inference import Inference, OperatingPoint
from early_exit.load import Opened

MIN_ROUNDS = 5  # timed batches of every call, however long they take
WARM_UP = 2  # untimed batches of every call before them
HELD_BYTES = 2**29  # of images on the device while they are timed


def timed(
    inference: Inference,
    calls: Sequence[Callable[[Tensor], Any]],
    batches: Iterable[Tensor],
    seconds: float,
) -> list[list[float]]:
    """Seconds of each batch for each of `calls`: all calls on one batch, then all on the next.

    Cycles through the batches for `seconds`, and for `MIN_ROUNDS` batches at least.
    """
    times: list[list[float]] = [[] for _ in calls]
    begun = 0.0
    with inference.ready():
        for done, images in enumerate(itertools.cycle(batches), start=-WARM_UP):
            if done == 0:
                begun = time.perf_counter()
            if done >= MIN_ROUNDS and time.perf_counter() - begun > seconds:
                break
            for call, times_of_call in zip(calls, times, strict=True):
                wait(inference.device)
                start = time.perf_counter()
                call(images)
                wait(inference.device)
                if done >= 0:
                    times_of_call.append(time.perf_counter() - start)
    return times


def whole_batches(batches: Steps) -> list[Tensor]:
    """The inputs of the first batches, up to `HELD_BYTES` of them, on the device.

    Omits a smaller last batch, unless it is the only one.
    """
    kept: list[Tensor] = []
    size = 0
    for _, images, _ in batches.epoch(0):
        if kept and (size >= HELD_BYTES or len(images) < len(kept[0])):
            break
        kept.append(images)
        size += images.nbytes
    return kept


def wait(device: torch.device) -> None:
    """Return when the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def latencies(
    inference: Inference,
    opened: Opened,
    points: Sequence[OperatingPoint],
    batch_sizes: Iterable[int],
    seconds: float,
) -> list[dict[str, Any]]:
    """A row for each batch size and way to run the network: milliseconds a batch, images/s.

    seconds: of timing at each batch size.
    """
    calls: dict[tuple[str, float | None], Callable[[Tensor], Any]]
    calls = {("all exits", None): inference.exits}
    if not inference.ensemble_reweight:  # else the last exit's answer needs the heads before it
        calls["last exit alone", None] = inference.last
    for point in points:
        early = functools.partial(inference.early, thresholds=point.thresholds)
        calls["early exit", point.q] = early
    rows = []
    for size in dict.fromkeys(batch_sizes):
        # Read in this process: workers would compete for the CPU with the timed calls.
        batches = whole_batches(opened.batches(opened.dataset.test, size, inference.device, 0))
        times_of_calls = timed(inference, list(calls.values()), batches, seconds)
        for (way, q), times in zip(calls, times_of_calls, strict=True):
            rows.append(
                {
                    "batch_size": len(batches[0]),
                    "way": way,
                    "q": q,
                    "median_ms": float(np.median(times) * 1e3),
                    "p90_ms": float(np.quantile(times, 0.9) * 1e3),
                    "images_per_second": len(times) * len(batches[0]) / sum(times),
                    "batches": len(times),
                }
            )
    return rows
