"""Algorithm 1 of learning to help (Wu et al., ICLR 2025): what one training batch does.

m is the local net, which is fixed, e the edge net, r a rejector, S the number of batches between
refreshes of the copy of e that r learns from. Batch i, images x with labels y:

    1. edge step      e takes a step on L1 = cross-entropy(e(x), y)
    2. refresh        copies of e that are due become e; the copy of every S answers x
    3. rejector step  every r takes a step on L2, from 1{m(x) = y} and its copy's 1{e(x) != y}

The release trains one e for every r. Here e, which depends on no cost and no S, is trained once,
and all r beside it as one stack.

Several processes share a batch (experiment.parallel): below, B is this process's part of it, and
L1, L2 and all gradients are those of the whole batch. All processes hold the same e, r and copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data import ImageBatches
from experiment.cuda_graph import StepGraph, autocast, portable
from experiment.parallel import ALONE, Workers
from learning_to_help.edge_copies import Ask, EdgeCopies, answers
from learning_to_help.settings import Setting
from losses.stage_switching import edge_loss
from losses.surrogates import StackedLoss
from models.rejector import new_rejectors

Forward = Callable[[Tensor], Tensor]  # images [B, 3, H, W] to logits [B, K]


def step(
    i: int,
    edge_step: EdgeStep,
    rejectors: Rejectors,
    images: Tensor,
    plain: Tensor,
    labels: Tensor,
    local_logits: Tensor,
    pictures: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Batch i of an epoch, counted from 0; returns L1, a scalar, and L2 [R].

    images [B, 3, H, W] are the edge's, with its augmentation; plain are the same images without;
    labels [B]; local_logits [B, K] those of m. Where the edge is a head on features [B, D], they
    take the place of images and plain, and pictures [B, 3, H, W] are the rejectors' images. The
    next call overwrites the tensors returned.
    """
    l1, edge_logits = edge_step(images, labels)
    edge_wrong = rejectors.copies.answers(i, edge_step.edge, edge_logits, plain) != labels  # [S, B]
    pictures = plain if pictures is None else pictures
    return l1, rejectors.update(pictures, labels, local_logits, edge_wrong)


class EdgeStep:
    """The edge step, and the predicted classes of the edge and its copies.

    The edge is on its device already. bf16: forward passes in bfloat16 (autocast); weights,
    gradients and optimizer stay float32. channels_last: the memory order of the feature maps.
    compiled: torch.compile for batches of `batch_size`; other sizes run uncompiled. graph: on CUDA
    and one process, launch a step as one graph (experiment.cuda_graph). batch_size counts the
    images of all workers.
    """

    def __init__(
        self,
        edge: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        *,
        bf16: bool = False,
        channels_last: bool = False,
        compiled: bool = False,
        graph: bool = True,
        workers: Workers = ALONE,
    ):
        self.edge, self.optimizer, self.workers = edge, optimizer, workers
        self.batch_size = len(workers.share(torch.empty(batch_size)))
        graph = graph and workers.world == 1
        device = next(edge.parameters()).device
        self.autocast = autocast(device, bf16)
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.full_batch_forward: Forward = torch.compile(edge, dynamic=False) if compiled else edge
        self.step = StepGraph(self._step, device, graph)
        self.edge_answers = StepGraph(self._edge_answers, device, graph)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] and labels [B] to L1, a scalar, and the logits it came from [B, K].

        Both are static buffers on CUDA: copy them before the next call.
        """
        return self.step(images, labels)

    def ask(self, net: nn.Module, images: Tensor) -> Tensor:
        """Predicted classes [B] of the edge or of a copy in eval mode.

        Those of the edge are a static buffer on CUDA: copy them before the next call.
        """
        if net is self.edge and len(images) == self.batch_size:
            return self.edge_answers(images)
        with self.autocast():
            return answers(net, images.contiguous(memory_format=self.order))

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            logits = self._forward(images)(images.contiguous(memory_format=self.order))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = edge_loss(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.workers.average(self.edge.parameters(), loss, len(labels))
        self.optimizer.step()
        self.workers.copy_first(self.edge.buffers())  # batch norm's running statistics
        return loss.detach(), logits.detach()

    def _edge_answers(self, images: Tensor) -> Tensor:
        with self.autocast():
            images = images.contiguous(memory_format=self.order)
            return answers(self.edge, images, self._forward(images))

    def _forward(self, images: Tensor) -> Forward:
        return self.full_batch_forward if len(images) == self.batch_size else self.edge


class Rejectors:
    """The rejector step of all rejectors, and the copies of the edge that they learn from.

    The rejectors are float32 even where the edge computes in bfloat16. graph: on CUDA and one
    process, launch their step as one graph (experiment.cuda_graph). outages, probe, probe_every,
    ask, workers: see EdgeCopies.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        edge: nn.Module,
        device: torch.device,
        *,
        seed: int,
        lr: float,
        momentum: float,
        graph: bool = True,
        outages: Sequence[tuple[int, int]] = (),
        probe: Tensor | None = None,
        probe_every: int = 10,
        ask: Ask = answers,
        workers: Workers = ALONE,
    ):
        self.workers = workers
        self.net = new_rejectors(len(settings), seed).to(device)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr, momentum, fused=device.type != "mps"
        )
        self.copies = EdgeCopies(
            edge, (s.async_freq for s in settings), outages, probe, probe_every, ask, workers
        )
        freqs = [self.copies.freqs.index(s.async_freq) for s in settings]
        self.freq_of = torch.tensor(freqs, device=device)
        self.loss = StackedLoss(
            [s.surrogate for s in settings],
            [s.cost_1 for s in settings],
            [s.cost_e for s in settings],
            device,
        )
        self.update = StepGraph(self._update, device, graph and workers.world == 1)

    def _update(
        self, images: Tensor, labels: Tensor, local_logits: Tensor, edge_wrong: Tensor
    ) -> Tensor:
        """The rejector step: returns L2 [R] before it. edge_wrong [S, B] of the copy of every S."""
        losses = self.loss(self.net(images), local_logits, labels, edge_wrong[self.freq_of])
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # rejectors share no weight: each gets the gradient of its mean
        losses = self.workers.average(self.net.parameters(), losses, len(labels))
        self.optimizer.step()
        return losses.detach()

    def state(self) -> dict[str, Any]:
        return {
            "rejectors": self.net.state_dict(),
            "rejector_optimizer": portable(self.optimizer),
            "copies": self.copies.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["rejectors"])
        self.optimizer.load_state_dict(state["rejector_optimizer"])
        self.copies.load(state["copies"])


def probe_images(val: ImageBatches, size: int, seed: int) -> Tensor:
    """`size` random val images [P, 3, H, W] to compare adaptive copies on; all if val has fewer."""
    order = torch.randperm(len(val.labels), generator=torch.Generator().manual_seed(seed))
    return val.plain(order[:size].to(val.device))
