"""What the rejectors know of the edge: frozen copies of it, refreshed over a link now and then."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

JOINT = "joint"
ADAPTIVE = "adaptive-"
# Images that a copy answers at once, where it stays as it is for so long. On 2 cores AlexNet takes
# 3.6 ms an image in batches of 16, 1.7 in 128 or 256; ConvNet 0.52, 0.41, 0.45: out of the cache.
AHEAD = 128


def adaptive(tolerance: float) -> str:
    """The S of a copy that is refreshed when it is needed: "adaptive-0.05"; none share a name."""
    return ADAPTIVE + np.format_float_positional(float(tolerance), trim="-")


def refresh(frozen: nn.Module, edge: nn.Module) -> None:
    """Give a frozen copy the edge's weights and buffers, in place."""
    own, new = frozen.state_dict(), edge.state_dict()
    with torch.no_grad():
        torch._foreach_copy_([own[name] for name in new], [*new.values()])


def answers(net: nn.Module, images: Tensor) -> Tensor:
    """Predicted classes [B] of `net` in eval mode (no dropout, batch norm's running statistics)."""
    mode = net.training
    if mode:  # copies never are; to change the mode walks over all modules
        net.eval()
    with torch.no_grad():
        found = net(images).argmax(-1)
    if mode:
        net.train()
    return found


def state_bytes(net: nn.Module) -> int:
    """Bytes of the state dict's values: parameters and buffers, each as it is stored."""
    return sum(v.numel() * v.element_size() for v in net.state_dict().values())


class EdgeCopies:
    """The edge's answers as the rejectors of every S know them, a copy of the edge for each S.

    S = 1 is the edge itself just after its step; "joint" takes its training forward; S > 1 a copy
    refreshed at batches 0, S, 2 S, ... of an epoch; 0 (S = |D|) one refreshed at the last batch of
    each epoch, before the rejectors' step, as in the release.
    "adaptive-TOL" is a copy refreshed when the server finds it too old: every `probe_every` batches
    from the first it compares the edge's classes on the images `probe` [P, 3, H, W] with those that
    the copy gives, and sends where more than a share TOL differ. That needs no label, costs the
    server a forward of the probe, and the link nothing.

    `outages` are spans (start, end) of batches, counted from the start of training over all epochs,
    with the link down: start <= batch < end. A refresh that falls due in one happens once, at the
    first batch after it. S = 1 has a copy too then, as the edge goes on without it.

    A copy begins as the initial edge, known to both sides, so nothing is sent for it. Each refresh
    sends the state dict, uncompressed (`state_bytes`).

    A copy that is kept for many batches need not be asked once a batch: told of an epoch's batches
    (`start_epoch`), it answers as many of them at once as it will stay for, up to AHEAD images,
    which reads its weights so much more seldom. `ask(net, images)` is how any network is asked;
    what it gives need not last beyond the next call.
    """

    def __init__(
        self,
        edge: nn.Module,
        freqs: list[int | str],
        outages: Sequence[tuple[int, int]] = (),
        probe: Tensor | None = None,
        probe_every: int = 10,
        ask: Callable[[nn.Module, Tensor], Tensor] = answers,
    ):
        self.freqs, self.outages, self.ask = freqs, [tuple(span) for span in outages], ask
        itself = {JOINT} if self.outages else {JOINT, 1}
        self.copies = {
            s: copy.deepcopy(edge).eval().requires_grad_(False) for s in freqs if s not in itself
        }
        self.probe, self.probe_every = probe, probe_every
        self.tolerance = {
            s: float(s.removeprefix(ADAPTIVE)) for s in freqs if str(s).startswith(ADAPTIVE)
        }
        self.known = {s: ask(edge, probe).clone() for s in self.tolerance}  # the copies' own, [P]
        self.bytes_a_refresh = state_bytes(edge)
        self.step = 0
        self.refreshes = {str(s): 0 for s in freqs}
        self.late = set()  # due, but not sent yet
        self.batches: Sequence[Tensor] = ()  # rows of each batch of the epoch
        self.images_ahead = AHEAD
        self.ahead: dict[int | str, tuple[int, Sequence[Tensor]]] = {}  # from batch i on, [B] each

    def start_epoch(self, batches: Sequence[Tensor], images_of: Callable[[Tensor], Tensor]) -> None:
        """What is to come: the rows of each batch of the epoch, and how to get their images.

        images_of(rows [M]) gives [M, 3, H, W], the very images that `answers` will be given.
        """
        self.batches, self.images_of = batches, images_of
        self.ahead.clear()

    def answers(self, i: int, edge: nn.Module, edge_logits: Tensor, images: Tensor) -> Tensor:
        """Predicted classes [S, B] after batch i's edge step; edge_logits: its training forward.

        i counts from the start of the epoch; every batch must pass here once.
        """
        looking = self.known and self.step % self.probe_every == 0
        probed = self.ask(edge, self.probe) if looking else None
        self._send({s for s in self.freqs if self._is_due(s, i, probed)}, edge)
        self.step += 1
        found = []
        for freq in self.freqs:
            if freq == JOINT:
                found.append(edge_logits.detach().argmax(-1))
            elif freq in self.copies:
                found.append(self._of_copy(freq, i, images))
            else:
                found.append(self.ask(edge, images))
        return torch.stack(found)

    def _of_copy(self, freq: int | str, i: int, images: Tensor) -> Tensor:
        """What the copy of an S answers to batch i, [B], and to those after it while it may."""
        first, found = self.ahead.get(freq, (0, ()))
        if not first <= i < first + len(found):
            at_once = max(1, self.images_ahead // len(images))
            coming = self.batches[i : i + min(at_once, self._stays(freq, i))]
            if len(coming) < 2:
                return self.ask(self.copies[freq], images)
            images = self.images_of(torch.cat([*coming]))
            found = self.ask(self.copies[freq], images).split([len(rows) for rows in coming])
            first, self.ahead[freq] = i, (i, found)
        return found[i - first]

    def _stays(self, freq: int | str, i: int) -> int:
        """Batches from i on before the copy may fall due again (a late refresh comes sooner)."""
        if freq in self.tolerance:
            return self.probe_every - (self.step - 1) % self.probe_every
        return len(self.batches) - 1 - i if freq == 0 else freq - i % freq

    def _is_due(self, freq: int | str, i: int, probed: Tensor | None) -> bool:
        """Whether a refresh falls due at this batch, i of the epoch, whatever the link."""
        if freq in self.tolerance:
            if probed is None:
                return False
            moved = int((probed != self.known[freq]).sum())
            return moved / len(probed) > self.tolerance[freq]
        if freq == 0:
            return i == len(self.batches) - 1
        return freq != JOINT and i % freq == 0

    def _link_is_up(self) -> bool:
        return not any(start <= self.step < end for start, end in self.outages)

    def _send(self, due: set[int | str], edge: nn.Module) -> None:
        """Refresh the copies that are due or late, if the link is up."""
        self.late |= due
        if not self._link_is_up():
            return
        for freq in self.late:
            if freq in self.copies:
                refresh(self.copies[freq], edge)
                self.ahead.pop(freq, None)
            if freq in self.known:
                self.known[freq] = self.ask(edge, self.probe).clone()
            self.refreshes[str(freq)] += 1
        self.late = set()

    def bytes_sent(self, freq: int | str) -> int:
        """What the refreshes of an S have sent so far; 0 for "joint", which has no link."""
        return self.refreshes[str(freq)] * self.bytes_a_refresh

    def sent(self, freq: int | str) -> dict[str, Any]:
        """What a checkpoint says of its link."""
        return {
            "refreshes": self.refreshes[str(freq)],
            "bytes_sent": self.bytes_sent(freq),
            "outages": [list(span) for span in self.outages],
        }

    def state(self) -> dict[str, Any]:
        """All that decides when a copy is refreshed, and the copies."""
        return {
            "copies": {str(s): net.state_dict() for s, net in self.copies.items()},
            "known": self.known,
            "late": sorted(map(str, self.late)),
            "refreshes": self.refreshes,
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.ahead.clear()
        for s, net in self.copies.items():
            net.load_state_dict(state["copies"][str(s)])
        for s, known in self.known.items():
            self.known[s] = state["known"][s].to(known.device)
        self.late = {s for s in self.freqs if str(s) in state["late"]}
        self.refreshes = dict(state["refreshes"])
        self.step = state["step"]
