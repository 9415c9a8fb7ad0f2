"""Surrogates of learning to defer, for a fixed local net m with scores g_1..g_K.

Only the deferral score g_0 = r(x) is learned; deferring replaces m's answer by that of the edge
net e. Neither loss contains the costs: each estimates P(e = y | x), from which, together with the
max softmax of m, the Bayes rule for any costs follows. At c_1 = 1, c_e = 0 this is the rule of
Mozannar and Sontag: defer iff g_0 is above every g_k.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def mozannar_sontag(score: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor):
    """-log p_y - 1{e = y} log p_0 with p the softmax over (g_0, g_1, ..., g_K): [R].

    Mozannar and Sontag (ICML 2020), Consistent Estimators for Learning to Defer to an Expert,
    L_CE with alpha = 1. score [R, B], local_logits [B, K], labels [B], edge_wrong [R, B]; returns
    the mean over the batch. Its minimiser satisfies r(x) - logsumexp(g) = log P(e = y | x).
    """
    local = local_logits.logsumexp(-1)
    normaliser = torch.logaddexp(local, score)
    of_label = local_logits.gather(-1, labels[:, None])[:, 0]
    edge_right = 1 - edge_wrong.to(score.dtype)
    return (normaliser - of_label + edge_right * (normaliser - score)).mean(-1)


def mozannar_sontag_edge_right(score: Tensor, local_logits: Tensor) -> Tensor:
    """The estimate of P(e = y | x) that follows from a deferral score, in 0..1: [..., N].

    score [..., N], local_logits [N, K]. The surrogate's own estimate can exceed 1; it is clamped.
    """
    return (score - local_logits.logsumexp(-1)).exp().clamp_max(1)


def mozannar_sontag_centred(
    score: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor
) -> Tensor:
    """The same with m's log-probabilities for g, which leaves its probabilities as they are: [R].

    Its minimiser satisfies r(x) = log P(e = y | x): the rejector need not know logsumexp(g(x)).
    """
    return mozannar_sontag(score, local_logits.log_softmax(-1), labels, edge_wrong)


def mozannar_sontag_centred_edge_right(score: Tensor, local_logits: Tensor) -> Tensor:
    """As `mozannar_sontag_edge_right`."""
    return score.exp().clamp_max(1)


def one_vs_all(score: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor):
    """Logistic loss of r(x) on 1{e = y}, mean over the batch: score, edge_wrong [R, B] to [R].

    The deferral part of Verma and Nalisnick (ICML 2022), Calibrated Learning to Defer with
    One-vs-All Classifiers; the terms of the classes are constant, since m is fixed. Its minimiser
    satisfies sigmoid(r(x)) = P(e = y | x).
    """
    edge_right = 1 - edge_wrong.to(score.dtype)
    return F.binary_cross_entropy_with_logits(score, edge_right, reduction="none").mean(-1)


def one_vs_all_edge_right(score: Tensor, local_logits: Tensor) -> Tensor:
    """As `mozannar_sontag_edge_right`."""
    return score.sigmoid()
