"""benchmarks.scale_figure: what a panel shows is what the file says."""

import numpy as np
import pytest

from benchmarks import scale_figure as scale
from figures import style

ROUNDS = [4.0, 1.0, 2.0]  # median 2, range 1 to 4


def row(way, x, **more):
    return {"group": "net", "way": way, "x": x, "milliseconds": [x * r for r in ROUNDS]} | more


SETTINGS = [
    row("edge alone", 1),
    row("a run each", 1),
    *(row("one pass", k, bytes=k * 10**6, predicted_bytes=k * 10**6 + 9) for k in (1, 10, 100)),
]


@pytest.fixture
def axes():
    fig, (ax,) = style.panels(1, 1, 2.0)
    yield ax
    style.plt.close(fig)


def lines(ax):
    """{label: (x, y)} of what an axis has in its legend."""
    found = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        line = handle[0] if hasattr(handle, "has_yerr") else handle
        found[label] = [*map(list, line.get_data())]
    return found


def test_steps_of_settings(axes):
    scale.panel(axes, scale.STEP, SETTINGS)
    found = lines(axes)
    assert found["one pass"] == [[1, 10, 100], [2, 20, 200]]
    assert found["a run each: $K$ times one run"] == [[1, 10, 100], [2, 20, 200]]
    assert found["the edge net alone"][1] == [2, 2]
    (bars,) = axes.collections
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [[1, 4], [10, 40], [100, 400]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_memory_of_settings(axes):
    scale.panel(axes, scale.MEMORY, SETTINGS)
    formula, measured = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(measured, [1, 10, 100])
    np.testing.assert_allclose(formula, [1 + 9e-6, 10 + 9e-6, 100 + 9e-6], rtol=1e-9)


@pytest.mark.parametrize("content", ["no json", '{"kind": "sweep", "rows": [{}]}'])
def test_another_file_is_refused(refused, tmp_path, content):
    path = tmp_path / "out.json"
    path.write_text(content)
    refused(scale.main, path, telling="benchmarks.scale wrote")
    refused(scale.main, tmp_path / "none.json", telling="none.json")
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
