"""A training step captured once as a CUDA graph and replayed.

At batch 16 a small network's step is some hundred kernels of a few microseconds each, and launching
them from Python takes longer than running them. A CUDA graph launches all with one call.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Step = Callable[..., Any]  # takes tensors, returns a tensor, None, or a tuple or list of such

EAGER_FIRST = 3  # calls before the capture, in which momenta are allocated and kernels are chosen


class StepGraph:
    """Run `step`, a function of tensors on `device`, with one kernel launch.

    The first EAGER_FIRST calls run eagerly (they are real steps); the next call is captured, and
    from then on calls are replayed. A replay copies its arguments into static buffers and returns
    **static buffers that the next call overwrites**. Calls with other shapes than the first (an
    epoch's last batch) always run eagerly. On other devices than CUDA, with `enabled` False, and
    after a failed capture (which warns once), every call runs eagerly.

    A graph launches what it launched at capture. So `step` must update in place all that outlives
    it (parameters, momenta, running statistics), must not read a value back to the host, and must
    take numbers that change from step to step as tensors (`steer`). It may set gradients to None:
    those of the capture live in the graph's memory. Each replay draws new random numbers, as many
    as an eager call.
    """

    def __init__(
        self,
        step: Step,
        device: torch.device | str,
        enabled: bool = True,
    ):
        import torch

        self.step, self.device = step, torch.device(device)
        self.enabled = enabled and self.device.type == "cuda"
        self.calls = 0
        self.kinds: list[tuple] | None = None  # shapes and types that the graph is for
        self.inputs: list[Tensor] = []
        self.replay: Callable[[], None] | None = None
        self.outputs: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        if not self.enabled:
            return self.step(*inputs)
        kinds = [(x.shape, x.dtype) for x in inputs]
        self.kinds = self.kinds or kinds
        if kinds != self.kinds:
            return self.step(*inputs)
        if self.replay is None:
            self.calls += 1
            if self.calls <= EAGER_FIRST:
                return self._on_side_stream(inputs)
            self._capture(inputs)
            if self.replay is None:
                return self.step(*inputs)
        for buffer, value in zip(self.inputs, inputs, strict=True):
            buffer.copy_(value)
        self.replay()
        return self.outputs

    def _on_side_stream(self, inputs: tuple[Tensor, ...]) -> Any:
        """An eager call on a stream other than the default one, as capture requires."""
        import torch

        current, side = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            outputs = self.step(*inputs)
        current.wait_stream(side)
        return outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        """Capture the step on static buffers, without running it."""
        buffers = [x.detach().clone() for x in inputs]
        try:
            self.replay, self.outputs = capture(self.step, buffers)
            self.inputs = buffers
        except RuntimeError as e:
            self.enabled = False
            reason = str(e).splitlines()[0]
            warnings.warn(
                f"no CUDA graph of the step, it runs eagerly ({reason}); --no-graph skips the "
                "capture",
                stacklevel=3,
            )


def capture(step: Step, inputs: list[Tensor]) -> tuple[Callable[[], None], Any]:
    """(a function that runs the step on `inputs` again, the outputs that it overwrites)."""
    import torch

    device, graph = inputs[0].device, torch.cuda.CUDAGraph()
    # torch's default capture stream belongs to the device that was used first, so pass a stream of
    # this device. thread_local lets other threads, which pin memory or write logs, use CUDA.
    with (
        torch.cuda.device(device),
        torch.cuda.graph(
            graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"
        ),
    ):
        outputs = step(*inputs)
    return graph.replay, outputs


def steer(optimizer: torch.optim.Optimizer, device: torch.device | None) -> None:
    """Keep the learning rates in tensors on `device`, so that a graph reads what `set_lr` sets.

    None turns them back into numbers, for a state dict that another device will read.
    """
    import torch

    for group in optimizer.param_groups:
        lr = float(group["lr"])
        group["lr"] = lr if device is None else torch.tensor(lr, device=device)


def set_lr(optimizer: torch.optim.Optimizer, lr: float | Sequence[float]) -> None:
    """Set the learning rate of all groups, or one for each; the rates are numbers or tensors."""
    groups = optimizer.param_groups
    rates = [lr] * len(groups) if isinstance(lr, float | int) else lr
    for group, rate in zip(groups, rates, strict=True):
        if isinstance(group["lr"], float):
            group["lr"] = rate
        else:
            group["lr"].fill_(rate)


def portable(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state dict as it is without graphs, which any device can read."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        if "capturable" in group:
            group["capturable"] = False
    return state


def autocast(device: torch.device, bf16: bool) -> Callable[[], contextlib.AbstractContextManager]:
    """A context manager for forward passes: bfloat16 autocast, or none without `bf16`."""
    import torch

    if not bf16:
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
