"""A training step: what all methods share, and the two that are one pass each.

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

from early_exit.parallel import Workers
from experiment import cuda_graph as graphs
from losses.early_exit import boosted_losses, exit_losses

Take = Callable[[Tensor, Tensor, int], Tensor]  # images, labels and `total` to the sums


@dataclass
class Base:
    """Sum over exits of the mean cross-entropy (BranchyNet).

    compiled: torch.compile of the pass, forward, loss and backward. graph: makes a StepGraph of a
    function of images and labels, for one process alone; None: steps are taken eagerly.
    """

    net: nn.Module  # the network itself
    model: nn.Module  # what a training pass calls: the network, or it for several processes
    optimizer: torch.optim.SGD | torch.optim.AdamW
    workers: Workers
    label_smoothing: float = 0.0
    autocast: Callable[[], AbstractContextManager] = nullcontext
    memory_format: torch.memory_format = torch.contiguous_format
    compiled: bool = field(default=False, kw_only=True)
    graph: Callable[[graphs.Step], Callable] | None = field(default=None, kw_only=True)

    least = 2  # samples a process needs in a batch

    def __post_init__(self) -> None:
        self.captured: dict[str, Callable] = {}
        self.pass_losses = self.compile(self.losses)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, labels its last argument, compiled for the batch size of its first call.

        Another one, as of an epoch's last batch, runs eagerly: to compile takes minutes.
        """
        if not self.compiled:
            return function
        fast, sizes = torch.compile(function), set()

        def run(*args):
            size = len(args[-1])
            if not sizes:
                sizes.add(size)
            return (fast if size in sizes else function)(*args)

        return run

    def begin_epoch(self) -> None:
        """Before the first batch of every epoch."""

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        return self.run(self.take, images, labels, total)

    def run(self, take: Take, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """take(images, labels, total), replayed where steps are graphs."""
        if self.graph is None:
            return take(images, labels, total)
        if not self.captured:
            self.steer(images.device)  # once: a graph keeps the tensors that it was captured with
        if take.__name__ not in self.captured:
            self.captured[take.__name__] = self.graph(lambda x, y: take(x, y, len(y)))
        return self.captured[take.__name__](images, labels)

    def take(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """The step itself."""
        with self.autocast():
            losses = self.pass_losses(self.laid_out(images), labels)
        self.update(losses.sum(), total)
        return losses.detach().sum(0)

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """The training pass: [b, E], with its graph."""
        return exit_losses(self.model(images), labels, self.label_smoothing)

    def logits(self, images: Tensor, **how) -> list[Tensor]:
        """The training pass without the loss: E times [b, K]."""
        with self.autocast():
            return self.model(self.laid_out(images), **how)

    def laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.memory_format)

    def set_lr(self, factor: float) -> None:
        """Learning rates as they were at first, times `factor`."""
        for optimizer in self.optimizers():
            group = optimizer.param_groups[0]
            graphs.set_lr(optimizer, group.setdefault("initial_lr", group["lr"]) * factor)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def update(self, loss_sum: Tensor, total: int) -> None:
        """One step on the global mean; DistributedDataParallel averages over processes."""
        self.optimizer.zero_grad(set_to_none=True)
        (loss_sum * (self.workers.world / total)).backward()
        self.optimizer.step()

    def steer(self, device: torch.device) -> None:
        """Make the optimizers such that a graph can hold their steps: nothing of them on the host.

        Before the first step, and after state was loaded, if any is.
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
        # Said of the eager steps before the capture.
        warnings.filterwarnings("ignore", ".*capturable=True.*", UserWarning)


@dataclass
class Boosted(Base):
    """Each exit learns what the ensemble of those before it left (Yu et al., AAAI 2023)."""

    ensemble_reweight: float = 0.5
    equilibrium: str = "all"

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        logits = self.model(images, equilibrium=self.equilibrium)
        return boosted_losses(logits, labels, self.ensemble_reweight, self.label_smoothing)
