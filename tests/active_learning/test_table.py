"""Tables of active learning: every number against the answers it comes from."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from active_learning import comparison, table
from active_learning.over_seeds import holm, paired_p, t_interval
from active_learning.target_models import TARGETS
from deferral import bootstrap
from tests.active_learning.made_study import write_study

MEASURES = ("top1", "worst", "unseen", "risk")


def per_sample(found, measure, count=2):
    """The measure of every sample, written out."""
    _, arrays = found
    right = arrays["predicted"] == arrays["labels"]
    if measure == "risk":
        return arrays["cost"]
    if measure == "worst":
        return right[int(np.argmin(right[:count].mean(1)))].astype(float)
    return right[:count].mean(0) if measure == "top1" else right[count:].mean(0)


def written(out, name="digits-2"):
    """The rows of NAME-methods.csv by method, as texts, and NAME-methods.json."""
    rows = pd.read_csv(out / f"{name}-methods.csv", dtype=str, keep_default_na=False)
    result = json.loads((out / f"{name}-methods.json").read_text())
    return rows.set_index("method").to_dict("index"), result


@pytest.fixture(autouse=True)
def draws(monkeypatch):
    """Few draws of the bootstrap."""
    monkeypatch.setattr(comparison, "DRAWS", 200)


def test_the_numbers_are_those_of_the_answers(tmp_path, capsys):
    found = write_study(tmp_path, ("random", "DIAM", "risk"), (1, 2, 3), range(4))
    table.main([str(tmp_path)])
    out = tmp_path / "figures"
    rows, result = written(out)
    assert list(rows) == ["random", "DIAM", "risk"]
    assert result["rounds"] == [0, 1, 2, 3]
    for method, row in rows.items():
        numbers = result["methods"][method]
        means = {
            measure: [
                np.mean([per_sample(found[method, s, r], measure).mean() for r in range(4)])
                for s in (1, 2, 3)
            ]
            for measure in MEASURES
        }
        means["last"] = [per_sample(found[method, s, 3], "top1").mean() for s in (1, 2, 3)]
        for key, values in means.items():
            np.testing.assert_allclose(numbers[key], values, atol=1e-12)
            scale, digits = (1, 4) if key == "risk" else (100, 2)
            mean, std = scale * np.mean(values), scale * np.std(values, ddof=1)
            assert row[key] == f"{mean:.{digits}f} ± {std:.{digits}f}"
        assert row["n"] == "3"
        assert float(row["train_seconds"]) == pytest.approx(11.5)  # 10 to 13
        assert float(row["select_seconds"]) == pytest.approx(1.0)  # 0.5, 1, 1.5: not in round 0
        record = numbers["runs"]["2"]["3"]
        nets = found[method, 2, 3][0]
        assert record["top1"] == [net["top1"] for net in nets["targets"]]
        assert record["unseen_top1"] == [net["top1"] for net in nets["unseen"]]
        assert record["labelled"] == 100
        assert numbers["runs"]["2"]["0"]["select_seconds"] is None
    assert "published" not in rows["DIAM"]
    printed = capsys.readouterr()
    assert "digits, 2 targets, 60 test samples, rounds 0–3, 40 to 100 labels" in printed.out
    assert printed.err == ""
    for kind in ("md", "tex", "csv"):
        assert (out / f"digits-2-differences.{kind}").exists()


def test_differences_are_paired_and_leave_round_0_out(tmp_path):
    found = write_study(tmp_path, ("random", "DIAM", "coreset"), (1, 2, 3), range(3), n=300)
    table.main([str(tmp_path), "--out", str(tmp_path / "out")])
    _, result = written(tmp_path / "out")
    p = {}
    for method in ("DIAM", "coreset"):
        gaps = np.stack(
            [
                np.mean(
                    [
                        np.stack([per_sample(found[method, s, r], m) for m in MEASURES], 1)
                        - np.stack([per_sample(found["random", s, r], m) for m in MEASURES], 1)
                        for r in (1, 2)
                    ],
                    axis=0,
                )
                for s in (1, 2, 3)
            ]
        )
        low, high = bootstrap.interval(bootstrap.resample(gaps, 200, comparison.SEED))
        for j, measure in enumerate(MEASURES):
            versus = result["methods"][method]["versus_random"][measure]
            seeds = gaps[:, :, j].mean(1)
            np.testing.assert_allclose(versus["by_seed"], seeds, atol=1e-12)
            assert versus["difference"] == pytest.approx(seeds.mean())
            assert (versus["low"], versus["high"]) == pytest.approx((low[j], high[j]))
            test = stats.ttest_1samp(seeds, 0)
            assert versus["p"] == pytest.approx(test.pvalue)
            p[method, measure] = versus["p"]
            interval = test.confidence_interval(0.95)
            assert (versus["t_low"], versus["t_high"]) == pytest.approx(tuple(interval))
            good = -1 if measure == "risk" else 1
            want = "no difference"
            if low[j] * high[j] > 0:
                want = "better" if good * low[j] > 0 else "worse"
            assert versus["verdict"] == want
    verdicts = {
        m: [v["verdict"] for v in result["methods"][m]["versus_random"].values()]
        for m in ("DIAM", "coreset")
    }
    assert "better" in verdicts["DIAM"]  # else the signs above were not put to the test
    assert "worse" in verdicts["coreset"]
    for measure in MEASURES:
        two = sorted([p["DIAM", measure], p["coreset", measure]])
        corrected = sorted(
            result["methods"][m]["versus_random"][measure]["p_holm"] for m in ("DIAM", "coreset")
        )
        first = min(1, 2 * two[0])
        assert corrected == pytest.approx([first, max(first, two[1])])


def test_fewer_seeds_and_rounds(tmp_path, capsys):
    whose = {"random": (1, 2, 3), "DIAM": (2, 3, 4), "DIAM_qp": (2,)}
    found = write_study(tmp_path, whose, rounds=range(3))
    found |= write_study(tmp_path, {"random": (1, 2, 3), "DIAM": (2,)}, rounds=[3])
    table.main([str(tmp_path)])
    printed = capsys.readouterr()
    assert printed.err == (
        "digits-2: round 3 is left out: DIAM (seed 3), DIAM (seed 4), DIAM_qp (seed 2) lack it\n"
    )
    assert "rounds 0–2, 40 to 80 labels" in printed.out
    rows, result = written(tmp_path / "figures")
    assert result["left_out"] == [printed.err.strip()]
    assert [row["n"] for row in rows.values()] == ["3", "3", "1"]
    assert "±" not in rows["DIAM_qp"]["top1"]
    assert rows["DIAM_qp"]["p_holm"] == ""
    versus = result["methods"]["DIAM"]["versus_random"]["top1"]
    assert versus["seeds"] == [2, 3]
    assert rows["DIAM"]["difference"].endswith("(n = 2)")
    assert versus["p_holm"] == versus["p"]  # the only one that was tested
    alone = result["methods"]["DIAM_qp"]["versus_random"]["top1"]
    gap = [
        per_sample(found["DIAM_qp", 2, r], "top1") - per_sample(found["random", 2, r], "top1")
        for r in (1, 2)
    ]
    assert alone["difference"] == pytest.approx(np.mean(gap))
    assert (alone["p"], alone["t_low"]) == (None, None)
    assert "3" in result["methods"]["DIAM"]["runs"]["2"]  # left out of means, not of the record


def test_without_random_and_without_unseen(tmp_path, capsys):
    write_study(tmp_path, ("CAL", "DIAM"), (1, 2), range(2), unseen=0)
    table.main([str(tmp_path)])
    rows, result = written(tmp_path / "figures")
    assert "unseen" not in rows["CAL"]
    assert {row["difference"] for row in rows.values()} == {"–"}
    assert result["methods"]["CAL"]["versus_random"] == {}
    assert not (tmp_path / "figures/digits-2-differences.csv").exists()


def test_equal_answers_are_no_difference(tmp_path):
    """Not even by what sums of floats leave."""
    more = {"model_num": 3, "cost_e": 0.1, "like": "random"}
    write_study(tmp_path, ("random", "DIAM"), (1, 2), range(4), **more)
    table.main([str(tmp_path)])
    _, result = written(tmp_path / "figures", "digits-3")
    for versus in result["methods"]["DIAM"]["versus_random"].values():
        assert (versus["difference"], versus["p"], versus["verdict"]) == (0, 1, "no difference")


def test_the_paper_beside_ours(tmp_path, capsys):
    """Where data set, targets, labels and rounds are the paper's."""
    names = [target.name for target in TARGETS[:2]]
    paper = {"methods": ("random", "DIAM", "risk"), "seeds": (1,), "rounds": range(11)}
    paper |= {"dataset": "kmnist", "step": 1500, "names": names}
    write_study(tmp_path / "paper", **paper)
    table.main([str(tmp_path / "paper")])
    rows, result = written(tmp_path / "paper" / "figures", "kmnist-2")
    assert [row["published"] for row in rows.values()] == ["87.34", "90.38", ""]
    assert result["methods"]["risk"]["published"] is None
    assert "Paper: Tang and Huang (2022)" in " ".join(capsys.readouterr().out.split())
    others = {"rounds": range(10)}, {"step": 1000}, {"names": ["a", "b"]}, {"names": names[::-1]}
    for k, other in enumerate(others):
        write_study(tmp_path / str(k), **paper | other)
        table.main([str(tmp_path / str(k))])
        rows, _ = written(tmp_path / str(k) / "figures", "kmnist-2")
        assert "published" not in rows["DIAM"], other


def test_significant_differences_are_bold(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "paired_p", lambda gaps: 0.02 if gaps.mean() > 0 else 0.5)
    write_study(tmp_path, ("random", "DIAM", "coreset"), (1, 2), range(3))
    table.main([str(tmp_path)])
    text = (tmp_path / "figures/digits-2-methods.md").read_text().splitlines()
    (diam,) = (line for line in text if "DIAM |" in line)
    (coreset,) = (line for line in text if "coreset |" in line)
    assert "**0.040**" in diam
    assert "0.500" in coreset
    assert "**" not in coreset


def test_holm_by_hand():
    # 0.005 x 4, 0.01 x 3, 0.03 x 2 and 0.04 x 1, which may not fall below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.7, 0.8]) == [1, 1, 1]
    with_nan = holm([float("nan"), 0.02, 0.03])
    assert np.isnan(with_nan[0])
    assert with_nan[1:] == pytest.approx([0.04, 0.04])
    assert holm([]) == []


def test_the_paired_test_without_spread_and_of_one_seed():
    assert (paired_p(np.zeros(3)), paired_p(np.ones(3))) == (1, 0)
    assert np.isnan(paired_p(np.array([1.0])))
    mean, half = t_interval(np.array([[2.0, 3.0]]))
    np.testing.assert_array_equal(mean, [2, 3])
    assert np.isnan(half).all()
