"""The surrogates against the equation written out, and against the Bayes rule on finite worlds."""

import itertools
import math

import pytest
import torch

from losses.stage_switching import (
    cost_sensitive,
    edge_loss,
    rejector_loss,
    released,
    stage_switching,
)
from losses.surrogates import SURROGATES

WEIGHTS = {weights.__name__: weights for weights in (stage_switching, cost_sensitive, released)}
COSTS = [(1.0, 0.0), (0.5, 0.3), (1.0, 0.25), (1.25, 0.25), (1.25, 0.0), (2.0, 0.5)]
CONSISTENT = ("stage_switching", "cost_sensitive")


def loss_of(logits, m_right, e_wrong, c1, ce, surrogate="stage_switching"):
    return rejector_loss(logits, *WEIGHTS[surrogate](m_right, e_wrong, c1, ce))


def slow_weights(m_right, e_wrong, c1, ce, surrogate):
    """The table of the paper and the release, one sample at a time."""
    if surrogate == "stage_switching":
        s = max(0.0, ce + c1 - 1)
        return (1 if m_right else 0) + s, 1 - ce - (c1 if e_wrong else 0) + s
    if surrogate == "cost_sensitive":
        return ce + (c1 if e_wrong else 0), (0 if m_right else 1)
    return (1 if m_right else 0), 1 - ce + (c1 if e_wrong else 0)


@pytest.mark.parametrize("surrogate", WEIGHTS)
def test_rejector_loss_is_the_equation(surrogate):
    torch.manual_seed(0)
    logits = torch.randn(len(COSTS), 7, 2, dtype=torch.float64)
    m_right, e_wrong = torch.rand(7) < 0.5, torch.rand(len(COSTS), 7) < 0.5
    c1, ce = torch.tensor(COSTS, dtype=torch.float64).T[..., None]
    found = loss_of(logits, m_right, e_wrong, c1, ce, surrogate)
    for r, (cost_1, cost_e) in enumerate(COSTS):
        total = 0.0
        for b in range(7):
            a, z = logits[r, b].tolist()
            log_sum = math.log(math.exp(a) + math.exp(z))
            w = slow_weights(m_right[b], e_wrong[r, b], cost_1, cost_e, surrogate)
            total += -w[0] * (a - log_sum) - w[1] * (z - log_sum)
        assert found[r].item() == pytest.approx(total / 7, abs=1e-12)


def test_the_mean_with_lr_16e4_is_the_releases_step_on_the_sum():
    torch.manual_seed(0)
    logits = torch.randn(1, 16, 2, requires_grad=True)
    args = torch.rand(16) < 0.5, torch.rand(1, 16) < 0.5, torch.ones(1, 1), torch.full((1, 1), 0.2)
    (of_mean,) = torch.autograd.grad(1.6e-3 * loss_of(logits, *args).sum(), logits)
    w = stage_switching(*args)
    log_p = torch.log_softmax(logits, -1)
    of_sum = torch.autograd.grad(
        -1e-4 * (w[0] * log_p[..., 0] + w[1] * log_p[..., 1]).sum(), logits
    )
    assert torch.allclose(of_mean, of_sum[0], atol=1e-9)


def test_edge_loss_is_cross_entropy():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    by_hand = [
        math.log(sum(math.exp(v) for v in row)) - row[y]
        for row, y in zip(logits.tolist(), (1, 0), strict=True)
    ]
    assert edge_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(sum(by_hand) / 2)


class World:
    """A finite distribution: N points x, K classes, random P(y|x), a random m, the Bayes e*."""

    def __init__(self, seed, points=40, classes=4):
        g = torch.Generator().manual_seed(seed)
        sharp = torch.rand(points, 1, generator=g, dtype=torch.float64) * 4
        p = torch.randn(points, classes, generator=g, dtype=torch.float64) * sharp
        self.p_y = p.softmax(-1)  # P(y | x), [N, K]
        self.m = torch.randint(classes, (points,), generator=g)
        self.e = self.p_y.argmax(-1)
        y = torch.arange(classes)
        self.m_right = self.m[:, None] == y  # 1{m(x) = y}, [N, K]
        self.e_wrong = self.e[:, None] != y

    def expected_loss(self, logits, c1, ce, surrogate):
        """sum over y of P(y | x) L2(r(x), y): [N], for logits [N, 2], through `rejector_loss`."""
        n, k = self.p_y.shape
        pairs = logits[:, None, :].expand(n, k, 2).reshape(n * k, 1, 2)
        costs = [torch.full((n * k, 1), c, dtype=torch.float64) for c in (c1, ce)]
        flat = self.m_right.reshape(-1, 1), self.e_wrong.reshape(-1, 1)
        losses = loss_of(pairs, *flat, *costs, surrogate).view(n, k)
        return (self.p_y * losses).sum(-1)

    def minimiser(self, c1, ce, surrogate):
        """argmin over r(x) of the expected loss at every x, by Newton's method on r_1 - r_0."""
        gap = torch.zeros(len(self.p_y), dtype=torch.float64, requires_grad=True)
        for _ in range(60):
            logits = torch.stack([-gap / 2, gap / 2], -1)
            loss = self.expected_loss(logits, c1, ce, surrogate).sum()
            (slope,) = torch.autograd.grad(loss, gap, create_graph=True)
            (bend,) = torch.autograd.grad(slope.sum(), gap)
            gap = (gap - (slope / bend.clamp_min(1e-9)).clamp(-1, 1)).detach().requires_grad_()
        return gap.detach()

    def advantage(self, c1, ce):
        """P(m != y | x) - c_e - c_1 P(e* != y | x): REMOTE is the Bayes rule where it is > 0."""
        m_wrong = 1 - (self.p_y * self.m_right).sum(-1)
        return m_wrong - ce - c1 * (self.p_y * self.e_wrong).sum(-1)


@pytest.mark.parametrize(("c1", "ce"), COSTS)
@pytest.mark.parametrize("surrogate", CONSISTENT)
def test_minimising_gives_the_bayes_rule(surrogate, c1, ce):
    for seed in range(2):
        world = World(seed)
        advantage = world.advantage(c1, ce)
        clear = advantage.abs() > 1e-3
        decision = world.minimiser(c1, ce, surrogate) > 0
        assert torch.equal(decision[clear], (advantage > 0)[clear])


# At c_1 <= 1 and c_e = 0 asking is always right, and the release's loss always asks: no difference.
@pytest.mark.parametrize(("c1", "ce"), [c for c in COSTS if c != (1.0, 0.0)])
def test_released_does_not_give_the_bayes_rule(c1, ce):
    """On purpose: the release's loss turns the sign of c_1. Users of its numbers must know."""
    wrong = 0
    for seed in range(2):
        world = World(seed)
        advantage = world.advantage(c1, ce)
        decision = world.minimiser(c1, ce, "released") > 0
        wrong += (decision != (advantage > 0))[advantage.abs() > 1e-3].sum().item()
    assert wrong > 0


def test_released_asks_more_where_the_edge_is_wrong():
    c1, ce = torch.tensor([[1.25]]), torch.tensor([[0.25]])
    m_right, e_wrong = torch.tensor([False, False]), torch.tensor([[True, False]])
    w_remote = released(m_right, e_wrong, c1, ce)[1][0]
    assert w_remote[0] > w_remote[1]
    w_remote = stage_switching(m_right, e_wrong, c1, ce)[1][0]
    assert w_remote[0] < w_remote[1]


@pytest.mark.parametrize(("c1", "ce"), COSTS)
@pytest.mark.parametrize("surrogate", WEIGHTS)
def test_convex_and_bounded_below(surrogate, c1, ce):
    """Weights are >= 0, the Hessian in r is positive semidefinite, and no value is below 0."""
    torch.manual_seed(1)
    costs = torch.tensor([[c1]], dtype=torch.float64), torch.tensor([[ce]], dtype=torch.float64)
    for m_right, e_wrong in itertools.product([True, False], repeat=2):
        sample = torch.tensor([m_right]), torch.tensor([[e_wrong]])
        assert all((w >= -1e-12).all() for w in WEIGHTS[surrogate](*sample, *costs))
        for _ in range(10):
            logits = 5 * torch.randn(1, 1, 2, dtype=torch.float64)

            def loss(z, sample=sample):
                return loss_of(z.view(1, 1, 2), *sample, *costs, surrogate).sum()

            hessian = torch.autograd.functional.hessian(loss, logits.flatten())
            assert torch.linalg.eigvalsh(hessian).min() > -1e-12
            assert loss(logits) >= -1e-12


@pytest.mark.parametrize("surrogate", WEIGHTS)
def test_no_weight_is_negative_at_any_cost_that_is_allowed(surrogate):
    """In float32 as training has it; where it is not allowed some weight is."""
    values = [0.0, 1e-9, 0.1, 0.3, 0.7, 0.9, 1.0, 1.1, 1.7, 3.0, 1e6]
    pairs = torch.tensor([*itertools.product(values, values)])
    c1, ce = pairs.T[..., None]
    m_right = torch.tensor([False, False, True, True])
    e_wrong = torch.tensor([False, True, False, True])
    weights = WEIGHTS[surrogate](m_right, e_wrong, c1, ce)
    weights = torch.stack(torch.broadcast_tensors(*weights))  # [2, pairs, 4]
    allowed = pairs[:, 1] <= SURROGATES[surrogate].largest_cost_e
    assert torch.equal((weights >= 0).all(-1).all(0), allowed)
    assert allowed.all() == (surrogate != "released")


def test_the_shift_keeps_the_papers_difference_and_repairs_its_sign():
    """At c_1 = 1.25, c_e = 0.25 the paper's w_REMOTE is -0.5 where the edge errs; ours is 0."""
    c1, ce = torch.tensor([[1.25]]), torch.tensor([[0.25]])
    m_right, e_wrong = torch.tensor([True, False]), torch.tensor([[True, True]])
    w_local, w_remote = stage_switching(m_right, e_wrong, c1, ce)
    papers_local, papers_remote = m_right.float(), 1 - ce - c1 * e_wrong.float()
    assert papers_remote.min().item() == pytest.approx(-0.5)
    assert w_remote.min().item() == pytest.approx(0)
    assert torch.allclose(w_remote - w_local, papers_remote - papers_local)


@pytest.mark.parametrize(("c1", "ce"), [c for c in COSTS if sum(c) <= 1])
def test_without_need_it_is_the_papers_loss(c1, ce):
    for m_right, e_wrong in itertools.product([True, False], repeat=2):
        w = stage_switching(*map(torch.tensor, (m_right, e_wrong, c1, ce)))
        assert [v.item() for v in w] == pytest.approx([float(m_right), 1 - ce - c1 * e_wrong])
