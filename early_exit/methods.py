"""The methods by which exits are trained: base and boosted (steps.py), and L2W.

All take the same steps on one process and on several.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deferral.exits import exit_counts
from early_exit import meta_gradient
from early_exit.steps import Base, Boosted
from losses.early_exit import assign_exits, doubts, exit_losses, exit_means
from models.weight_net import WeightNet, sample_weights

__all__ = ["L2W", "Base", "Boosted", "Half"]

# Losses [b, E] with their graph, what the weight net sees, and the random state before the pass.
Pass = tuple[Tensor, list[Tensor], list[Tensor]]


class Half(NamedTuple):
    """This process's rows of one half of a global batch."""

    images: Tensor
    labels: Tensor
    total: int  # samples of the half on all processes
    first: int  # where in the batch it begins


@dataclass
class L2W(Base):
    """Weights from a net that is trained by a meta-gradient (Han et al., ECCV 2022, algorithm 1).

    A batch is cut in halves a and b. Pseudo-step on a; the meta loss on b at its end, where exit k
    is charged with the samples that it would take; that trains the weight net; the real step on a
    with its new weights. Then the halves change places.

    In forward passes of a half, a half's step costs 1 (pass over a), 2 (its gradient, for the
    pseudo-step), 3 (pass over b and its gradient), 3 (the derivative along that: a pass over a in
    forward mode) and 2 (the gradient of the real step): 11, where a step of `Base` costs 3. With
    `save_memory` there is a pass over a more.

    All that the meta-gradient is made of is computed in float32 at least, without TF32. Under
    autocast only the real step is in low precision, and there is a pass over a more: in bfloat16
    the weight net's gradient had a cosine of -0.10 to that of float64 at the start of a training
    (MSDNet with 5 exits on digits, halves of 16), now 0.9999.
    """

    weight_net: WeightNet = None
    meta_optimizer: torch.optim.Adam = None
    epsilon: float = 0.8
    dimension: str = "col"
    shares: np.ndarray = None  # [E] of samples at each exit, in the meta loss
    meta_interval: int = 1
    save_memory: bool = False  # a pass more over each half, and never two graphs at once
    steps: int = 0  # batches seen in this epoch

    least = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.draws = draws(self.net)
        # What torch.compile makes draws its own random numbers, another pass other ones; then the
        # pass over a and its derivative would not belong together.
        alike = (lambda f: f) if self.draws else self.compile
        self.pass_both, self.pass_along = alike(self.both), alike(self.losses_along)
        self.pass_elsewhere = self.compile(self.elsewhere)
        if self.compiled:
            # Else a backward pass may overwrite what the next one over the same graph needs.
            torch._functorch.config.donated_buffer = False

    def begin_epoch(self) -> None:
        """`meta_interval` counts from each epoch's first batch, as in the authors' code."""
        self.steps = 0

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        meta = self.steps % self.meta_interval == 0
        self.steps += 1
        return self.run(self.with_meta if meta else self.without_meta, images, labels, total)

    def with_meta(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        a, b = self.halves(images, labels, total)
        return self.half(a, b, True) + self.half(b, a, True)

    def without_meta(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        a, b = self.halves(images, labels, total)
        return self.half(a, b, False) + self.half(b, a, False)

    def halves(self, images: Tensor, labels: Tensor, total: int) -> tuple[Half, Half]:
        cut = (total + 1) // 2
        rows = len(range(self.workers.rank, cut, self.workers.world))
        images = self.laid_out(images)
        a = Half(images[:rows], labels[:rows], cut, 0)
        return a, Half(images[rows:], labels[rows:], total - cut, cut)

    def half(self, a: Half, b: Half, meta: bool) -> Tensor:
        """The step on a, the weight net trained on b before it if `meta`."""
        apart = self.save_memory or self.autocast is not nullcontext
        if meta and apart:
            self.train_weight_net(a, b)
        together = meta and not apart
        random = self.random_state(a)
        exact = meta_gradient.without_tf32() if together else nullcontext()
        with exact, self.autocast(), self.attention(a):
            losses, logits = self.pass_both(a.images, a.labels)
        seen = self.seen(a, losses, logits)
        if together:
            self.train_weight_net(a, b, (losses, seen, random))
        with torch.no_grad():
            weights = self.workers.share(self.weights(seen), a.first)
        self.update((weights * losses).sum(), a.total)
        return losses.detach().sum(0)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer, self.meta_optimizer]

    def weights(self, seen: list[Tensor]) -> Tensor:
        """W [B, E] of all of a half, from its losses and confidences [B, E]."""
        return sample_weights(self.weight_net(*seen), self.epsilon, self.dimension)

    @torch.no_grad()
    def seen(self, half: Half, losses: Tensor, logits: list[Tensor]) -> list[Tensor]:
        """What the weight net sees of all of a half: losses and confidences, [B, E] each."""
        return [self.workers.gather(x, half.first) for x in (losses, 1 - doubts(logits))]

    @meta_gradient.without_tf32()
    def train_weight_net(self, a: Half, b: Half, passed: Pass | None = None) -> None:
        """One Adam step down the meta loss on b, as a function of the weights on a.

        passed: the pass over a that the real step will use, in float32; its graph is kept for that.
        Without, one of its own, whose graph is freed before the pass over b makes another. Outside
        of autocast.
        """
        params = dict(self.net.named_parameters())
        keep_graph = passed is not None
        if passed is None:
            random = self.random_state(a)
            own_pass = self.elsewhere if self.draws else self.pass_elsewhere
            with self.attention(a):
                losses, logits = own_pass(params, a.images, a.labels)
            passed = losses, self.seen(a, losses, logits), random
            del logits
        losses, seen, random = passed
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
        losses_b, logits = self.pass_elsewhere(stepped, b.images, b.labels)
        with torch.no_grad():
            doubt = self.workers.gather(doubts(logits), b.first)
            taken = assign_exits(doubt, exit_counts(len(doubt), self.shares).tolist())
            charge = self.workers.share(exit_means(taken, losses_b), b.first)
        along = torch.autograd.grad(
            (charge * losses_b).sum(), list(stepped.values()), materialize_grads=True
        )
        along = self.workers.add(dict(zip(stepped, along, strict=True)))
        along = meta_gradient.through_step(along, params, gradients, self.optimizer)
        del logits, losses_b, stepped, gradients
        again = nullcontext()
        if random is not None:
            again = meta_gradient.same_dropout(random, a.images.device)
        with again:
            products = self.pass_along(params, along, a.images, a.labels)
        slope = self.workers.gather(products / a.total, a.first)
        self.meta_optimizer.zero_grad(set_to_none=True)
        weights.backward(slope)
        self.meta_optimizer.step()

    def both(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The training pass: losses [b, E] and logits."""
        logits = self.model(images)
        return exit_losses(logits, labels, self.label_smoothing), logits

    def elsewhere(
        self, params: dict[str, Tensor], images: Tensor, labels: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The training pass at other parameters, leaving the running statistics alone."""
        logits = meta_gradient.call(self.net, params, images)
        return exit_losses(logits, labels, self.label_smoothing), logits

    def losses_along(
        self, params: dict[str, Tensor], along: dict[str, Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        """The derivative of the losses [b, E] at `params` in forward mode, the pass made again."""
        return meta_gradient.inner_products(
            lambda p: self.elsewhere(p, images, labels)[0], params, along
        )

    def random_state(self, half: Half) -> list[Tensor] | None:
        """That before a pass, for the same dropout in another; a graph cannot read it."""
        return None if self.graph else meta_gradient.random_state(half.images.device)

    def attention(self, half: Half) -> AbstractContextManager:
        """Attention in the pass over a, whose derivative is wanted.

        A fused kernel of CUDA with dropout keeps to itself what it drops: then matrix products.
        """
        if self.draws and half.images.device.type == "cuda":
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()


def draws(net: nn.Module) -> bool:
    """Whether a training pass draws random numbers: dropout, as far as the layers say."""
    shares = (
        layer.p
        if isinstance(layer, nn.modules.dropout._DropoutNd)
        else getattr(layer, "dropout", 0)
        for layer in net.modules()
    )
    return any(isinstance(share, (int, float)) and share > 0 for share in shares)
