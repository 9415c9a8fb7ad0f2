"""The training step that all methods share, and the two methods of one pass a step.

`step` takes this process's rows of a global batch of `total` samples, updates the network, and
returns the sum over these rows of the cross-entropy at each exit, [E], for the log.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from experiment import cuda_graph as graphs
from experiment.parallel import Workers
from losses.early_exit import boosted_losses, exit_losses
from models.exit_net import ExitNet

Take = Callable[[Tensor, Tensor, int], Tensor]  # images, labels and `total` to the sums


@dataclass
class Base:
    """Sum over exits of the mean cross-entropy (BranchyNet).

    compiled: run the forward pass, loss and backward pass under torch.compile. graph: makes a
    StepGraph of a function of images and labels, on one process only; None: run steps eagerly.
    """

    net: ExitNet  # the network itself
    model: nn.Module  # the network, or a DistributedDataParallel of it
    optimizer: torch.optim.SGD | torch.optim.AdamW
    workers: Workers
    label_smoothing: float = 0.0
    autocast: Callable[[], AbstractContextManager] = nullcontext
    memory_format: torch.memory_format = torch.contiguous_format
    compiled: bool = field(default=False, kw_only=True)
    graph: Callable[[graphs.Step], Callable] | None = field(default=None, kw_only=True)

    min_samples = 2  # of a process in a batch

    def __post_init__(self) -> None:
        self.captured: dict[str, Callable] = {}
        self.pass_losses = self.compile(self.losses)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose last argument is labels, compiled for the batch size of its first call.

        Other sizes, as of an epoch's last batch, run eagerly: compiling takes minutes.
        """
        if not self.compiled:
            return function
        fast = torch.compile(function)
        compiled_size: int | None = None

        def run(*args: Any) -> Any:
            nonlocal compiled_size
            if compiled_size is None:
                compiled_size = len(args[-1])
            return (fast if len(args[-1]) == compiled_size else function)(*args)

        return run

    def begin_epoch(self, first: int) -> None:
        """Called before each epoch; first: its first batch, from 0, above 0 in a resumed epoch."""

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """One update on this process's rows; the sum of their losses at each exit, [E]."""
        return self.run(self.take, images, labels, total)

    def run(self, take: Take, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """take(images, labels, total), replayed as a graph where there are graphs."""
        if self.graph is None:
            return take(images, labels, total)
        if not self.captured:
            self.steer(images.device)  # once: graphs keep the tensors they were captured with
        if take.__name__ not in self.captured:
            self.captured[take.__name__] = self.graph(lambda x, y: take(x, y, len(y)))
        return self.captured[take.__name__](images, labels)

    def take(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """The step itself, eagerly."""
        with self.autocast():
            losses = self.pass_losses(self.laid_out(images), labels)
        self.update(losses.sum(), total)
        return losses.detach().sum(0)

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """The training pass: the losses [b, E], with their autograd graph."""
        return exit_losses(self.model(images), labels, self.label_smoothing)

    def laid_out(self, images: Tensor) -> Tensor:
        """images in the memory order of the network."""
        return images.contiguous(memory_format=self.memory_format)

    def set_lr(self, factor: float) -> None:
        """Set the learning rates to their initial values times `factor`."""
        for optimizer in self.optimizers():
            group = optimizer.param_groups[0]
            graphs.set_lr(optimizer, group.setdefault("initial_lr", group["lr"]) * factor)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """All optimizers of the method."""
        return [self.optimizer]

    def state(self) -> dict[str, Any]:
        """The state to resume training from, on any device, with or without CUDA graphs."""
        return {"net": self.net.state_dict(), "optimizer": graphs.portable(self.optimizer)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])

    def update(self, loss_sum: Tensor, total: int) -> None:
        """One step on the global mean; DistributedDataParallel averages over processes."""
        self.optimizer.zero_grad(set_to_none=True)
        (loss_sum * (self.workers.world / total)).backward()
        self.optimizer.step()

    def steer(self, device: torch.device) -> None:
        """Move the optimizers' state to the device, as graphs of their steps require.

        Call it before the first step, and after loading saved state.
        """
        for optimizer in self.optimizers():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
                if "capturable" in group:
                    group["capturable"] = device.type == "cuda"
            for state in optimizer.state.values():
                if "step" in state:
                    state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(device)
            graphs.steer(optimizer, device)
        # torch warns about the eager steps before the capture.
        warnings.filterwarnings("ignore", ".*capturable=True.*", UserWarning)


@dataclass
class Boosted(Base):
    """Each exit learns what the ensemble of the earlier exits gets wrong (Yu et al., AAAI 2023)."""

    ensemble_reweight: float = 0.5
    equilibrium: str = "all"

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        logits = self.model(images, equilibrium=self.equilibrium)
        return boosted_losses(logits, labels, self.ensemble_reweight, self.label_smoothing)
