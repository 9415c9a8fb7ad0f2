"""Surrogates of learning to defer: their equations, and what their minimisers estimate."""

import math

import pytest
import torch

from losses.deferral import mozannar_sontag, one_vs_all
from losses.surrogates import COST_FREE, SURROGATES, StackedLoss

K = 5


def world(points=12, seed=0):
    """(m's logits g [N, K], P(y | x) [N, K], e's answers [N]): a finite distribution."""
    g = torch.Generator().manual_seed(seed)
    p = torch.randn(points, K, generator=g, dtype=torch.float64).mul(2).softmax(-1)
    logits = 3 * torch.randn(points, K, generator=g, dtype=torch.float64)
    return logits, p, torch.randint(K, (points,), generator=g)


def loss_of(surrogate, score, logits, labels, wrong):
    pairs = torch.stack([torch.zeros_like(score), score], -1)
    return SURROGATES[surrogate].loss(pairs, logits, labels, wrong, None, None)


def test_mozannar_sontag_is_the_equation():
    """-log p_y - 1{e = y} log p_0 over K + 1 scores, one sample at a time."""
    torch.manual_seed(0)
    score, logits = torch.randn(3, 7).double(), torch.randn(7, K).double()
    labels, wrong = torch.randint(K, (7,)), torch.rand(3, 7) < 0.5
    found = mozannar_sontag(score, logits, labels, wrong)
    for r in range(3):
        total = 0.0
        for b in range(7):
            scores = [score[r, b].item(), *logits[b].tolist()]
            log_sum = math.log(sum(math.exp(s) for s in scores))
            total -= scores[1 + labels[b]] - log_sum
            total -= 0 if wrong[r, b] else scores[0] - log_sum
        assert found[r].item() == pytest.approx(total / 7)


def test_centred_the_score_is_the_logarithm_of_the_estimate():
    """The loss of shifted logits is that of log-probabilities, and the classes keep theirs."""
    torch.manual_seed(0)
    logits, wrong = torch.randn(7, K).double(), torch.rand(3, 7) < 0.5
    score, labels = torch.randn(3, 7).double(), torch.randint(K, (7,))
    of = SURROGATES["mozannar_sontag_centred"]
    found = loss_of("mozannar_sontag_centred", score, logits, labels, wrong)
    shifted = score + logits.logsumexp(-1)
    assert torch.allclose(found, mozannar_sontag(shifted, logits, labels, wrong))
    moved = loss_of("mozannar_sontag_centred", score, logits + 50, labels, wrong)
    assert torch.allclose(found, moved)
    assert torch.allclose(of.edge_right(score, logits), score.exp().clamp_max(1))


def test_one_vs_all_is_the_equation():
    torch.manual_seed(0)
    score, wrong = torch.randn(3, 7).double(), torch.rand(3, 7) < 0.5
    found = one_vs_all(score, None, None, wrong)
    for r in range(3):
        p = [1 / (1 + math.exp(-s)) for s in score[r].tolist()]
        log_p = [math.log(1 - q if w else q) for q, w in zip(p, wrong[r].tolist(), strict=True)]
        assert found[r].item() == pytest.approx(-sum(log_p) / 7)


@pytest.mark.parametrize("surrogate", COST_FREE)
def test_the_minimiser_estimates_that_the_edge_is_right(surrogate):
    """sum over y of P(y | x) loss, least over r(x) at every x: edge_right gives P(e = y | x)."""
    logits, p, answers = world()
    score = torch.zeros(len(p), dtype=torch.float64, requires_grad=True)
    for _ in range(25):
        total = torch.zeros((), dtype=torch.float64)
        for y in range(K):
            labels = torch.full((len(p),), y)
            for n in range(len(p)):
                one = slice(n, n + 1)
                loss = loss_of(
                    surrogate, score[one, None], logits[one], labels[one], (answers[one] != y)[None]
                )
                total = total + p[n, y] * loss.sum()
        (slope,) = torch.autograd.grad(total, score, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), score)
        step = (slope / bend.clamp_min(1e-12)).clamp(-2, 2)
        score = (score - step).detach().requires_grad_()
    right = p[torch.arange(len(p)), answers]
    assert torch.allclose(
        SURROGATES[surrogate].edge_right(score.detach(), logits), right, atol=1e-6
    )


def test_the_papers_rule_is_the_bayes_rule_of_the_estimates_without_costs():
    """Defer iff g_0 > every g_k is 1 - max softmax > 1 - P(e right), where P is not cut off."""
    logits, _, _ = world()
    score = 3 * torch.randn(len(logits), generator=torch.Generator().manual_seed(1)).double()
    papers = score > logits.amax(-1)
    own = logits.softmax(-1).amax(-1)
    assert torch.equal(papers, SURROGATES["mozannar_sontag"].edge_right(score, logits) > own)
    assert 0 < papers.sum() < len(papers)


def test_estimates_are_probabilities_at_any_score():
    logits = torch.tensor([[800.0, -800.0], [0.0, 0.0]])
    for surrogate in COST_FREE:
        score = torch.tensor([[900.0, -900.0], [0.0, 100.0]])
        found = SURROGATES[surrogate].edge_right(score, logits)
        assert found.shape == (2, 2)
        assert ((found >= 0) & (found <= 1)).all()


def test_a_stack_gives_each_rejector_its_own_loss():
    """All surrogates mixed, in an order that no group has, against each alone."""
    torch.manual_seed(0)
    names = ["one_vs_all", "stage_switching", "cost_sensitive", "released"]
    names += ["mozannar_sontag", "stage_switching"]
    cost_1 = [None, 1.0, 1.25, 0.5, None, 1.25]
    cost_e = [None, 0.25, 0.0, 0.1, None, 0.25]
    logits, local = torch.randn(6, 9, 2, requires_grad=True), torch.randn(9, K)
    labels, wrong = torch.randint(K, (9,)), torch.rand(6, 9) < 0.5
    found = StackedLoss(names, cost_1, cost_e, "cpu")(logits, local, labels, wrong)
    for r, name in enumerate(names):
        costs = [torch.tensor([[cost[r] or 0.0]]) for cost in (cost_1, cost_e)]
        alone = SURROGATES[name].loss(logits[r : r + 1], local, labels, wrong[r : r + 1], *costs)
        assert torch.allclose(found[r], alone[0]), name
        (own,) = torch.autograd.grad(alone.sum(), logits, retain_graph=True)
        (of_all,) = torch.autograd.grad(found[r], logits, retain_graph=True)
        assert torch.allclose(own, of_all)
        assert of_all[[k for k in range(6) if k != r]].abs().max() == 0
