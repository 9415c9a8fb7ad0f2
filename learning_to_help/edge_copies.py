"""The copies of the edge net that the rejectors learn from, and the link that refreshes them."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiment.parallel import ALONE, Workers

JOINT = "joint"
ADAPTIVE = "adaptive-"
# A copy that stays for several batches classifies up to this many images in one forward. On 2 cores
# AlexNet takes 3.6 ms an image in batches of 16 and 1.7 in batches of 128 or 256; ConvNet takes
# 0.52, 0.41 and 0.45, because 256 images no longer fit in the cache.
AHEAD = 128

Freq = int | str  # S: batches between refreshes, 0 for once an epoch, "joint" or "adaptive-TOL"
Ask = Callable[[nn.Module, Tensor], Tensor]  # (net, images [B, 3, H, W]) to predicted classes [B]


def adaptive(tolerance: float) -> str:
    """The S of a copy with this tolerance, as in "adaptive-0.05"; each tolerance has its name."""
    return ADAPTIVE + np.format_float_positional(float(tolerance), trim="-")


def refresh(frozen: nn.Module, edge: nn.Module) -> None:
    """Copy the edge's weights and buffers into a frozen copy, in place."""
    old, new = frozen.state_dict(), edge.state_dict()
    with torch.no_grad():
        torch._foreach_copy_([old[name] for name in new], [*new.values()])


def answers(
    net: nn.Module, images: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Predicted classes [B] of `net` in eval mode (no dropout, batch norm's running statistics).

    forward: a compiled version of `net` to compute its logits with; `net` itself if not given.
    """
    was_training = net.training
    if was_training:  # never true of a copy; changing the mode visits every module
        net.eval()
    with torch.no_grad():
        classes = (forward or net)(images).argmax(-1)
    if was_training:
        net.train()
    return classes


def state_bytes(net: nn.Module) -> int:
    """Bytes of the state dict's values: parameters and buffers, each in its stored type."""
    return sum(v.numel() * v.element_size() for v in net.state_dict().values())


class EdgeCopies:
    """One frozen copy of the edge for each S, and what it predicts for each training batch.

    S = 1 uses the edge itself just after its step; "joint" uses its training forward; S > 1 a copy
    refreshed at batches 0, S, 2 S, ... of an epoch; 0 (S = |D|) a copy refreshed at the last batch
    of each epoch, before the rejectors' step, as in the release.
    "adaptive-TOL" is a copy that the server refreshes when it has become too old: every
    `probe_every` batches from the first, the server compares the edge's classes on the images
    `probe` [P, 3, H, W] with the copy's and sends the edge where more than a share TOL differ. This
    needs no label; it costs the server one forward of the probe and the link nothing.

    `outages` are spans (start, end) of batches with the link down, start <= batch < end, counted
    from the start of training over all epochs. A refresh that falls due in one happens once, at the
    first batch after it. With outages S = 1 has a copy too, because the edge goes on training.

    A copy starts as the initial edge, which both sides know, so nothing is sent for it. Each
    refresh sends the state dict, uncompressed (`state_bytes`).

    `start_epoch` announces an epoch's batches. A copy then answers all batches up to its next
    possible refresh in one forward of up to AHEAD images, which reads its weights less often.
    `ask(net, images)` computes the predicted classes of any network; its result may be a static
    buffer that the next call overwrites. freqs may repeat. Of several `workers` each has the same
    copies and answers its own images; process 0 decides on the probe for all, so that all refresh
    at the same batches. ValueError for an adaptive S without a probe.
    """

    def __init__(
        self,
        edge: nn.Module,
        freqs: Iterable[Freq],
        outages: Sequence[tuple[int, int]] = (),
        probe: Tensor | None = None,
        probe_every: int = 10,
        ask: Ask = answers,
        workers: Workers = ALONE,
    ):
        self.workers = workers
        self.freqs = list(dict.fromkeys(freqs))
        self.outages, self.ask = [tuple(span) for span in outages], ask
        without_copy: set[Freq] = {JOINT} if self.outages else {JOINT, 1}
        self.copies = {
            s: copy.deepcopy(edge).eval().requires_grad_(False)
            for s in self.freqs
            if s not in without_copy
        }
        self.period: dict[Freq, int] = {s: s for s in self.freqs if isinstance(s, int)}
        self.tolerance: dict[Freq, float] = {
            s: float(s.removeprefix(ADAPTIVE))
            for s in self.freqs
            if isinstance(s, str) and s.startswith(ADAPTIVE)
        }
        if self.tolerance and probe is None:
            raise ValueError("an adaptive copy of the edge needs probe images")
        self.probe, self.probe_every = probe, probe_every
        self.copy_classes = {s: self._probe_classes(edge) for s in self.tolerance}  # [P] each
        self.bytes_a_refresh = state_bytes(edge)
        self.step = 0
        self.refreshes = {str(s): 0 for s in self.freqs}
        self.late: set[Freq] = set()  # due, but not sent yet
        self.batches: Sequence[Tensor] = ()  # rows of each batch of the epoch
        self.images_ahead = AHEAD
        # Predictions computed ahead: the first batch that they are for, and [B] for each batch.
        self.ahead: dict[Freq, tuple[int, Sequence[Tensor]]] = {}

    def start_epoch(
        self,
        batches: Sequence[Tensor],
        images_of: Callable[[Tensor], Tensor],
        first: int = 0,
    ) -> None:
        """Announce an epoch: this process's rows of each batch, and how to get their images.

        images_of(rows [M]) gives [M, 3, H, W], the same images that `answers` is called with.
        first: the batch at which the epoch is continued from a loaded state.
        """
        self.batches, self.images_of = batches, images_of
        if not first:
            self.ahead.clear()

    def answers(self, i: int, edge: nn.Module, edge_logits: Tensor, images: Tensor) -> Tensor:
        """Predicted classes [S, B] after batch i's edge step; edge_logits: its training forward.

        i counts from the start of the epoch; call it once for every batch.
        """
        probe_now = bool(self.tolerance) and self.step % self.probe_every == 0
        edge_classes = self._probe_classes(edge) if probe_now else None
        self._send({s for s in self.freqs if self._is_due(s, i, edge_classes)}, edge)
        self.step += 1
        classes = []
        for freq in self.freqs:
            if freq == JOINT:
                classes.append(edge_logits.detach().argmax(-1))
            elif freq in self.copies:
                classes.append(self._of_copy(freq, i, images))
            else:
                classes.append(self.ask(edge, images))
        if i + 1 == len(self.batches):  # the copies outlive the data, which may be large
            self.batches = ()
            del self.images_of
        return torch.stack(classes)

    def _probe_classes(self, net: nn.Module) -> Tensor:
        """Predicted classes [P] of the probe; none where there is no probe."""
        return torch.zeros(0) if self.probe is None else self.ask(net, self.probe).clone()

    def _of_copy(self, freq: Freq, i: int, images: Tensor) -> Tensor:
        """Predicted classes [B] of a copy for batch i, computed ahead where its batches allow."""
        first, classes = self.ahead.get(freq, (0, ()))
        if not first <= i < first + len(classes):
            at_once = max(1, self.images_ahead // len(images))
            coming = self.batches[i : i + min(at_once, self._batches_until_refresh(freq, i))]
            if len(coming) < 2:
                return self.ask(self.copies[freq], images)
            images = self.images_of(torch.cat([*coming]))
            classes = self.ask(self.copies[freq], images).split([len(rows) for rows in coming])
            first, self.ahead[freq] = i, (i, classes)
        return classes[i - first]

    def _batches_until_refresh(self, freq: Freq, i: int) -> int:
        """Batches from i on before the copy may fall due again (a late refresh comes sooner)."""
        if freq in self.tolerance:
            return self.probe_every - (self.step - 1) % self.probe_every
        period = self.period[freq]
        return period - i % period if period else len(self.batches) - 1 - i

    def _is_due(self, freq: Freq, i: int, edge_classes: Tensor | None) -> bool:
        """Whether a refresh falls due at batch i of the epoch, whether or not the link is up."""
        if freq in self.tolerance:
            if edge_classes is None:
                return False
            changed = (edge_classes != self.copy_classes[freq]).sum()
            self.workers.copy_first([changed])
            return int(changed) / len(edge_classes) > self.tolerance[freq]
        if freq not in self.period:  # joint
            return False
        period = self.period[freq]
        return i % period == 0 if period else i == len(self.batches) - 1

    def _link_is_up(self) -> bool:
        return not any(start <= self.step < end for start, end in self.outages)

    def _send(self, due: set[Freq], edge: nn.Module) -> None:
        """Refresh the copies that are due or late, if the link is up."""
        self.late |= due
        if not self._link_is_up():
            return
        for freq in self.late:
            if freq in self.copies:
                refresh(self.copies[freq], edge)
                self.ahead.pop(freq, None)
            if freq in self.copy_classes:
                self.copy_classes[freq] = self._probe_classes(edge)
            self.refreshes[str(freq)] += 1
        self.late = set()

    def bytes_sent(self, freq: Freq) -> int:
        """Bytes that the refreshes of an S have sent so far; 0 for "joint", which has no link."""
        return self.refreshes[str(freq)] * self.bytes_a_refresh

    def sent(self, freq: Freq) -> dict[str, Any]:
        """What a checkpoint records of the link of an S."""
        return {
            "refreshes": self.refreshes[str(freq)],
            "bytes_sent": self.bytes_sent(freq),
            "outages": [list(span) for span in self.outages],
        }

    def state(self) -> dict[str, Any]:
        """The copies, and everything that decides when they are refreshed."""
        return {
            "copies": {str(s): net.state_dict() for s, net in self.copies.items()},
            "known": self.copy_classes,
            "late": sorted(map(str, self.late)),
            "refreshes": self.refreshes,
            "step": self.step,
            # Predicted again, in batches of other sizes, they could differ in the last bit.
            "ahead": {str(s): (i, [*classes]) for s, (i, classes) in self.ahead.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        self.ahead.clear()
        for s, net in self.copies.items():
            net.load_state_dict(state["copies"][str(s)])
            if str(s) in state.get("ahead", {}):
                i, classes = state["ahead"][str(s)]
                device = next(net.parameters()).device
                self.ahead[s] = i, [c.to(device) for c in classes]
        for s, classes in self.copy_classes.items():
            self.copy_classes[s] = state["known"][s].to(classes.device)
        self.late = {s for s in self.freqs if str(s) in state["late"]}
        self.refreshes = dict(state["refreshes"])
        self.step = state["step"]
