"""How long a step takes on a device that works behind the program's back."""

import time
from collections.abc import Callable

import torch


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Seconds that `step()` takes, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
