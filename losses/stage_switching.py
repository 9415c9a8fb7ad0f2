"""The stage-switching surrogate of learning to help (Wu et al., ICLR 2025, arXiv 2501.13810).

With m the local net, e the edge net, r the rejector, c_e the cost of sending a sample to the edge
and c_1 the cost of an edge error, the generalized 0-1 risk is

    R = E[ 1{r=LOCAL} 1{m != y}  +  1{r=REMOTE} (c_e + c_1 1{e != y}) ].

Stage 1 trains e by cross-entropy, L1. Stage 2 holds e fixed and trains r by

    L2 = - w_LOCAL log p_LOCAL - w_REMOTE log p_REMOTE,     p = softmax(r(x)).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def edge_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L1: mean cross-entropy of the edge net. logits [B, K], labels [B] to a scalar."""
    return F.cross_entropy(logits, labels)


def stage_switching(
    local_correct: Tensor, edge_wrong: Tensor, cost_1: Tensor, cost_e: Tensor
) -> tuple[Tensor, Tensor]:
    """The paper's (w_LOCAL, w_REMOTE), with s = max(0, c_e + c_1 - 1) added to both.

    local_correct 1{m = y} and edge_wrong 1{e != y} are bool or float; cost_1 and cost_e are >= 0;
    the arguments broadcast. The same holds for the other weights in this file.

    Without s, w_REMOTE = 1 - c_e - c_1 1{e != y} is negative where the edge errs and c_e + c_1 > 1,
    so that L2 is neither convex nor bounded below. With s both weights are >= 0, and their
    difference, which alone determines the sign of the minimiser, is the paper's. s = 0 if
    c_e + c_1 <= 1. w_REMOTE is computed as max(1 - c_e, c_1) - c_1 1{e != y}, which rounding cannot
    make negative.
    """
    local_correct, edge_wrong = local_correct.to(cost_e.dtype), edge_wrong.to(cost_e.dtype)
    w_local = local_correct + (cost_e + cost_1 - 1).clamp_min(0)
    w_remote = torch.maximum(1 - cost_e, cost_1) - cost_1 * edge_wrong
    return w_local, w_remote


def cost_sensitive(
    local_correct: Tensor, edge_wrong: Tensor, cost_1: Tensor, cost_e: Tensor
) -> tuple[Tensor, Tensor]:
    """(w_LOCAL, w_REMOTE): each action weighted by the cost of the other; same minimiser's sign."""
    local_correct, edge_wrong = local_correct.to(cost_e.dtype), edge_wrong.to(cost_e.dtype)
    return cost_e + cost_1 * edge_wrong, 1 - local_correct


def released(
    local_correct: Tensor, edge_wrong: Tensor, cost_1: Tensor, cost_e: Tensor
) -> tuple[Tensor, Tensor]:
    """(w_LOCAL, w_REMOTE) as the release's code computes them, to reproduce its numbers.

    The sign of c_1 is flipped, so the rejector defers MORE where the edge is wrong: not consistent.
    If c_e > 1, w_REMOTE is negative where the edge is right and L2 has no lower bound.
    """
    local_correct, edge_wrong = local_correct.to(cost_e.dtype), edge_wrong.to(cost_e.dtype)
    return local_correct, 1 - cost_e + cost_1 * edge_wrong


def rejector_loss(logits: Tensor, w_local: Tensor, w_remote: Tensor) -> Tensor:
    """L2 of R rejectors on one batch, each the mean over its samples: [R].

    logits [R, B, 2] (LOCAL, REMOTE); w_local and w_remote [R, B]. The release sums over its batch
    of 16 with lr 1e-4; this mean with lr 1.6e-3 is the same step.
    """
    log_p = torch.log_softmax(logits, dim=-1)
    return -(w_local * log_p[..., 0] + w_remote * log_p[..., 1]).mean(dim=-1)
