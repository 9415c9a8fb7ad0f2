import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from deferral import curves, rules
from deferral.risk import accuracy, costs, risk

COST = costs(1.25, 0.25)


def draw(seed, n=60, ties=False):
    rng = np.random.default_rng(seed)
    correct = rng.random((2, n)) < np.array([[0.6], [0.8]])
    score = rng.normal(size=n) + 0.8 * ~correct[0]
    return rng, correct, np.round(score, 0) if ties else score


@pytest.mark.parametrize("ties", [False, True])
def test_curve_is_every_cut(ties):
    _, correct, score = draw(0, ties=ties)
    curve = curves.deferral_curve(score, correct, *COST)
    places = [np.inf, *np.unique(score)[::-1]]
    assert len(curve.rate) == len(places)
    for point, t in enumerate(places):
        stop = (score >= t).astype(int)
        assert curve.rate[point] == pytest.approx(stop.mean())
        assert curve.accuracy[point] == pytest.approx(accuracy(correct, stop))
        assert curve.risk[point] == pytest.approx(risk(correct, stop, *COST))


def test_ends_are_the_nets():
    _, correct, score = draw(1)
    curve = curves.deferral_curve(score, correct, *COST)
    assert (curve.rate[0], curve.rate[-1]) == (0, 1)
    assert curve.accuracy[[0, -1]] == pytest.approx(correct.mean(1))


def test_between_points_equal_scores_go_in_random_order():
    rng, correct, score = draw(2, n=20, ties=True)
    curve = curves.deferral_curve(score, correct, *COST)
    sent, right, paid = 7, [], []
    assert not np.isclose(curve.rate, sent / 20).any()  # so that it parts a tie
    for _ in range(4000):
        stop = np.zeros(20, int)
        stop[np.lexsort([rng.random(20), -score])[:sent]] = 1
        right.append(accuracy(correct, stop))
        paid.append(risk(correct, stop, *COST))
    assert curves.accuracy_at(curve, [sent / 20])[0] == pytest.approx(np.mean(right), abs=0.005)
    assert curves.risk_at(curve, [sent / 20])[0] == pytest.approx(np.mean(paid), abs=0.005)
    assert curves.accuracy_at(curve).shape == (9,)


@pytest.mark.parametrize("cost", [(1.25, 0.25), (1, 0), (0.5, 0.1), (0, 0.3)])
def test_no_curve_is_above_the_oracles(cost):
    for seed in range(5):
        _, correct, score = draw(seed)
        cost_ = costs(*cost)
        best = curves.oracle_curve(correct, *cost_)
        rates = np.linspace(0, 1, 61)
        for rival in (score, -score, correct[1].astype(float), np.zeros(60)):
            curve = curves.deferral_curve(rival, correct, *cost_)
            gap = curves.accuracy_at(best, rates) - curves.accuracy_at(curve, rates)
            assert gap.min() > -1e-12
            assert (curves.risk_at(best, rates) - curves.risk_at(curve, rates)).max() < 1e-12
        least = risk(correct, rules.oracle(correct, *cost_), *cost_)
        assert best.risk.min() == pytest.approx(least)


def test_normalised_area_of_its_limits():
    rng, correct, score = draw(3, n=400)
    best = curves.oracle_curve(correct, *COST)

    def area(values):
        return curves.normalised_area(curves.deferral_curve(values, correct, *COST), best)

    assert curves.normalised_area(best, best) == pytest.approx(1)
    assert area(np.zeros(400)) == pytest.approx(0, abs=1e-12)  # no order: random
    assert np.mean([area(rng.random(400)) for _ in range(300)]) == pytest.approx(0, abs=0.02)
    assert 0 < area(score) < 1
    assert area(-score) == pytest.approx(-area(score))
    benefit = correct[1].astype(int) - correct[0]
    assert area(benefit) == pytest.approx(1)


def test_normalised_area_is_nan_where_order_means_nothing():
    correct = np.array([[True, True], [False, False]])
    curve = curves.deferral_curve(np.array([0.0, 1.0]), correct, *COST)
    assert np.isnan(curves.normalised_area(curve, curves.oracle_curve(correct, *COST)))


@pytest.mark.parametrize("ties", [False, True])
def test_error_area_is_the_mean_over_rates(ties):
    _, correct, score = draw(4, ties=ties)
    curve = curves.deferral_curve(score, correct, *COST)
    fine = 1 - curves.accuracy_at(curve, (np.arange(60_000) + 0.5) / 60_000)
    assert curves.error_area(curve) == pytest.approx(fine.mean(), abs=1e-7)
    # What is rejected costs nothing where the edge is always right.
    perfect = np.stack([correct[0], np.ones(60, bool)])
    area = curves.error_area(curves.deferral_curve(score, perfect, *COST))
    assert area == pytest.approx(curves.augrc(score, ~correct[0]))


def slow_aurc(score, wrong):
    """Every coverage on its own; score without ties."""
    order = np.argsort(score)
    risks = [wrong[order[:k]].mean() for k in range(1, len(score) + 1)]
    return sum((a + b) / 2 for a, b in zip(risks[1:], risks[:-1], strict=True)) / (len(risks) - 1)


def test_aurc_is_its_definition():
    _, correct, score = draw(5)
    assert curves.aurc(score, ~correct[0]) == pytest.approx(slow_aurc(score, ~correct[0]))
    assert curves.aurc(score, np.zeros(60, bool)) == 0
    assert curves.aurc(score, np.ones(60, bool)) == pytest.approx(1)
    assert curves.aurc(np.zeros(1), np.ones(1, bool)) == 1


def test_ties_of_areas_are_their_expectation():
    rng, correct, score = draw(6, n=12, ties=True)
    wrong = ~correct[0]
    orders = [np.argsort(np.lexsort([rng.random(12), score])) for _ in range(4000)]
    drawn = [(slow_aurc(rank, wrong), curves.augrc(rank, wrong)) for rank in orders]
    expected = np.mean(drawn, axis=0)
    assert np.std(drawn, axis=0).min() > 0.001  # the order within ties does matter
    assert curves.aurc(score, wrong) == pytest.approx(expected[0], abs=0.003)
    assert curves.augrc(score, wrong) == pytest.approx(expected[1], abs=0.003)


@pytest.mark.parametrize("ties", [False, True])
def test_augrc_is_auroc_in_the_papers_way(ties):
    for seed in range(5):
        _, correct, score = draw(seed, ties=ties)
        right = correct[0].mean()
        auroc = roc_auc_score(~correct[0], score)
        paper = (1 - auroc) * right * (1 - right) + (1 - right) ** 2 / 2
        assert curves.augrc(score, ~correct[0]) == pytest.approx(paper, abs=1e-12)


def binary(seed, n):
    """Confidences of a binary net and its answers, without ties; [n] and bool [n]."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.5, 1, n)
    return p, rng.random(n) < p


# AURC and AUGRC of `binary` as torch-uncertainty 0.13.0 has them, in float32.
ELSEWHERE = {
    (0, 500): (0.08626912631938422, 0.06466733470632269),
    (1, 501): (0.1427665307095031, 0.09612175656127236),
    (2, 40): (0.09394758890388026, 0.06410256409605912),
}


def as_elsewhere(p, right):
    """Ours; AUGRC as a mean over coverages 1 / n to 1, without the first trapezoid from 0."""
    n, first = len(p), float(~right[p.argmax()])
    augrc = (n * curves.augrc(1 - p, ~right) - first / (2 * n)) / (n - 1)
    return curves.aurc(1 - p, ~right), augrc


@pytest.mark.parametrize("case", ELSEWHERE)
def test_areas_are_torch_uncertaintys(case):
    assert as_elsewhere(*binary(*case)) == pytest.approx(ELSEWHERE[case], abs=2e-7)


def test_bad_input_is_refused():
    _, correct, score = draw(0)
    with pytest.raises(ValueError, match="does not fit"):
        curves.deferral_curve(score[1:], correct, *COST)
    with pytest.raises(ValueError, match="does not fit"):
        curves.deferral_curve(score[:0], correct[:, :0], *COST)


def test_costs_of_each_sample_and_samples_that_stopped_early():
    """Every cut, slowly; those of score -inf are equals: sent last, and all at once."""
    rng, correct, score = draw(7)
    score[rng.random(60) < 0.4] = -np.inf
    own = (np.stack([rng.random(60), np.full(60, 1.3)]), np.repeat(COST[1][:, None], 60, 1))
    curve = curves.deferral_curve(score, correct, *own)
    places = [np.inf, *np.unique(score)[::-1]]
    assert len(curve.rate) == len(places) == 1 + np.isfinite(score).sum() + 1
    for point, t in enumerate(places):
        paid = [
            1.3 + 1.25 * (not correct[1, n])
            if score[n] >= t
            else own[0][0, n] + (not correct[0, n])
            for n in range(60)
        ]
        assert curve.risk[point] == pytest.approx(np.mean(paid))
        assert curve.rate[point] == np.mean(score >= t)
