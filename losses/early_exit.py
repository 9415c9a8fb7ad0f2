"""Losses of networks with exits: base, weighted (L2W) and boosted, per sample and exit.

base     BranchyNet (Teerapittayanon et al., ICPR 2016): sum over exits of the mean cross-entropy.
l2w      Learning to weight samples (Han et al., ECCV 2022, arXiv 2209.08310).
boosted  Boosted dynamic neural networks (Yu et al., AAAI 2023, arXiv 2211.16726).

Logits are one [B, K] an exit, E of them; losses are [B, E]. All means are sums and one division.
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

    In float32 at least, whatever the network computed in.
    """
    every = _together(logits)
    losses = F.cross_entropy(
        every.flatten(0, 1),
        labels.repeat(len(every)),
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.view(every.shape[:2]).T.contiguous()  # laid out as its shape says: sums' order


def max_softmax_doubt(logits: Tensor) -> Tensor:
    """1 - the highest class probability, [..., K] to [...]: `deferral.rules` says how and why."""
    top, at = logits.max(-1, keepdim=True)
    others = (logits - top).exp().scatter(-1, at, 0.0).sum(-1)
    return others / (1 + others)


def doubts(logits: Sequence[Tensor] | Tensor) -> Tensor:
    """1 - max softmax of every sample at every exit: E times [B, K] to [B, E]."""
    return max_softmax_doubt(_together(logits)).T.contiguous()


def _together(logits: Sequence[Tensor] | Tensor) -> Tensor:
    """All exits' in one tensor [E, B, K], in float32 at least: E times fewer kernels."""
    every = logits if isinstance(logits, Tensor) else torch.stack(list(logits))
    return every if every.dtype == torch.float64 else every.float()


def boosted_logits(logits: Sequence[Tensor] | Tensor, t: float) -> Tensor:
    """G_k = f_k + t G_(k-1), G_0 = 0: what boosted exits answer with, [E, B, K].

    With t = 0 the logits themselves.
    """
    total = [logits[0]]
    for f in logits[1:]:
        total.append(f + t * total[-1])
    return torch.stack(total)


def boosted_losses(
    logits: Sequence[Tensor] | Tensor, labels: Tensor, t: float, label_smoothing: float = 0.0
) -> Tensor:
    """CE(f_k + stopgrad(t G_(k-1)), y): each exit learns what those before it left, [B, E]."""
    before = t * boosted_logits(logits, t).detach()
    shifted = [logits[0], *(f + g for f, g in zip(logits[1:], before[:-1], strict=True))]
    return exit_losses(shifted, labels, label_smoothing)


def assign_exits(doubt: Tensor, counts: Sequence[int]) -> Tensor:
    """The exit that each sample of a batch would take: int64 [B], from doubts [B, E].

    Exit k takes the counts[k] = floor(B p_k) most confident of those not yet taken
    (`deferral.exits.exit_counts`), the last exit the rest (L2W, section 3.2). Equals go in the
    batch's order.
    """
    batch, num_exits = doubt.shape
    taken_by = torch.full((batch,), num_exits - 1, device=doubt.device)
    left = doubt.clone()
    for k, count in enumerate(counts[:-1]):
        free = left[:, k].argsort(stable=True)[:count]
        taken_by.index_fill_(0, free, k)
        left.index_fill_(0, free, 2.0)  # above every doubt: not free any more
    return taken_by


def exit_means(exits: Tensor, losses: Tensor) -> Tensor:
    """Factors [B, E] that turn losses into the meta loss: the sum over exits of the mean over the
    samples that take it. 1 / count where sample i takes exit k (`exits`, int64 [B]), else 0.

    `losses` lends its number of exits and its dtype; B is that of `exits`.
    """
    every = torch.arange(losses.shape[1], device=exits.device)
    takes = (exits[:, None] == every).to(losses.dtype)
    return takes / takes.sum(0).clamp(min=1)
