"""The edge net's training step on L1, and how the edge and its copies are asked for answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiment.cuda_graph import Capture, StepGraph, autocast
from learning_to_help.edge_copies import answers
from losses.stage_switching import edge_loss


class EdgeStep:
    """One step of the edge on its loss, and its answers just after it.

    The edge is on its device. bf16: its forward passes in bfloat16 (autocast), weights, gradients
    and optimizer in float32. channels_last: the memory order of its maps. compiled: forward and
    backward by torch.compile, for batches of `batch_size`; others run as they are. graph: on CUDA
    as one launch (experiment.cuda_graph), for which `capture` is as there.
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
        capture: Capture | None = None,
    ):
        self.edge, self.optimizer, self.batch_size = edge, optimizer, batch_size
        device = next(edge.parameters()).device
        self.autocast = autocast(device, bf16)
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.fast = torch.compile(edge, dynamic=False) if compiled else edge
        self.step = StepGraph(self._step, device, graph, capture)
        self.own_answers = StepGraph(self._own_answers, device, graph, capture)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] and labels [B] to L1, a scalar, and the logits it came from [B, K].

        Both lie where the next call's will lie.
        """
        return self.step(images, labels)

    def ask(self, net: nn.Module, images: Tensor) -> Tensor:
        """Predicted classes [B] of the edge or of a copy in eval mode.

        Those of the edge on a batch lie where the next will lie.
        """
        if net is self.edge and len(images) == self.batch_size:
            return self.own_answers(images)
        with self.autocast():
            return answers(net, images.contiguous(memory_format=self.order))

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with self.autocast():
            logits = self._net(images)(images.contiguous(memory_format=self.order))
        logits = logits.float()
        loss = edge_loss(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), logits.detach()

    def _own_answers(self, images: Tensor) -> Tensor:
        with self.autocast():
            return answers(self._net(images), images.contiguous(memory_format=self.order))

    def _net(self, images: Tensor) -> nn.Module:
        return self.fast if len(images) == self.batch_size else self.edge
