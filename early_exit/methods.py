"""The training methods: base and boosted (steps.py), and L2W.

All of them take the same steps on one process and on several.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deferral.exits import exit_counts
from early_exit import meta_gradient
from early_exit.meta_gradient import Tensors
from early_exit.steps import Base
from experiment import cuda_graph as graphs
from experiment import random_state
from losses.early_exit import assign_exits, doubts, exit_losses, exit_means
from models.weight_net import WeightNet, sample_weights

# Losses [b, E] with their autograd graph, the inputs of the weight net, and the random state before
# the pass (None under a CUDA graph).
Pass = tuple[Tensor, list[Tensor], list[Tensor] | None]


class Half(NamedTuple):
    """This process's rows of one half of a global batch."""

    images: Tensor
    labels: Tensor
    total: int  # samples of the half on all processes
    first: int  # row of the global batch that the half starts at


@dataclass
class L2W(Base):
    """Sample weights from a net trained by a meta-gradient (Han et al., ECCV 2022, algorithm 1).

    Splits each batch into halves a and b. It takes a pseudo-step on a; computes the meta loss at
    its end on b, where exit k is charged with the samples that it would answer; trains the weight
    net with that; and takes the real step on a with the new weights. Then a and b swap roles.

    In units of one forward pass over a half, the step of one half costs 1 (pass over a), 2 (its
    gradient, for the pseudo-step), 3 (pass over b and its gradient), 3 (the derivative along that:
    a pass over a in forward mode) and 2 (the gradient of the real step): 11, where a step of `Base`
    costs 3. `save_memory` adds a pass over a.

    The meta-gradient is computed in float32 or better, without TF32. Under autocast only the real
    step has low precision, which adds a pass over a: with everything in bfloat16 the weight net's
    gradient had a cosine of -0.10 to that of float64 at the start of training (MSDNet with 5 exits
    on digits, halves of 16); now it has 0.9999.
    """

    weight_net: WeightNet = field(kw_only=True)
    meta_optimizer: torch.optim.Optimizer = field(kw_only=True)
    shares: np.ndarray = field(kw_only=True)  # [E] of samples at each exit, in the meta loss
    epsilon: float = field(default=0.8, kw_only=True)
    dimension: str = field(default="col", kw_only=True)
    meta_interval: int = field(default=1, kw_only=True)
    # One more pass over each half, and never two autograd graphs at once.
    save_memory: bool = field(default=False, kw_only=True)
    steps: int = field(default=0, kw_only=True)  # batches of this epoch so far

    min_samples = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.dropout = has_dropout(self.net)
        # Compiled passes draw their own random numbers: with dropout the pass over a and its
        # derivative would drop different units.
        self.pass_both, self.pass_along = self.both, self.losses_along
        if not self.dropout:
            self.pass_both, self.pass_along = (
                self.compile(self.both),
                self.compile(self.losses_along),
            )
        self.pass_elsewhere = self.compile(self.elsewhere)
        if self.compiled:
            # Otherwise a backward pass may overwrite buffers that the next one needs.
            torch._functorch.config.donated_buffer = False

    def begin_epoch(self, first: int) -> None:
        """`meta_interval` counts from each epoch's first batch, as in the authors' code."""
        self.steps = first

    def step(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        meta = self.steps % self.meta_interval == 0
        self.steps += 1
        return self.run(self.with_meta if meta else self.without_meta, images, labels, total)

    def with_meta(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """A step that trains the weight net before each half."""
        a, b = self.halves(images, labels, total)
        return self.half(a, b, True) + self.half(b, a, True)

    def without_meta(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """A step with the current weight net."""
        a, b = self.halves(images, labels, total)
        return self.half(a, b, False) + self.half(b, a, False)

    def halves(self, images: Tensor, labels: Tensor, total: int) -> tuple[Half, Half]:
        """This process's rows of both halves of the global batch."""
        cut = (total + 1) // 2
        rows = len(range(self.workers.rank, cut, self.workers.world))
        images = self.laid_out(images)
        a = Half(images[:rows], labels[:rows], cut, 0)
        return a, Half(images[rows:], labels[rows:], total - cut, cut)

    def half(self, a: Half, b: Half, meta: bool) -> Tensor:
        """The real step on a; with `meta` the weight net is trained on b before it."""
        two_passes = self.save_memory or self.autocast is not nullcontext
        if meta and two_passes:
            self.train_weight_net(a, b)
        shared_pass = meta and not two_passes
        random = self.random_state(a)
        exact = meta_gradient.without_tf32() if shared_pass else nullcontext()
        with exact, self.autocast(), self.attention(a):
            losses, logits = self.pass_both(a.images, a.labels)
        inputs = self.weight_inputs(a, losses, logits)
        if shared_pass:
            self.train_weight_net(a, b, (losses, inputs, random))
        with torch.no_grad():
            weights = self.workers.share(self.weights(inputs), a.first)
        self.update((weights * losses).sum(), a.total)
        return losses.detach().sum(0)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer, self.meta_optimizer]

    def state(self) -> dict[str, Any]:
        return super().state() | {
            "weight_net": self.weight_net.state_dict(),
            "meta_optimizer": graphs.portable(self.meta_optimizer),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.weight_net.load_state_dict(state["weight_net"])
        self.meta_optimizer.load_state_dict(state["meta_optimizer"])

    def weights(self, inputs: list[Tensor]) -> Tensor:
        """W [B, E] of a whole half, from its losses and confidences [B, E]."""
        return sample_weights(self.weight_net(*inputs), self.epsilon, self.dimension)

    @torch.no_grad()
    def weight_inputs(self, half: Half, losses: Tensor, logits: list[Tensor]) -> list[Tensor]:
        """The weight net's inputs for a whole half: losses and confidences, [B, E] each."""
        return [self.workers.gather(x, half.first) for x in (losses, 1 - doubts(logits))]

    @meta_gradient.without_tf32()
    def train_weight_net(self, a: Half, b: Half, passed: Pass | None = None) -> None:
        """One Adam step down the meta loss on b, as a function of the weights on a.

        passed: the pass over a, in float32, that the real step will use; its autograd graph is
        kept. None: make a pass here and free its graph before the pass over b. Call this outside of
        autocast.
        """
        params: Tensors = dict(self.net.named_parameters())
        keep_graph = passed is not None
        if passed is None:
            random = self.random_state(a)
            pass_over_a = self.elsewhere if self.dropout else self.pass_elsewhere
            with self.attention(a):
                losses, logits = pass_over_a(params, a.images, a.labels)
            passed = losses, self.weight_inputs(a, losses, logits), random
            del logits
        losses, inputs, random = passed
        weights = self.weights(inputs)
        weights_here = self.workers.share(weights.detach(), a.first)
        of_process = torch.autograd.grad(
            (weights_here * losses).sum() / a.total,
            list(params.values()),
            retain_graph=keep_graph,
            materialize_grads=True,
        )
        del losses, passed
        gradients = self.workers.add(dict(zip(params, of_process, strict=True)))

        stepped = meta_gradient.pseudo_step(params, gradients, self.optimizer)
        losses_b, logits = self.pass_elsewhere(stepped, b.images, b.labels)
        with torch.no_grad():
            doubt = self.workers.gather(doubts(logits), b.first)
            taken = assign_exits(doubt, exit_counts(len(doubt), self.shares).tolist())
            charge = self.workers.share(exit_means(taken, losses_b), b.first)
        of_process = torch.autograd.grad(
            (charge * losses_b).sum(), list(stepped.values()), materialize_grads=True
        )
        v = self.workers.add(dict(zip(stepped, of_process, strict=True)))  # dM / d theta'
        v = meta_gradient.through_step(v, params, gradients, self.optimizer)
        del logits, losses_b, stepped, gradients, of_process
        same_dropout: AbstractContextManager[None] = nullcontext()
        if random is not None:
            same_dropout = meta_gradient.same_dropout(random, a.images.device)
        with same_dropout:
            products = self.pass_along(params, v, a.images, a.labels)
        slope = self.workers.gather(products / a.total, a.first)
        self.meta_optimizer.zero_grad(set_to_none=True)
        weights.backward(slope)
        self.meta_optimizer.step()

    def both(self, images: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The training pass: losses [b, E] and logits."""
        logits = self.model(images)
        return exit_losses(logits, labels, self.label_smoothing), logits

    def elsewhere(
        self, params: Tensors, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The training pass at other parameters, without updating running statistics."""
        logits = meta_gradient.call(self.net, params, images)
        return exit_losses(logits, labels, self.label_smoothing), logits

    def losses_along(
        self, params: Tensors, along: Tensors, images: Tensor, labels: Tensor
    ) -> Tensor:
        """The derivative of the losses [b, E] at `params` along `along`: a forward-mode pass."""
        return meta_gradient.inner_products(
            lambda p: self.elsewhere(p, images, labels)[0], params, along
        )

    def random_state(self, half: Half) -> list[Tensor] | None:
        """The random state, to repeat a pass with the same dropout; None under CUDA graphs."""
        return None if self.graph else random_state(half.images.device)

    def attention(self, half: Half) -> AbstractContextManager:
        """The attention kernel for the pass over a, which is later repeated in forward mode.

        CUDA's fused kernels draw dropout by themselves, so with dropout it is matrix products.
        """
        if self.dropout and half.images.device.type == "cuda":
            return sdpa_kernel(SDPBackend.MATH)
        return nullcontext()


def has_dropout(net: nn.Module) -> bool:
    """Whether a layer drops units in training, by its type or its `dropout` attribute."""
    shares = (
        layer.p
        if isinstance(layer, nn.modules.dropout._DropoutNd)
        else getattr(layer, "dropout", 0)
        for layer in net.modules()
    )
    return any(isinstance(share, (int, float)) and share > 0 for share in shares)
