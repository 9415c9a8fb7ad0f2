"""The numbers that figures draw and tables print, against slow versions of them."""

import csv

import numpy as np
import pytest

from deferral.predictions import load
from deferral.rules import max_softmax_doubt
from figures import bounded_rate, reject_rate, settings, summary_table
from figures.command import NotDrawn
from figures.tables import Column, fixed, plain, print_table, write_table
from tests.figures.conftest import synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(predictions, the arrays they were written from)."""
    path = tmp_path_factory.mktemp("run") / "cifar10-predictions.npz"
    arrays = synthetic(path)
    return load(path), arrays


def read_csv(path):
    return list(csv.DictReader(path.open()))


def test_summary_table(made, tmp_path, capsys):
    predictions, arrays = made
    md, tex, path, *_ = summary_table.draw(predictions, tmp_path, "x")
    rows = read_csv(path)
    about = arrays["settings"]["rejectors"]
    test = arrays["split"] == 1
    m, e = (arrays["stage_logits"].argmax(-1) == arrays["labels"])[:, test]
    assert len(rows) == len(about)
    costs = [(float(r["cost_1"]), float(r["cost_e"])) for r in rows]
    assert costs == sorted((s["cost_1"], s["cost_e"]) for s in about)
    for row, cost in zip(rows, costs, strict=True):
        freq = 0 if row["refresh"] == "|D|" else int(row["refresh"])
        match = [(s["cost_1"], s["cost_e"], s["async_freq"]) == (*cost, freq) for s in about]
        assert sum(match) == 1
        sent = arrays["scores"][match.index(True), test] > 0
        paper = np.where(sent, cost[1] + cost[0] * ~e, ~m).mean()
        assert float(row["risk_rejector"]) == pytest.approx(paper)
        assert float(row["reject_rate"]) == pytest.approx(sent.mean())
        assert float(row["accuracy"]) == pytest.approx(np.where(sent, e, m).mean())
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 120
    assert f"{float(rows[0]['risk_rejector']):.3f}" in printed
    assert md.read_text().count("\n|") == len(rows) + 2
    assert tex.read_text().count(r"\textbf{") >= len(rows)


def test_lowest_risk_leaves_out_the_oracle():
    risks = {"rejector": 0.2, "never": 0.5, "always": 0.4, "random": 0.2004, "confidence": 0.3}
    row = {f"risk_{rule}": value for rule, value in risks.items()} | {"risk_oracle": 0.1}
    assert summary_table.lowest_risk(row) == {"risk_rejector", "risk_random"}
    assert summary_table.lowest_risk(row | {"risk_random": 0.201}) == {"risk_rejector"}


def test_stage_table(made, tmp_path):
    predictions, arrays = made
    summary_table.draw(predictions, tmp_path, "x")
    by_cost = read_csv(tmp_path / "x-stage_table.csv")
    by_refresh = read_csv(tmp_path / "x-stage_table_async.csv")
    assert [r["refresh"] for r in by_refresh] == ["1", "100", "1000", "|D|"]
    test = arrays["split"] == 1
    m, e = (arrays["stage_logits"].argmax(-1) == arrays["labels"])[:, test]
    assert len(by_cost) == 11  # 10 of the sweep, and 1.25:0.25 of the S sweep at S = 1
    for row in by_cost:
        key = (float(row["cost_1"]), float(row["cost_e"]), 1)
        about = arrays["settings"]["rejectors"]
        match = [(s["cost_1"], s["cost_e"], s["async_freq"]) == key for s in about]
        sent = arrays["scores"][match.index(True), test] > 0
        for side, rows in (("kept", ~sent), ("sent", sent)):
            assert int(row[f"{side}_n"]) == rows.sum()
            assert float(row[f"{side}_local_accuracy"]) == pytest.approx(m[rows].mean())
            gain = e[rows].mean() - m[rows].mean()
            assert float(row[f"{side}_gain"]) == pytest.approx(gain)


def test_curves_start_at_the_local_net_and_end_at_the_edge(made):
    predictions, _ = made
    local, edge = predictions.part("test").correct.mean(1)
    curve = reject_rate.confidence_curve(predictions, max_softmax_doubt)
    assert curve[0] == (0, pytest.approx(local))
    assert curve[-1] == (1, pytest.approx(edge))
    curves = bounded_rate.bounded(predictions, 0)
    for rule in ("random", "empirical", "bernoulli"):
        assert curves[rule][0] == (0, pytest.approx(local))
        assert curves[rule][-1] == (1, pytest.approx(edge))
    sent = (predictions.part("test").scores[0] > 0).mean()
    assert curves["rejector"][0][0] == pytest.approx(sent)
    assert curves["sliding_window"][0] == curves["rejector"][0]  # a window of one sample allows all
    n = len(predictions.part("test").labels)
    for (rate, _), window in zip(curves["sliding_window"], bounded_rate.WINDOWS, strict=True):
        assert rate <= np.ceil(n / window) / n


def test_rates_by_cost(made):
    predictions, _ = made
    group = settings.by_cost_1(settings.cost_sweep(predictions))[1.25]
    decided = reject_rate.by_cost(predictions, group)
    m, e = predictions.part("test").correct
    for (rate, right), setting in zip(decided["oracle"], group, strict=True):
        asks = setting["cost_e"] + setting["cost_1"] * ~e < ~m
        assert rate == pytest.approx(asks.mean())
        assert right == pytest.approx(np.where(asks, e, m).mean())


def test_which_settings_are_shown(tmp_path, write):
    path = tmp_path / "x-predictions.npz"
    write(path, cost_1=(1.25, 1.0), async_freq=(0, 1000, "joint", 1))
    predictions = load(path)
    sweep = settings.cost_sweep(predictions)
    assert {s["async_freq"] for s in sweep} == {1}
    costs = [(s["cost_1"], s["cost_e"]) for s in sweep]
    assert costs == sorted(costs)
    (group,) = settings.async_sweeps(predictions)
    assert [s["async_freq"] for s in group] == [1, "joint", 1000, 0]
    for s in sweep + group:
        assert predictions.settings["rejectors"][s["row"]]["stem"] == s["stem"]
    one = settings.one_setting(predictions, None, None)
    assert (one["cost_1"], one["cost_e"]) == (1.25, 0.25)
    one = settings.one_setting(predictions, 1.0, None)
    assert (one["cost_1"], one["cost_e"]) in {(1.0, 0.2), (1.0, 0.3)}
    write(path, cost_1=(), async_costs=())
    with pytest.raises(NotDrawn):
        settings.cost_sweep(load(path))


def test_numbers_have_no_negative_zero():
    assert [fixed(1)(x) for x in (-0.04, -0.06, 0.04)] == ["0.0", "−0.1", "0.0"]


def test_a_table_in_every_format(tmp_path, capsys):
    columns = [
        Column("s", "S", tex="$S$"),
        Column("c", "c_1", plain),
        Column("a", "m", fixed(1, 100), group="LOCAL"),
        Column("b", "50 % & e", fixed(2), group="LOCAL"),
    ]
    rows = [
        {"s": "|D|", "c": 1.25, "a": 0.5, "b": -0.123},
        {"s": "1", "c": 1.0, "a": float("nan"), "b": 2.0},
    ]
    md, tex, path = write_table(rows, columns, tmp_path, "t", "A caption.", lambda row: {"a"})
    assert md.read_text().splitlines() == [
        "A caption.",
        "",
        "| S | c_1 | LOCAL m | LOCAL 50 % & e |",
        "|---:|---:|---:|---:|",
        r"| \|D\| | 1.25 | **50.0** | −0.12 |",
        "| 1 | 1 | **–** | 2.00 |",
    ]
    assert tex.read_text().splitlines() == [
        "% A caption.",
        r"\begin{tabular}{rrrr}",
        r"\toprule",
        r" &  & \multicolumn{2}{c}{LOCAL} \\",
        r"\cmidrule(lr){3-4}",
        r"$S$ & c\_1 & m & 50 \% \& e \\",
        r"\midrule",
        r"$|D|$ & 1.25 & \textbf{50.0} & $-$0.12 \\",
        r"\addlinespace",
        r"1 & 1 & \textbf{--} & 2.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert path.read_text() == "s,c,a,b\n|D|,1.25,0.5,-0.123\n1,1.0,,2.0\n"
    print_table(rows, columns, "A caption.")
    assert capsys.readouterr().out.splitlines() == [
        "A caption.",
        "",
        "         LOCAL         ",
        "  S  c_1     m 50 % & e",
        "|D| 1.25  50.0    −0.12",
        "  1    1     –     2.00",
        "",
    ]
