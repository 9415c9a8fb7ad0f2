"""Rival surrogates of learning to defer, for a local net m whose scores g_1..g_K stay fixed.

Only the deferral score g_0 = r(x) is learned, to help m's answers with those of the edge net e.
Neither loss knows the costs: each estimates P(e = y | x), and with m's own max softmax the Bayes
rule of the costs follows. At c_1 = 1, c_e = 0 that is the papers' own rule, to defer iff g_0 is
above every g_k (Mozannar and Sontag).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def mozannar_sontag(score: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor):
    """-log p_y - 1{e = y} log p_0 with p the softmax over (g_0, g_1, ..., g_K): [R].

    Mozannar and Sontag (ICML 2020), Consistent Estimators for Learning to Defer to an Expert,
    L_CE with alpha = 1. score [R, B], local_logits [B, K], labels [B], edge_wrong [R, B]; the mean
    over the batch. It is least where r(x) - logsumexp(g) = log P(e = y | x).
    """
    own = local_logits.logsumexp(-1)
    everything = torch.logaddexp(own, score)
    of_label = local_logits.gather(-1, labels[:, None])[:, 0]
    edge_right = 1 - edge_wrong.to(score.dtype)
    return (everything - of_label + edge_right * (everything - score)).mean(-1)


def mozannar_sontag_edge_right(score: Tensor, local_logits: Tensor) -> Tensor:
    """The estimate of P(e = y | x) that a deferral score stands for, in 0..1: [..., N].

    score [..., N], local_logits [N, K]. Mozannar and Sontag's may pass 1, where it is cut off.
    """
    return (score - local_logits.logsumexp(-1)).exp().clamp_max(1)


def one_vs_all(score: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor):
    """Logistic loss of r(x) on 1{e = y}, the mean over the batch: [R, B] twice to [R].

    The deferral part of Verma and Nalisnick (ICML 2022), Calibrated Learning to Defer with
    One-vs-All Classifiers; the classes' parts are constants here. Least where sigmoid(r(x)) =
    P(e = y | x).
    """
    right = 1 - edge_wrong.to(score.dtype)
    return F.binary_cross_entropy_with_logits(score, right, reduction="none").mean(-1)


def one_vs_all_edge_right(score: Tensor, local_logits: Tensor) -> Tensor:
    """As `mozannar_sontag_edge_right`."""
    return score.sigmoid()
