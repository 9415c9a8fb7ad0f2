"""Run a trained network with exits: all exits, the last one alone, or real early exit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data.batches import Batch
from losses.early_exit import boosted_logits, max_softmax_doubt
from models.exit_net import ExitNet, State, keep

Thresholds = Sequence[float] | np.ndarray  # [E]


class Inference:
    """Answers of a network's exits: f_k, or G_k = f_k + t G_(k-1) for `ensemble_reweight` t > 0.

    Moves `net` to `device`, where the inputs and outputs of all methods are. Call the methods
    inside `with inference.ready()`, once around many batches: autocast then casts weights once.
    """

    def __init__(
        self,
        net: ExitNet,
        device: torch.device,
        ensemble_reweight: float = 0.0,
        *,
        bf16: bool = False,
        channels_last: bool = False,
    ):
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.net = net.eval().to(device).to(memory_format=self.order)
        self.last_exit = LastExit(net)
        self.device, self.bf16 = device, bf16
        self.ensemble_reweight = ensemble_reweight
        if device.type == "cuda":
            # TF32 rounds to a thousandth, and the batch size decides which kernels use it: samples
            # near a threshold would leave at another exit of a compacted batch.
            torch.backends.cudnn.allow_tf32 = False

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Inside, no gradients, and autocast to bfloat16 with `bf16`."""
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def exits(self, images: Tensor) -> Tensor:
        """Logits of all exits, with the ensemble's sums, float32 [E, B, K]."""
        logits = [f.float() for f in self.net(self._ordered(images))]
        return boosted_logits(logits, self.ensemble_reweight)

    def last(self, images: Tensor) -> Tensor:
        """Logits f of the last exit [B, K] by itself."""
        return self.last_exit(self._ordered(images)).float()

    def early(self, images: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
        """`early_exit_logits`: the exit that answers each sample [B], and its logits [B, K]."""
        images = self._ordered(images)
        return early_exit_logits(self.net, images, thresholds, self.ensemble_reweight)

    def predict(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        """`exits` of each batch (rows, images, labels), on the CPU."""
        with self.ready():
            for _, images, _ in batches:
                yield self.exits(images).cpu()

    def _ordered(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.order)


class OperatingPoint(NamedTuple):
    """Thresholds [E] on `deferral.exits.confidence`; q: of the shares they are fitted to."""

    q: float | None
    thresholds: np.ndarray


class LastExit(nn.Module):
    """A network with exits as one without: only the last head is computed."""

    def __init__(self, net: ExitNet):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        state: State = images
        for k in range(self.net.num_exits):
            state = self.net.block(k, state)
        return self.net.head(self.net.num_exits - 1, state)


@torch.no_grad()
def early_exit_logits(
    net: ExitNet, images: Tensor, thresholds: Thresholds, ensemble_reweight: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The exit that answers each sample, counted from 0, and its logits: int64 [B], [B, K].

    Runs the network block by block. A sample leaves at the first exit k where its max softmax - 1
    is at least thresholds[k] ([E]; the last entry is ignored, as the last exit answers all that are
    left). The state of the remaining samples is gathered into a smaller batch, and where none
    remain the rest of the network is not run. With `ensemble_reweight` t > 0 exits answer with
    G_k = f_k + t G_(k-1) (Boosted; Yu et al., AAAI 2023).

    With `net` in eval mode these are the decisions of `deferral.exits.stops` on the logits of all
    exits, up to rounding at another batch size. Synchronises with the device once an exit.
    ValueError unless there are E thresholds.
    """
    if len(thresholds) != net.num_exits:
        raise ValueError(f"{len(thresholds)} thresholds for {net.num_exits} exits: give one each")
    rows = torch.arange(len(images), device=images.device)  # which sample each row of `state` is
    stop = torch.empty_like(rows)
    state: State = images
    before: Tensor | None = None  # logits of the exit before
    answers = torch.empty(0, device=images.device)
    for k in range(net.num_exits):
        state = net.block(k, state)
        logits = net.head(k, state).float()
        if before is not None and ensemble_reweight:
            logits = logits + ensemble_reweight * before
        if k == 0:
            answers = torch.empty_like(logits)
        # Write for all remaining samples: the last write of each is its answer, and no count of
        # those that leave has to be read from the device.
        stop.index_fill_(0, rows, k)
        answers.index_copy_(0, rows, logits)
        if k == net.num_exits - 1:
            break
        leaves = _confidence(logits) >= float(thresholds[k])
        stays = (~leaves).nonzero().squeeze(1)
        if len(stays) == 0:
            break
        if len(stays) < len(rows):
            stays = stays.to(rows.device)
            state, rows, logits = keep(state, stays), rows[stays], logits[stays]
        before = logits
    return stop, answers


def _confidence(logits: Tensor) -> Tensor:
    """`deferral.exits.confidence` of [B, K] in torch: float64 [B]; on the CPU for MPS lacks it."""
    logits = logits.cpu() if logits.device.type == "mps" else logits
    return -max_softmax_doubt(logits.double())
