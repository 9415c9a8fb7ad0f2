"""Losses of networks with exits: base, weighted (L2W) and boosted, per sample and exit.

base     BranchyNet (Teerapittayanon et al., ICPR 2016): sum over exits of the mean cross-entropy.
l2w      Learning to weight samples (Han et al., ECCV 2022, arXiv 2209.08310).
boosted  Boosted dynamic neural networks (Yu et al., AAAI 2023, arXiv 2211.16726).

Logits are E tensors [B, K], one per exit; losses are [B, E]. Every mean is a sum, then a division.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

METHODS = ("base", "l2w", "boosted")


def exit_losses(
    logits: Sequence[Tensor] | Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of every sample at every exit: E times [B, K] and labels [B] to [B, E].

    Computed in float32 or float64, whatever the dtype of the logits.
    """
    stacked = _stack(logits)
    losses = F.cross_entropy(
        stacked.flatten(0, 1),
        labels.repeat(len(stacked)),
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.view(stacked.shape[:2]).T.contiguous()  # memory order fixes the order of sums


def max_softmax_doubt(logits: Tensor) -> Tensor:
    """1 - max softmax, [..., K] to [...], without cancellation; see `deferral.rules`."""
    top, best = logits.max(-1, keepdim=True)
    others = (logits - top).exp().scatter(-1, best, 0.0).sum(-1)
    return others / (1 + others)


def doubts(logits: Sequence[Tensor] | Tensor) -> Tensor:
    """1 - max softmax of every sample at every exit: E times [B, K] to [B, E]."""
    return max_softmax_doubt(_stack(logits)).T.contiguous()


def _stack(logits: Sequence[Tensor] | Tensor) -> Tensor:
    """All logits in one tensor [E, B, K], float32 or float64: needs E times fewer kernels."""
    stacked = logits if isinstance(logits, Tensor) else torch.stack(list(logits))
    return stacked if stacked.dtype == torch.float64 else stacked.float()


def boosted_logits(logits: Sequence[Tensor] | Tensor, t: float) -> Tensor:
    """G_k = f_k + t G_(k-1), G_0 = 0: the logits with which boosted exits predict, [E, B, K].

    With t = 0 these are the f_k themselves.
    """
    total = [logits[0]]
    for f in logits[1:]:
        total.append(f + t * total[-1])
    return torch.stack(total)


def boosted_losses(
    logits: Sequence[Tensor] | Tensor, labels: Tensor, t: float, label_smoothing: float = 0.0
) -> Tensor:
    """CE(f_k + stopgrad(t G_(k-1)), y): each exit corrects the sum of those before it, [B, E]."""
    before = t * boosted_logits(logits, t).detach()
    shifted = [logits[0], *(f + g for f, g in zip(logits[1:], before[:-1], strict=True))]
    return exit_losses(shifted, labels, label_smoothing)


def assign_exits(doubt: Tensor, counts: Sequence[int]) -> Tensor:
    """Assigns an exit to each sample of a batch: int64 [B], from doubts [B, E].

    Exit k takes the counts[k] = floor(B p_k) most confident of the remaining samples
    (`deferral.exits.exit_counts`), the last exit takes the rest (L2W, section 3.2). Ties are broken
    by the order in the batch.
    """
    batch, num_exits = doubt.shape
    exits = torch.full((batch,), num_exits - 1, device=doubt.device)
    remaining = doubt.clone()
    for k, count in enumerate(counts[:-1]):
        rows = remaining[:, k].argsort(stable=True)[:count]
        exits.index_fill_(0, rows, k)
        remaining.index_fill_(0, rows, 2.0)  # above every doubt: excluded from later exits
    return exits


def exit_means(exits: Tensor, losses: Tensor) -> Tensor:
    """Factors [B, E] of the losses in the meta loss, a sum over exits of mean losses.

    1 / count where sample i takes exit k (`exits`, int64 [B]), else 0. Only the number of exits and
    the dtype of `losses` are used.
    """
    numbers = torch.arange(losses.shape[1], device=exits.device)
    takes = (exits[:, None] == numbers).to(losses.dtype)
    return takes / takes.sum(0).clamp(min=1)
