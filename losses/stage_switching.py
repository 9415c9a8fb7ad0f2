"""The stage-switching surrogate of learning to help (Wu et al., ICLR 2025, arXiv 2501.13810).

With m the local net, e the edge net, r the rejector, c_e the cost of asking, c_1 that of an edge
error, the generalized 0-1 risk is

    R = E[ 1{r=LOCAL} 1{m != y}  +  1{r=REMOTE} (c_e + c_1 1{e != y}) ].

Stage 1 trains e by cross-entropy, L1. Stage 2 holds e fixed and trains r by

    L2 = - w_LOCAL log p_LOCAL - w_REMOTE log p_REMOTE,     p = softmax(r(x)).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SURROGATES = ("stage_switching", "cost_sensitive", "released")


def bounded_below(surrogate: str, cost_e: float) -> bool:
    """Whether both weights of L2 are >= 0, whatever m and e answer; c_1 may be any cost >= 0.

    Only `released` can fail: its w_REMOTE is 1 - c_e where the edge is right. Where that is
    negative L2 falls without end as p_REMOTE goes to 0.
    """
    return surrogate != "released" or cost_e <= 1


def edge_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L1: mean cross-entropy of the edge net. logits [B, K], labels [B] to a scalar."""
    return F.cross_entropy(logits, labels)


def action_weights(
    local_correct: Tensor, edge_wrong: Tensor, cost_1: Tensor, cost_e: Tensor, surrogate: str
) -> tuple[Tensor, Tensor]:
    """(w_LOCAL, w_REMOTE) of L2, shapes as the arguments broadcast.

    local_correct 1{m = y} and edge_wrong 1{e != y} are bool or float, cost_1 and cost_e >= 0.

    `stage_switching`  the paper's weights with s = max(0, c_e + c_1 - 1) added to both. Without s
        w_REMOTE is negative where the edge errs and c_e + c_1 > 1, so that L2 is neither convex
        nor bounded below; with it both weights are >= 0 and their difference, which alone fixes
        the sign of the minimiser, is the paper's. Where c_e + c_1 <= 1, s = 0. w_REMOTE is computed
        as max(1 - c_e, c_1) - c_1 1{e != y}, which rounding cannot make negative.
    `cost_sensitive`   each action weighted by what the other one costs; the same decision.
    `released`         what the release's code computes: the sign of c_1 is turned, so it asks MORE
        where the edge is wrong. Not consistent; only for reproducing the release's numbers, and
        only for c_e <= 1 (`bounded_below`).
    """
    local_correct = local_correct.to(cost_e.dtype)
    edge_wrong = edge_wrong.to(cost_e.dtype)
    if surrogate == "stage_switching":
        shift = (cost_e + cost_1 - 1).clamp_min(0)
        return local_correct + shift, torch.maximum(1 - cost_e, cost_1) - cost_1 * edge_wrong
    if surrogate == "cost_sensitive":
        return cost_e + cost_1 * edge_wrong, 1 - local_correct
    if surrogate == "released":
        return local_correct, 1 - cost_e + cost_1 * edge_wrong
    raise ValueError(f"surrogate {surrogate!r} is unknown; there are {', '.join(SURROGATES)}")


def rejector_loss(
    logits: Tensor,
    local_correct: Tensor,
    edge_wrong: Tensor,
    cost_1: Tensor,
    cost_e: Tensor,
    surrogate: str = "stage_switching",
) -> Tensor:
    """L2 of R rejectors on one batch, each the mean over its samples: [R].

    logits [R, B, 2] (LOCAL, REMOTE); local_correct [B] or [R, B]; edge_wrong the same; cost_1 and
    cost_e [R, 1]. The release sums over its batch of 16 with lr 1e-4; this mean with lr 1.6e-3 is
    the same step.
    """
    w_local, w_remote = action_weights(local_correct, edge_wrong, cost_1, cost_e, surrogate)
    log_p = torch.log_softmax(logits, dim=-1)
    return -(w_local * log_p[..., 0] + w_remote * log_p[..., 1]).mean(dim=-1)
