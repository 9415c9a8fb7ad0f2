"""Figures of active learning: lines and bands are means and intervals of the rounds' numbers."""

import numpy as np
import pytest
from scipy import stats

from active_learning import plot
from active_learning.results import load
from active_learning.target_models import TARGETS
from figures import style
from tests.active_learning.made_study import write_study


@pytest.fixture
def figures(monkeypatch):
    """Figures by file name; none is written, which would take longest."""
    found = {}
    monkeypatch.setattr(style, "save", lambda fig, out, name: found.update({name: fig}) or [])
    return found


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


def panels(fig, study):
    """{(measure, method): Axes} of a figure of curves."""
    methods = [m for m in study.records if m != "random"] or ["random"]
    measures = [m for m in plot.PANELS if m == "spread" or m in study.measures]
    keys = [(measure, method) for measure in measures for method in methods]
    return dict(zip(keys, fig.axes, strict=True))


def values(study, method, measure, seeds, rounds):
    scale = 1 if measure == "risk" else 100
    return scale * study.values(method, measure, seeds, rounds)


def assert_band(collection, labels, runs):
    """A band is the 95 % Student interval of the mean of runs [S, R]."""
    half = stats.t.ppf(0.975, len(runs) - 1) * runs.std(0, ddof=1) / np.sqrt(len(runs))
    corners = collection.get_paths()[0].vertices
    for x, low, high in zip(labels, runs.mean(0) - half, runs.mean(0) + half, strict=True):
        ends = corners[np.isclose(corners[:, 0], x), 1]
        assert (ends.min(), ends.max()) == pytest.approx((low, high))


@pytest.mark.filterwarnings("error")
def test_curves_are_means_and_intervals_over_seeds(tmp_path, figures, capsys):
    write_study(tmp_path, ("random", "DIAM"), (1, 2, 3), range(3))
    write_study(tmp_path, ("DIAM_qp",), (2,), range(2))
    plot.main([str(tmp_path)])
    names = ["digits-2-curves", "digits-2-differences", "digits-2-risk-differences"]
    assert list(figures) == names
    assert "round 2 is left out: DIAM_qp (seed 2) lacks it" in capsys.readouterr().err
    (study,) = load(tmp_path)
    for (measure, method), ax in panels(figures[names[0]], study).items():
        assert list(lines_of(ax)) == ["random", method]
        for name, line in lines_of(ax).items():
            seeds, rounds = ([2], [0, 1]) if name == "DIAM_qp" else ([1, 2, 3], [0, 1, 2])
            runs = values(study, name, measure, seeds, rounds)
            np.testing.assert_array_equal(line.get_xdata(), [40 + 20 * r for r in rounds])
            np.testing.assert_allclose(line.get_ydata(), runs.mean(0))
        bands = ["random", "DIAM"] if method == "DIAM" else ["random"]
        for name, collection in zip(bands, ax.collections, strict=True):
            runs = values(study, name, measure, [1, 2, 3], [0, 1, 2])
            assert_band(collection, [40, 60, 80], runs)


@pytest.mark.filterwarnings("error")
def test_differences_are_paired_by_seed(tmp_path, figures):
    write_study(
        tmp_path, {"random": (1, 2, 3), "DIAM": (2, 3, 4), "DIAM_qp": (3,)}, rounds=range(3)
    )
    write_study(tmp_path, {"DIAM": (2, 3, 4)}, rounds=[3])  # random lacks it
    plot.main([str(tmp_path)])
    (study,) = load(tmp_path)
    for name, measure in (("differences", "top1"), ("risk-differences", "risk")):
        first, second = figures[f"digits-2-{name}"].axes
        gaps = {
            method: values(study, method, measure, seeds, range(3))
            - values(study, "random", measure, seeds, range(3))
            for method, seeds in (("DIAM", (2, 3)), ("DIAM_qp", (3,)))
        }
        for ax, method, other in ((first, "DIAM", "DIAM_qp"), (second, "DIAM_qp", "DIAM")):
            zero, grey, line = ax.lines
            assert set(zero.get_ydata()) == {0}
            np.testing.assert_allclose(grey.get_ydata(), gaps[other].mean(0), atol=1e-12)
            np.testing.assert_allclose(line.get_ydata(), gaps[method].mean(0), atol=1e-12)
            np.testing.assert_array_equal(line.get_xdata(), [40, 60, 80])
        assert_band(first.collections[0], [40, 60, 80], gaps["DIAM"])
        assert not second.collections
        assert first.get_ylim() == second.get_ylim()


def test_published_points_are_drawn_beside_the_paper_s_protocol_only(tmp_path, figures):
    names = [target.name for target in TARGETS]
    paper = {"methods": ("random", "DIAM"), "seeds": (1,), "rounds": range(2), "step": 1500}
    paper |= {"dataset": "kmnist", "model_num": 12, "names": names, "unseen": 0}
    others = {"names": names[1:] + names[:1]}, {"step": 1000}, {"dataset": "digits"}
    for k, change in enumerate([{}, *others]):
        write_study(tmp_path / str(k), **paper | change)
        (study,) = load(tmp_path / str(k))
        plot.draw_curves(study, tmp_path)
        axes = panels(figures.pop(f"{study.name}-curves"), study)
        lines = lines_of(axes["top1", "DIAM"])
        if change:
            assert list(lines) == ["random", "DIAM"], change
            continue
        assert list(lines) == ["random", "random, published", "DIAM", "DIAM, published"]
        np.testing.assert_array_equal(lines["random, published"].get_xdata(), [3000, 4500])
        np.testing.assert_array_equal(lines["random, published"].get_ydata(), [63.33, 74.17])
        np.testing.assert_array_equal(lines["DIAM, published"].get_ydata(), [63.33, 77.24])
        assert list(lines_of(axes["worst", "DIAM"])) == ["random", "DIAM"]
