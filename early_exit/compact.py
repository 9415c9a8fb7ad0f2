"""Early exit that saves time: what has left a network is not computed any further."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.early_exit import max_softmax_doubt
from models.exit_net import ExitNet, State, keep


@torch.no_grad()
def early_exit_logits(
    net: ExitNet, images: Tensor, thresholds: Sequence[float], ensemble_reweight: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The exit that answers each sample, counted from 0, and its logits: int64 [B], [B, K].

    Block by block: a sample leaves at the first exit k where its max softmax - 1 is at least
    thresholds[k] ([E]; the last exit takes what is left, whatever stands there). The others' state
    is gathered into a smaller batch, and where none is left the rest of the network is not run.
    `ensemble_reweight` t > 0: exits answer with G_k = f_k + t G_(k-1) (Boosted; Yu et al., AAAI
    2023), which is carried along.

    `net` is in eval mode; then these are the decisions of `deferral.exits.stops` on the logits of
    all exits, to the rounding of another batch size. The device is waited for once an exit.
    ValueError unless there is a threshold an exit.
    """
    if len(thresholds) != net.num_exits:
        raise ValueError(f"{len(thresholds)} thresholds for {net.num_exits} exits: give one each")
    rows = torch.arange(len(images), device=images.device)  # which sample each row of `state` is
    stop = torch.empty_like(rows)
    state: State = images
    answers = before = None
    for k in range(net.num_exits):
        state = net.block(k, state)
        logits = net.head(k, state).float()
        if before is not None and ensemble_reweight:
            logits = logits + ensemble_reweight * before
        if answers is None:
            answers = torch.empty_like(logits)
        # All that are still here: a sample's last writing is its answer, and no count is needed.
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
    """`deferral.exits.confidence` of [B, K] in torch: float64 [B], on the CPU for want of it."""
    logits = logits.cpu() if logits.device.type == "mps" else logits
    return -max_softmax_doubt(logits.double())
