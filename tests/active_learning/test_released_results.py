"""A tree of performances.txt as the paper's release has it: figure, table, what is refused."""

import csv
import json

import numpy as np
import pytest
from matplotlib import pyplot as plt

from active_learning import plot, table
from figures import style
from tests.active_learning.made_study import write_round

METHODS = ("random", "DIAM", "coreset")


def write_tree(root, model_nums=(2, 12), datasets=("kmnist", "mnist"), rounds=range(4)):
    """{(dataset, T, method): top-1 in percent [R, T]}; round 0 is every method's, as there."""
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
    said = capsys.readouterr()
    assert said.err == ""
    for dataset in ("kmnist", "mnist"):
        name = tmp_path / "figures" / f"{dataset}-targets"
        rows = list(csv.DictReader(name.with_suffix(".csv").read_text().splitlines()))
        assert [row["method"] for row in rows] == ["random", "coreset", "DIAM"]
        assert list(rows[0]) == ["method", "2", "12"]
        result = json.loads(name.with_suffix(".json").read_text())
        assert result["rounds"] == [0, 1, 2, 3]
        for row in rows:
            for t in ("2", "12"):
                top1 = values[dataset, int(t), row["method"]]
                mean = top1.mean(1).mean()
                std = np.mean([np.sqrt(((x - x.mean()) ** 2).sum() / len(x)) for x in top1])
                assert row[t] == f"{mean:.2f} ± {std:.2f}"
                numbers = result["targets"][t][row["method"]]
                assert (numbers["mean"], numbers["std"]) == pytest.approx((mean, std))
                assert numbers["rounds"]["2"]["top1"] == pytest.approx(top1[2].tolist())
                assert numbers["rounds"]["2"]["mean"] == pytest.approx(top1[2].mean())
        text = name.with_suffix(".md").read_text()
        assert f"{dataset}, rounds 0–3. Test top-1 in %" in text
        bold = [line for line in text.splitlines() if "**" in line]
        assert [line.split(" | ")[0] for line in bold] == ["| coreset"]  # the best with both T
        assert bold[0].count("**") == 4
        assert name.with_suffix(".tex").exists()


@pytest.mark.filterwarnings("error")
def test_the_figure_has_error_bars_over_the_targets(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(style, "save", lambda fig, out, name: drawn.update({name: fig}) or [])
    values = write_tree(tmp_path)
    plot.main([str(tmp_path)])
    assert list(drawn) == [f"{d}-{t}-targets" for d in ("kmnist", "mnist") for t in (2, 12)]
    for (dataset, t, method), top1 in values.items():
        (ax,) = drawn[f"{dataset}-{t}-targets"].axes
        lines = {line.get_label(): line for line in ax.lines}
        np.testing.assert_array_equal(lines[method].get_xdata(), range(4))
        np.testing.assert_allclose(lines[method].get_ydata(), top1.mean(1))
        bars = [b for b in ax.collections if b.get_color()[0, :3].tolist() == color(method)]
        ends = np.array([segment[:, 1] for segment in bars[0].get_segments()])
        np.testing.assert_allclose(ends[:, 1] - top1.mean(1), top1.std(1))
        np.testing.assert_allclose(top1.mean(1) - ends[:, 0], top1.std(1))
    for fig in drawn.values():
        plt.close(fig)


def color(method):
    return list(plt.matplotlib.colors.to_rgb(style.QUERIES[method]["color"]))


def test_rounds_that_a_method_lacks_are_left_out_of_the_table(tmp_path, capsys):
    values = write_tree(tmp_path, datasets=["mnist"])
    root = tmp_path / "extracted_results"
    (root / "12/mnist/DIAM/3/performances.txt").unlink()
    for path in (root / "2/mnist/coreset").glob("*/performances.txt"):
        path.unlink()
    table.main([str(root), "--out", str(tmp_path / "out")])  # the folder itself does as well
    said = capsys.readouterr()
    assert said.err == "mnist: round 3 is left out: DIAM (T = 12) lack it\n"
    assert "mnist, rounds 0–2" in said.out
    rows = list(csv.DictReader((tmp_path / "out/mnist-targets.csv").read_text().splitlines()))
    by_method = {row["method"]: row for row in rows}
    assert by_method["coreset"]["2"] == "–"
    mean = values["mnist", 2, "random"][:3].mean()
    assert by_method["random"]["2"].startswith(f"{mean:.2f} ± ")


def test_without_a_common_round_there_is_no_table(tmp_path, capsys):
    for model_num, round_ in ((2, 0), (12, 1)):
        write_tree(tmp_path, [model_num], ["mnist"], [round_])
    table.main([str(tmp_path)])
    assert "not drawn: there is no round that all" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("place", "content", "telling"),
    [
        ("2/mnist/DIAM/1", b"", "is not rows of top-1 and top-5 in percent"),
        ("2/mnist/DIAM/1", b"90 95\nhigh 95\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n90\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95 97\n90 95 97\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n90 nan\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n-1 95\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n90 101\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n95 90\n", "is not rows of"),
        ("2/mnist/DIAM/1", b"\xff\xfe90 95", "is not rows of"),
        ("2/mnist/DIAM/1", b"90 95\n", "has 1 rows, not one for each of 2 targets"),
        ("2/mnist/DIAM/1", b"90 95\n" * 3, "has 3 rows, not one for each of 2 targets"),
        ("two/mnist/DIAM/1", b"90 95\n" * 2, "'two' is no number of targets"),
        ("0/mnist/DIAM/1", b"90 95\n", "'0' is no number of targets"),
        ("2/mnist/DIAM/last", b"90 95\n" * 2, "'last' is no round"),
        ("2/mnist/DIAM/01", b"90 95\n" * 2, "another folder is of round 1 too"),
    ],
)
@pytest.mark.parametrize("script", [plot, table], ids=["plot", "table"])
def test_malformed_files_are_one_line(tmp_path, refused, script, place, content, telling):
    write_tree(tmp_path, model_nums=[2], datasets=["mnist"], rounds=range(2))
    path = tmp_path / "extracted_results" / place / "performances.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    refused(script.main, tmp_path, telling=telling)
    assert not (tmp_path / "figures").exists()


def test_results_of_ours_are_read_as_such(tmp_path):
    """Whose performances.txt lies beside a performances.json."""
    write_round(tmp_path / "seed-1")
    table.main([str(tmp_path)])
    assert {p.name for p in (tmp_path / "figures").iterdir()} >= {"digits-2-methods.md"}
    assert not list((tmp_path / "figures").glob("*targets*"))
