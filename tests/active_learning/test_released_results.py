"""A tree of performances.txt as the paper's release has it: figure, table, malformed files."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from active_learning import plot, table
from figures import style
from tests.active_learning.made_study import write_round

METHODS = ("random", "DIAM", "coreset")


def write_tree(root, model_nums=(2, 12), datasets=("kmnist", "mnist"), rounds=range(4)):
    """{(dataset, T, method): top-1 in percent [R, T]}; all methods share round 0."""
    values = {}
    for d, dataset in enumerate(datasets):
        for model_num in model_nums:
            for m, method in enumerate(METHODS):
                runs = []
                for r in rounds:
                    rng = np.random.default_rng([d, r, m if r else 0])
                    top1 = np.round(60 + 2 * r + 2 * m * (r > 0) + 4 * rng.random(12), 2)
                    rows = np.stack([top1, 0.5 * top1 + 50], 1)[:model_num]
                    folder = root / "extracted_results" / str(model_num) / dataset / method
                    (folder / str(r)).mkdir(parents=True)
                    np.savetxt(folder / str(r) / "performances.txt", rows, fmt="%f")
                    runs.append(rows[:, 0])
                values[dataset, model_num, method] = np.array(runs)
    return values


def test_the_table_is_methods_by_targets(tmp_path, capsys):
    values = write_tree(tmp_path)
    table.main([str(tmp_path)])
    assert capsys.readouterr().err == ""
    for dataset in ("kmnist", "mnist"):
        name = tmp_path / "figures" / f"{dataset}-targets"
        rows = pd.read_csv(name.with_suffix(".csv"), index_col="method")
        assert list(rows.index) == ["random", "coreset", "DIAM"]
        assert list(rows) == ["2", "12"]
        result = json.loads(name.with_suffix(".json").read_text())
        assert result["rounds"] == [0, 1, 2, 3]
        for (_, t, method), top1 in values.items():
            if _ != dataset:
                continue
            mean, std = top1.mean(), top1.std(1).mean()
            assert rows.loc[method, str(t)] == f"{mean:.2f} ± {std:.2f}"
            numbers = result["targets"][str(t)][method]
            assert (numbers["mean"], numbers["std"]) == pytest.approx((mean, std))
            assert numbers["rounds"]["2"]["top1"] == pytest.approx(top1[2].tolist())
            assert numbers["rounds"]["2"]["mean"] == pytest.approx(top1[2].mean())
        (best,) = (x for x in name.with_suffix(".md").read_text().splitlines() if "**" in x)
        assert "coreset" in best
        assert best.count("**") == 4
        assert name.with_suffix(".tex").exists()


@pytest.mark.filterwarnings("error")
def test_the_figure_has_error_bars_over_the_targets(tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(style, "save", lambda fig, out, name: figures.update({name: fig}) or [])
    values = write_tree(tmp_path, datasets=["mnist"])
    plot.main([str(tmp_path)])
    assert list(figures) == ["mnist-2-targets", "mnist-12-targets"]
    for (_, t, method), top1 in values.items():
        (ax,) = figures[f"mnist-{t}-targets"].axes
        (line,) = (x for x in ax.lines if x.get_label() == method)
        np.testing.assert_array_equal(line.get_xdata(), range(4))
        np.testing.assert_allclose(line.get_ydata(), top1.mean(1))
        color = to_rgb(style.QUERIES[method]["color"])
        (bars,) = (b for b in ax.collections if tuple(b.get_color()[0, :3]) == color)
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends[:, 1] - top1.mean(1), top1.std(1))
        np.testing.assert_allclose(top1.mean(1) - ends[:, 0], top1.std(1))


def test_rounds_that_a_method_lacks_are_left_out_of_the_table(tmp_path, capsys):
    values = write_tree(tmp_path, datasets=["mnist"])
    root = tmp_path / "extracted_results"
    (root / "12/mnist/DIAM/3/performances.txt").unlink()
    for path in (root / "2/mnist/coreset").glob("*/performances.txt"):
        path.unlink()
    table.main([str(root), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().err == "mnist: round 3 is left out: DIAM (T = 12) lacks it\n"
    rows = pd.read_csv(tmp_path / "out/mnist-targets.csv", index_col="method")
    assert rows.loc["coreset", "2"] == "–"
    mean = values["mnist", 2, "random"][:3].mean()
    assert rows.loc["random", "2"].startswith(f"{mean:.2f} ± ")


def test_without_a_common_round_there_is_no_table(tmp_path, capsys):
    for model_num, round_ in ((2, 0), (12, 1)):
        write_tree(tmp_path, [model_num], ["mnist"], [round_])
    table.main([str(tmp_path)])
    assert "not drawn: there is no round that all" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("2/mnist/DIAM/1", b"", "is not rows of top-1 and top-5 in percent"),
        ("2/mnist/DIAM/1", b"90 95\nhigh 95\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n90\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n90 nan\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n-1 95\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n95 90\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"\xff\xfe90 95", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n" * 3, "has 3 rows, not one for each of 2 targets"),
        ("two/mnist/DIAM/1", b"90 95\n" * 2, "'two' is no number of targets"),
        ("2/mnist/DIAM/last", b"90 95\n" * 2, "'last' is no round"),
        ("2/mnist/DIAM/01", b"90 95\n" * 2, "another folder is of round 1 too"),
    ],
)
def test_malformed_files_are_one_line(tmp_path, refused, place, content, message):
    write_tree(tmp_path, model_nums=[2], datasets=["mnist"], rounds=range(2))
    path = tmp_path / "extracted_results" / place / "performances.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    refused(table.main, tmp_path, telling=message)
    assert not (tmp_path / "figures").exists()


def test_texts_beside_a_json_are_read_with_it(tmp_path):
    write_round(tmp_path / "seed-1")
    table.main([str(tmp_path)])
    assert {p.name for p in (tmp_path / "figures").iterdir()} >= {"digits-2-methods.md"}
    assert not list((tmp_path / "figures").glob("*targets*"))
