"""Rejectors in training beside the edge: one stack, one optimiser, what they know of the edge."""

from collections.abc import Callable

import torch
from torch import Tensor

from data import Batches
from experiment.cuda_graph import Capture, StepGraph, portable
from learning_to_help.edge_copies import EdgeCopies
from losses.surrogates import StackedLoss
from models.rejector import new_rejectors


class Rejectors:
    """All rejectors, what each is trained for, and what they know of the edge.

    They are float32 whatever the edge is. graph, capture: their step as one launch on CUDA
    (experiment.cuda_graph). `link` is passed to EdgeCopies: outages, probe, probe_every, ask.
    """

    def __init__(
        self,
        settings,
        edge,
        device,
        *,
        seed,
        lr,
        momentum,
        graph: bool = True,
        capture: Capture | None = None,
        **link,
    ):
        self.net = new_rejectors(len(settings), seed).to(device)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr, momentum, fused=device.type != "mps"
        )
        self.copies = EdgeCopies(edge, list(dict.fromkeys(s.async_freq for s in settings)), **link)
        freqs = [self.copies.freqs.index(s.async_freq) for s in settings]
        self.freq_of = torch.tensor(freqs, device=device)
        costs = [(s.surrogate, s.cost_1, s.cost_e) for s in settings]
        self.loss = StackedLoss(*zip(*costs, strict=True), device)

        self.update = StepGraph(self._update, device, graph, capture)

    def start_epoch(self, batches: list[Tensor], images_of: Callable[[Tensor], Tensor]) -> None:
        """What is to come, as EdgeCopies has it."""
        self.copies.start_epoch(batches, images_of)

    def step(self, i, edge, edge_logits, images, labels, local_logits) -> Tensor:
        """One step on L2 of every rejector after batch i's edge step; returns L2 as [R].

        What it returns lies where the next step's will lie.
        """
        wrong = self.copies.answers(i, edge, edge_logits, images) != labels  # [S, B]
        return self.update(images, labels, local_logits, wrong)

    def _update(self, images: Tensor, labels: Tensor, local_logits: Tensor, wrong: Tensor):
        losses = self.loss(self.net(images), local_logits, labels, wrong[self.freq_of])
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # they share no weight: each gets the gradient of its own mean
        self.optimizer.step()
        return losses.detach()

    def state(self) -> dict:
        return {
            "rejectors": self.net.state_dict(),
            "rejector_optimizer": portable(self.optimizer),
            "copies": self.copies.state(),
        }

    def load(self, state: dict) -> None:
        self.net.load_state_dict(state["rejectors"])
        self.optimizer.load_state_dict(state["rejector_optimizer"])
        self.copies.load(state["copies"])


def probe_images(val: Batches, size: int, seed: int) -> Tensor:
    """The val images [P, 3, H, W] that adaptive copies are judged on: `size`, or all there are."""
    order = torch.randperm(len(val.labels), generator=torch.Generator().manual_seed(seed))
    return val.plain(order[:size].to(val.device))
