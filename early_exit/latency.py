"""How long a network with exits takes: all exits, the last one alone, and early exit for real."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Batches
from data.folders import FolderBatches
from early_exit.inference import Inference
from early_exit.load import Opened

MIN_ROUNDS = 5  # batches timed of every row, however long they take
WARM_UP = 2  # batches of every row before that
HELD_BYTES = 2**29  # of images on the device while they are timed


def timed(
    inference: Inference,
    calls: Sequence[Callable[[Tensor], Any]],
    batches: Iterable[Tensor],
    seconds: float,
) -> list[list[float]]:
    """Seconds of each batch for each of `calls`: all in turn on one batch, then on the next.

    Goes round the batches until `seconds` are over, and over `MIN_ROUNDS` of them at least.
    """
    found: list[list[float]] = [[] for _ in calls]
    begun = 0.0
    with inference.ready():
        for done, images in enumerate(itertools.cycle(batches), start=-WARM_UP):
            if done == 0:
                begun = time.perf_counter()
            if done >= MIN_ROUNDS and time.perf_counter() - begun > seconds:
                break
            for call, times in zip(calls, found, strict=True):
                wait(inference.device)
                start = time.perf_counter()
                call(images)
                wait(inference.device)
                if done >= 0:
                    times.append(time.perf_counter() - start)
    return found


def whole_batches(batches: Batches | FolderBatches) -> list[Tensor]:
    """The images of the first batches, as many as `HELD_BYTES` hold, on the device.

    A last one that is smaller is left out, unless there is no other.
    """
    held: list[Tensor] = []
    taken = 0
    for _, images, _ in batches.epoch(0):
        if held and (taken >= HELD_BYTES or len(images) < len(held[0])):
            break
        held.append(images)
        taken += images.nbytes
    return held


def wait(device: torch.device) -> None:
    """Until the device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def latencies(
    inference: Inference,
    opened: Opened,
    points: Sequence[dict[str, Any]],
    batch_sizes: Iterable[int],
    seconds: float,
) -> list[dict[str, Any]]:
    """A row for each batch size and way to run the network: milliseconds a batch, images/s.

    points: {"q", "thresholds" [E]} each. seconds: of timing at each batch size.
    """
    calls = {("all exits", None): inference.exits}
    if not inference.ensemble_reweight:  # else its answer needs the heads before it
        calls["last exit alone", None] = inference.last
    for point in points:
        calls["early exit", point["q"]] = lambda x, t=point["thresholds"]: inference.early(x, t)
    rows = []
    for size in dict.fromkeys(batch_sizes):
        # Read in this process: others would compete for the CPU while it is timed.
        batches = whole_batches(opened.batches(opened.dataset.test, size, inference.device, 0))
        found = timed(inference, list(calls.values()), batches, seconds)
        for (way, q), times in zip(calls, found, strict=True):
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
