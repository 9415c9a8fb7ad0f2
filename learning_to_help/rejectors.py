"""Rejectors in training beside the edge: one stack, one optimiser, what they know of the edge."""

import torch

from data import Batches
from losses.stacked import StackedLoss
from models.edge_copies import EdgeCopies
from models.rejector import new_rejectors


class Rejectors:
    """All rejectors, what each is trained for, and what they know of the edge.

    `link` is passed to EdgeCopies: outages, probe, probe_every.
    """

    def __init__(self, settings, edge, device, *, seed, lr, momentum, **link):
        self.net = new_rejectors(len(settings), seed).to(device)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr, momentum, fused=device.type != "mps"
        )
        self.copies = EdgeCopies(edge, list(dict.fromkeys(s.async_freq for s in settings)), **link)
        freqs = [self.copies.freqs.index(s.async_freq) for s in settings]
        self.freq_of = torch.tensor(freqs, device=device)
        costs = [(s.surrogate, s.cost_1, s.cost_e) for s in settings]
        self.loss = StackedLoss(*zip(*costs, strict=True), device)

    def step(self, i, edge, edge_logits, images, labels, local_logits) -> torch.Tensor:
        """One step on L2 of every rejector after batch i's edge step; returns L2 as [R]."""
        wrong = self.copies.answers(i, edge, edge_logits, images) != labels  # [S, B]
        losses = self.loss(self.net(images), local_logits, labels, wrong[self.freq_of])
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # they share no weight: each gets the gradient of its own mean
        self.optimizer.step()
        return losses.detach()

    def state(self) -> dict:
        return {
            "rejectors": self.net.state_dict(),
            "rejector_optimizer": self.optimizer.state_dict(),
            "copies": self.copies.state(),
        }

    def load(self, state: dict) -> None:
        self.net.load_state_dict(state["rejectors"])
        self.optimizer.load_state_dict(state["rejector_optimizer"])
        self.copies.load(state["copies"])


def probe_images(val: Batches, size: int, seed: int) -> torch.Tensor:
    """The val images [P, 3, H, W] that adaptive copies are judged on: `size`, or all there are."""
    order = torch.randperm(len(val.labels), generator=torch.Generator().manual_seed(seed))
    return val.plain(order[:size].to(val.device))
