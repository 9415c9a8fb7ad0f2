"""One training step of each method, the same on one process and on several.

`step` takes this process's rows of a global batch of `total` samples, updates the network, and
returns the sum over these rows of the cross-entropy at each exit, [E], for the log.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from early_exit import meta_gradient
from early_exit.parallel import Workers
from losses.early_exit import (
    assign_exits,
    boosted_losses,
    confidences,
    exit_losses,
    exit_means,
)
from models.weight_net import WeightNet, sample_weights

# Losses [b, E] with their graph, what the weight net sees, and the random state before the pass.
Pass = tuple[Tensor, list[Tensor], list[Tensor]]


class Half(NamedTuple):
    """This process's rows of one half of a global batch."""

    images: Tensor
    labels: Tensor
    total: int  # samples of the half on all processes
    first: int  # where in the batch it begins


@dataclass
class Base:
    """Sum over exits of the mean cross-entropy (BranchyNet)."""

    net: nn.Module  # the network itself
    model: nn.Module  # what a training pass calls: the network, compiled, or for several processes
    optimizer: torch.optim.SGD | torch.optim.AdamW
    workers: Workers
    label_smoothing: float = 0.0
    autocast: Callable[[], AbstractContextManager] = nullcontext
    memory_format: torch.memory_format = torch.contiguous_format

    least = 2  # samples a process needs in a batch

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        losses = exit_losses(self.logits(images), labels, self.label_smoothing)
        self.update(losses.sum(), total)
        return losses.detach().sum(0)

    def logits(self, images: Tensor, **how) -> list[Tensor]:
        """The training pass: E times [b, K]."""
        with self.autocast():
            return self.model(images.contiguous(memory_format=self.memory_format), **how)

    def set_lr(self, factor: float) -> None:
        """Learning rates as they were at first, times `factor`."""
        for optimizer in self.optimizers():
            group = optimizer.param_groups[0]
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def update(self, loss_sum: Tensor, total: int) -> None:
        """One step on the global mean; DistributedDataParallel averages over processes."""
        self.optimizer.zero_grad(set_to_none=True)
        (loss_sum * (self.workers.world / total)).backward()
        self.optimizer.step()


@dataclass
class Boosted(Base):
    """Each exit learns what the ensemble of those before it left (Yu et al., AAAI 2023)."""

    ensemble_reweight: float = 0.5
    equilibrium: bool = True

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        logits = self.logits(images, equilibrium=self.equilibrium)
        losses = boosted_losses(logits, labels, self.ensemble_reweight, self.label_smoothing)
        self.update(losses.sum(), total)
        return losses.detach().sum(0)


@dataclass
class L2W(Base):
    """Weights from a net that is trained by a meta-gradient (Han et al., ECCV 2022, algorithm 1).

    A batch is cut in halves a and b. Pseudo-step on a; the meta loss on b at its end, where exit k
    is charged with the samples that it would take; that trains the weight net; the real step on a
    with its new weights. Then the halves change places.
    """

    weight_net: WeightNet = None
    meta_optimizer: torch.optim.Adam = None
    epsilon: float = 0.8
    dimension: str = "col"
    shares: Tensor = None  # [E] of samples at each exit, in the meta loss
    meta_interval: int = 1
    save_memory: bool = False  # a pass more over each half, and never two graphs at once
    steps: int = 0  # batches seen

    least = 4

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        cut = (total + 1) // 2
        rows = len(range(self.workers.rank, cut, self.workers.world))
        images = images.contiguous(memory_format=self.memory_format)
        a = Half(images[:rows], labels[:rows], cut, 0)
        b = Half(images[rows:], labels[rows:], total - cut, cut)
        meta = self.steps % self.meta_interval == 0
        self.steps += 1
        return self.half(a, b, meta) + self.half(b, a, meta)

    def half(self, a: Half, b: Half, meta: bool) -> Tensor:
        """The step on a, the weight net trained on b before it if `meta`."""
        if meta and self.save_memory:
            self.train_weight_net(a, b)
        dropout = meta_gradient.random_state(a.images.device)
        logits = self.logits(a.images)
        losses = exit_losses(logits, a.labels, self.label_smoothing)
        seen = self.seen(a, losses, logits)
        if meta and not self.save_memory:
            self.train_weight_net(a, b, (losses, seen, dropout))
        with torch.no_grad():
            weights = self.workers.share(self.weights(seen), a.first)
        self.update((weights * losses).sum(), a.total)
        return losses.detach().sum(0)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer, self.meta_optimizer]

    def weights(self, seen: list[Tensor]) -> Tensor:
        """W [B, E] of all of a half, from its losses and confidences [B, E]."""
        return sample_weights(self.weight_net(*seen), self.epsilon, self.dimension)

    def seen(self, half: Half, losses: Tensor, logits: list[Tensor]) -> list[Tensor]:
        """What the weight net sees of all of a half: losses and confidences, [B, E] each."""
        return [self.workers.gather(x, half.first) for x in (losses, confidences(logits))]

    def train_weight_net(self, a: Half, b: Half, passed: Pass | None = None) -> None:
        """One Adam step down the meta loss on b, as a function of the weights on a.

        passed: the pass over a that the real step will use; its graph is kept for that. Without,
        one of its own, whose graph is freed before the pass over b makes another.
        """
        params = dict(self.net.named_parameters())
        if passed is None:
            dropout = meta_gradient.random_state(a.images.device)
            logits = self.logits_at(params, a.images)
            losses = exit_losses(logits, a.labels, self.label_smoothing)
            passed = losses, self.seen(a, losses, logits), dropout
            keep_graph = False
            del logits
        else:
            keep_graph = True
        losses, seen, dropout = passed
        weights = self.weights(seen)
        own = self.workers.share(weights.detach(), a.first)
        gradients = torch.autograd.grad(
            (own * losses).sum() / a.total,
            list(params.values()),
            retain_graph=keep_graph,
            materialize_grads=True,
        )
        del losses, passed
        gradients = self.workers.add(dict(zip(params, gradients, strict=True)))

        stepped = meta_gradient.pseudo_step(params, gradients, self.optimizer)
        logits = self.logits_at(stepped, b.images)
        losses_b = exit_losses(logits, b.labels, self.label_smoothing)
        taken = assign_exits(self.workers.gather(confidences(logits), b.first), self.shares)
        charge = self.workers.share(exit_means(taken, losses_b), b.first)
        along = torch.autograd.grad(
            (charge * losses_b).sum(), list(stepped.values()), materialize_grads=True
        )
        along = self.workers.add(dict(zip(stepped, along, strict=True)))
        along = meta_gradient.through_step(along, params, gradients, self.optimizer)
        del logits, losses_b, stepped, gradients

        def losses_at(p: dict[str, Tensor]) -> Tensor:
            return exit_losses(self.logits_at(p, a.images), a.labels, self.label_smoothing)

        with meta_gradient.same_dropout(dropout, a.images.device):
            products = meta_gradient.inner_products(losses_at, params, along)
        slope = self.workers.gather(products / a.total, a.first)
        self.meta_optimizer.zero_grad(set_to_none=True)
        weights.backward(slope)
        self.meta_optimizer.step()

    def logits_at(self, params: dict[str, Tensor], images: Tensor) -> list[Tensor]:
        """The training pass at other parameters, leaving the running statistics alone."""
        with self.autocast():
            return meta_gradient.call(self.net, params, images)
