"""What the rejectors know of the edge: frozen copies of it, refreshed every so often."""

import copy

import torch
from torch import Tensor, nn

JOINT = "joint"


def refresh(frozen: nn.Module, edge: nn.Module) -> None:
    """Give a frozen copy the edge's weights and buffers, in place."""
    with torch.no_grad():
        own, new = frozen.state_dict().values(), edge.state_dict().values()
        for mine, its in zip(own, new, strict=True):
            mine.copy_(its)


def answers(net: nn.Module, images: Tensor) -> Tensor:
    """Predicted classes [B] of `net` in eval mode (no dropout, batch norm's running statistics)."""
    mode = net.training
    net.eval()
    with torch.no_grad():
        found = net(images).argmax(-1)
    net.train(mode)
    return found


class EdgeCopies:
    """The edge's answers as the rejectors of every S know them, a copy of the edge for each S.

    S = 1 is the edge itself just after its step; "joint" takes its training forward; S > 1 a copy
    refreshed at batches 0, S, 2 S, ... of an epoch; 0 one refreshed at the end of each epoch.
    """

    def __init__(self, edge: nn.Module, freqs: list[int | str]):
        self.freqs = freqs
        self.copies = {
            s: copy.deepcopy(edge).eval().requires_grad_(False)
            for s in freqs
            if s not in (1, JOINT)
        }

    def answers(self, i: int, edge: nn.Module, edge_logits: Tensor, images: Tensor) -> Tensor:
        """Predicted classes [S, B] after batch i's edge step; edge_logits: its training forward."""
        found = []
        for freq in self.freqs:
            if freq == JOINT:
                found.append(edge_logits.detach().argmax(-1))
            elif freq == 1:
                found.append(answers(edge, images))
            else:
                if freq > 0 and i % freq == 0:
                    refresh(self.copies[freq], edge)
                found.append(answers(self.copies[freq], images))
        return torch.stack(found)

    def end_epoch(self, edge: nn.Module) -> None:
        if 0 in self.copies:
            refresh(self.copies[0], edge)

    def state(self) -> dict[str, dict[str, Tensor]]:
        return {str(s): net.state_dict() for s, net in self.copies.items()}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        for s, net in self.copies.items():
            net.load_state_dict(state[str(s)])
