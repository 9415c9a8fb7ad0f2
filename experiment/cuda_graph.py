"""A training step captured once as a CUDA graph and replayed.

At batch 16 a small network's step is some hundred kernels of a few microseconds each, and launching
them from Python takes longer than running them. A CUDA graph launches all with one call.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Step = Callable[..., Any]  # of tensors, to a tensor, None, or a tuple or list of such
Capture = Callable[[Step, list], tuple[Callable[[], None], Any]]

EAGER_FIRST = 3  # calls before the capture: momenta come into being, libraries choose their kernels


class StepGraph:
    """`step`, a function of tensors on `device`, at the price of one launch.

    The first calls run eagerly (they are real steps); the next is captured, and from then on calls
    are replayed: their arguments are copied to where the graph reads, and what it gives **lies in
    the same memory every time, so use it before the next call**. Calls of other shapes than the
    first (an epoch's last batch) always run eagerly. On other devices than CUDA, with `enabled`
    False, and where the capture fails (one warning says so), every call runs eagerly.

    What a graph launches is fixed when it is captured. So `step` must update in place all that
    outlives it (parameters, momenta, running statistics), must not read a value back to the host,
    and takes numbers that change from step to step as tensors (`steer`). It may set gradients to
    None: those of the capture live in the graph's memory. Random numbers are drawn anew by each
    replay, as many as by an eager call.

    capture(step, inputs) gives (replay, outputs); tests pass one that works on the CPU.
    """

    def __init__(
        self,
        step: Step,
        device: torch.device | str,
        enabled: bool = True,
        capture: Capture | None = None,
    ):
        import torch

        self.step, self.device = step, torch.device(device)
        self.enabled = enabled and (capture is not None or self.device.type == "cuda")
        self.capture = capture or capture_cuda
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
                return self._beside(inputs)
            self._capture(inputs)
            if self.replay is None:
                return self.step(*inputs)
        for mine, its in zip(self.inputs, inputs, strict=True):
            mine.copy_(its)
        self.replay()
        return self.outputs

    def _beside(self, inputs: tuple[Tensor, ...]) -> Any:
        """An eager call on another stream than the default one, as capture wants it."""
        import torch

        if self.device.type != "cuda":
            return self.step(*inputs)
        here, beside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            found = self.step(*inputs)
        here.wait_stream(beside)
        return found

    def _capture(self, inputs: tuple[Tensor, ...]) -> None:
        """Record the step on memory of its own, without taking it."""
        own = [x.detach().clone() for x in inputs]
        try:
            self.replay, self.outputs = self.capture(self.step, own)
            self.inputs = own
        except RuntimeError as e:
            self.enabled = False
            reason = str(e).splitlines()[0]
            warnings.warn(
                f"no CUDA graph of the step, it runs eagerly ({reason}); --no-graph does without "
                "the attempt",
                stacklevel=3,
            )


def capture_cuda(step: Step, inputs: list[Tensor]) -> tuple[Callable[[], None], Any]:
    """(what runs the step on `inputs` again, its outputs)."""
    import torch

    device, graph = inputs[0].device, torch.cuda.CUDAGraph()
    # A stream of this very device: torch's own for captures is of the one that was asked first.
    # And a thread that pins memory or writes a log may use CUDA meanwhile: that is none of ours.
    with (
        torch.cuda.device(device),
        torch.cuda.graph(
            graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"
        ),
    ):
        outputs = step(*inputs)
    return graph.replay, outputs


def steer(optimizer: torch.optim.Optimizer, device: torch.device | None) -> None:
    """Keep the learning rates in tensors on `device`, so that a graph sees `set_lr`.

    None turns them back into numbers, as a state dict read on another machine needs it.
    """
    import torch

    for group in optimizer.param_groups:
        lr = float(group["lr"])
        group["lr"] = lr if device is None else torch.tensor(lr, device=device)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of all groups, wherever it is kept."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], float):
            group["lr"] = lr
        else:
            group["lr"].fill_(lr)


def portable(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state dict, such that any device can read it: as without graphs."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["lr"] = float(group["lr"])
        if "capturable" in group:
            group["capturable"] = False
    return state


def autocast(device: torch.device, bf16: bool) -> Callable[[], contextlib.AbstractContextManager]:
    """A context for forward passes: bfloat16 where that is exact enough, or nothing at all."""
    import torch

    if not bf16:
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, torch.bfloat16)
