"""Figures of active learning: what is drawn against the rounds it comes from."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from active_learning import plot
from active_learning.results import load
from active_learning.target_models import TARGETS
from figures import style
from tests.active_learning.made_study import write_study

T_975 = {1: 12.7062047, 2: 4.30265273}  # Student's 97.5 % point, by degrees of freedom


@pytest.fixture
def drawn(monkeypatch):
    """Figures by file name, before they are closed; none is written, that takes longest."""
    found = {}
    monkeypatch.setattr(style, "save", lambda fig, out, name: found.update({name: fig}) or [])
    yield found
    for fig in found.values():
        plt.close(fig)


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


def panel(fig, name):
    (ax,) = (ax for ax in fig.axes if ax.get_ylabel() == name)
    return ax


def number(result, measure):
    top1 = [net["top1"] for net in result["targets"]]
    return {
        "top1": 100 * np.mean(top1),
        "worst": 100 * min(top1),
        "unseen": 100 * np.mean([net["top1"] for net in result["unseen"] or [{"top1": 0}]]),
        "spread": 100 * (max(top1) - min(top1)),
        "risk": result["cascade"]["risk"],
    }[measure]


def assert_band(collection, labels, low, high):
    corners = collection.get_paths()[0].vertices
    for x, bottom, top in zip(labels, low, high, strict=True):
        ends = corners[np.isclose(corners[:, 0], x), 1]
        assert (ends.min(), ends.max()) == pytest.approx((bottom, top))


@pytest.mark.filterwarnings("error")
def test_curves_are_means_and_intervals_over_seeds(tmp_path, drawn, capsys):
    found = write_study(tmp_path, ("random", "DIAM"), (1, 2, 3), range(3))
    found |= write_study(tmp_path, ("DIAM_qp",), (2,), range(2))
    plot.main([str(tmp_path)])
    assert list(drawn) == ["digits-2-curves", "digits-2-differences", "digits-2-risk-differences"]
    assert "round 2 is left out: DIAM_qp (seed 2) lack it" in capsys.readouterr().err
    fig = drawn["digits-2-curves"]
    title = fig.get_suptitle()
    assert "1 to 3 seeds a method" in title
    assert "95 % interval over seeds, none for one seed" in title
    for measure, name in plot.PANELS.items():
        ax = panel(fig, name)
        lines = lines_of(ax)
        assert list(lines) == ["random", "DIAM", "DIAM_qp"]  # nothing was published of this
        for method, band in zip(("random", "DIAM"), ax.collections, strict=True):
            values = np.array(
                [[number(found[method, s, r][0], measure) for r in range(3)] for s in (1, 2, 3)]
            )
            mean = values.mean(0)
            np.testing.assert_array_equal(lines[method].get_xdata(), [40, 60, 80])
            np.testing.assert_allclose(lines[method].get_ydata(), mean)
            half = T_975[2] * values.std(0, ddof=1) / np.sqrt(3)
            assert_band(band, [40, 60, 80], mean - half, mean + half)
        alone = lines["DIAM_qp"]
        np.testing.assert_array_equal(alone.get_xdata(), [40, 60])
        want = [number(found["DIAM_qp", 2, r][0], measure) for r in range(2)]
        np.testing.assert_allclose(alone.get_ydata(), want)
        low, high = ax.get_ylim()
        assert all(low < y < high for line in ax.lines for y in line.get_ydata())


@pytest.mark.filterwarnings("error")
def test_differences_are_of_the_same_seeds(tmp_path, drawn):
    whose = {"random": (1, 2, 3), "DIAM": (2, 3, 4), "DIAM_qp": (3,)}
    found = write_study(tmp_path, whose, rounds=range(3))
    found |= write_study(tmp_path, {"DIAM": (2, 3, 4)}, rounds=[3])  # random lacks it
    plot.main([str(tmp_path)])
    for name, measure in (("differences", "top1"), ("risk-differences", "risk")):
        first, second = drawn[f"digits-2-{name}"].axes
        assert (first.get_title(), second.get_title()) == ("DIAM (n = 2)", "DIAM_qp (n = 1)")
        gaps = {
            method: np.array(
                [
                    [
                        number(found[method, s, r][0], measure)
                        - number(found["random", s, r][0], measure)
                        for r in range(3)
                    ]
                    for s in seeds
                ]
            )
            for method, seeds in (("DIAM", (2, 3)), ("DIAM_qp", (3,)))
        }
        for ax, own, other in ((first, "DIAM", "DIAM_qp"), (second, "DIAM_qp", "DIAM")):
            zero, grey, line = ax.lines
            assert set(zero.get_ydata()) == {0}
            np.testing.assert_allclose(grey.get_ydata(), gaps[other].mean(0), atol=1e-12)
            np.testing.assert_allclose(line.get_ydata(), gaps[own].mean(0), atol=1e-12)
            np.testing.assert_array_equal(line.get_xdata(), [40, 60, 80])
            assert line.get_color() == style.QUERIES[own]["color"]
        half = T_975[1] * gaps["DIAM"].std(0, ddof=1) / np.sqrt(2)
        mean = gaps["DIAM"].mean(0)
        assert_band(first.collections[0], [40, 60, 80], mean - half, mean + half)
        assert not second.collections
        assert first.get_ylim() == second.get_ylim()


def test_published_points_are_hollow_and_drawn_beside_the_paper_s_protocol_alone(tmp_path, drawn):
    names = [target.name for target in TARGETS]
    paper = {"methods": ("random", "DIAM"), "seeds": (1,), "rounds": range(2), "step": 1500}
    paper |= {"dataset": "kmnist", "model_num": 12, "names": names, "unseen": 0}
    write_study(tmp_path / "paper", **paper)
    plot.main([str(tmp_path / "paper")])
    fig = drawn["kmnist-12-curves"]
    assert "one seed: no interval" in fig.get_suptitle()
    assert "seed 1" in fig.get_suptitle()
    assert [ax.get_ylabel() for ax in fig.axes] == [
        name for measure, name in plot.PANELS.items() if measure != "unseen"
    ]
    lines = lines_of(panel(fig, plot.PANELS["top1"]))
    assert list(lines) == ["random", "DIAM", "random, published", "DIAM, published"]
    points = lines["random, published"]
    np.testing.assert_array_equal(points.get_xdata(), [3000, 4500])  # no round of which is missing
    np.testing.assert_array_equal(points.get_ydata(), [63.33, 74.17])
    assert points.get_linestyle() == "None"
    assert points.get_markerfacecolor() == "white"
    assert points.get_markeredgecolor() == lines["random"].get_color()
    assert "published" not in " ".join(lines_of(panel(fig, plot.PANELS["worst"])))
    others = {"names": names[1:] + names[:1]}, {"step": 1000}, {"dataset": "digits"}
    others += ({"model_num": 2, "names": names[:2]},)
    for k, other in enumerate(others):
        drawn.clear()
        write_study(tmp_path / str(k), **paper | other)
        plot.main([str(tmp_path / str(k))])
        name = next(n for n in drawn if n.endswith("curves"))
        assert list(lines_of(panel(drawn[name], plot.PANELS["top1"]))) == ["random", "DIAM"], other


def test_without_random_there_are_curves_alone(tmp_path, drawn, capsys):
    write_study(tmp_path, ("CAL", "a new one"), (1, 2), range(2))
    plot.main([str(tmp_path)])
    assert list(drawn) == ["digits-2-curves"]
    assert "not drawn: no method has a seed and a round in common" in capsys.readouterr().err
    lines = lines_of(panel(drawn["digits-2-curves"], plot.PANELS["risk"]))
    assert list(lines) == ["CAL", "a new one"]


def test_two_wild_seeds_do_not_hide_the_lines(tmp_path, drawn):
    write_study(tmp_path, ("random", "DIAM"), (1, 2), range(4), n=20)
    (study,) = load(tmp_path)
    plot.draw_curves(study, tmp_path)
    for ax in drawn["digits-2-curves"].axes[: len(plot.PANELS)]:
        means = np.concatenate([line.get_ydata() for line in ax.lines])
        low, high = ax.get_ylim()
        assert high - low <= (1 + 2 * plot.ROOM) * np.ptp(means) * 1.001
        assert low <= means.min()
        assert means.max() <= high


def test_files(tmp_path):
    write_study(tmp_path, ("random", "DIAM"), (1, 2), range(2))
    (study,) = load(tmp_path)
    paths = plot.draw_curves(study, tmp_path / "out")
    assert sorted(path.name for path in paths) == ["digits-2-curves.pdf", "digits-2-curves.png"]
    assert all(path.stat().st_size > 5000 for path in paths)
