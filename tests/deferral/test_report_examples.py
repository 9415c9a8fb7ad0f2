"""Samples on the page: their texts, and what a column of costs is in."""

import json

import numpy as np
import pytest

from deferral.report import __main__ as report

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def answers(tmp_path):
    """400 samples with a prompt each, the last ones long, and costs."""
    rng = np.random.default_rng(0)
    score = rng.random(400)
    right = [(rng.random(400) < share).astype(int) for share in (score, 0.9)]
    rows = [
        f"{EVIL} {k} {'long ' * (100 * (k > 200))},{right[0][k]},{right[1][k]},{score[k]},1,20"
        for k in range(400)
    ]
    head = "prompt,correct_small,correct_large,score_small,cost_small,cost_large"
    path = tmp_path / "answers.csv"
    path.write_text("\n".join([head, *rows]))
    return path


def made(path, *flags):
    report.main([str(path), "--draws", "20", "--overwrite", *flags])
    page = path.with_name("answers-report.html").read_text()
    return json.loads(path.with_name("answers-report.json").read_text()), page


def test_samples_are_shown_by_the_model_that_answers_them(answers):
    numbers, page = made(answers, "--budget", "10")
    shown, choice = numbers["texts"], numbers["choice"]
    rule = next(row for row in choice["rules"] if row["name"] == choice["chosen"])
    assert [one["model"] for one in shown] == ["small"] * 6 + ["large"] * 6
    lines = answers.read_text().splitlines()[1:]
    for one in shown:
        prompt, small, large, score, *_ = lines[one["row"]].split(",")
        prompt = prompt.strip()
        assert one["text"] == (prompt if len(prompt) <= 200 else prompt[:199] + "…")
        assert one["quality"] == [float(small), float(large)]
        assert (one["model"] == "large") == (-float(score) > rule["thresholds"][0])
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; " in page


def test_a_file_without_texts_shows_none(answers):
    answers.write_text("\n".join(x.split(",", 1)[1] for x in answers.read_text().splitlines()))
    numbers, page = made(answers)
    assert numbers["texts"] == []
    assert "Who answers which sample" not in page


def test_costs_are_in_the_unit_that_is_given(answers, capsys):
    numbers, page = made(answers, "--unit", "cents", "--budget", "10")
    assert numbers["choice"]["unit"] == "cents"
    assert "at a mean cost of at most 10.0, in cents" in capsys.readouterr().out
    assert "Mean cost is in cents" in page
    bare = [x.rsplit(",", 2)[0] for x in answers.read_text().splitlines()]
    answers.write_text("\n".join(bare))
    with pytest.raises(SystemExit) as stop:
        made(answers, "--unit", "cents")
    assert stop.value.code == 2
    assert "no columns cost_NAME" in capsys.readouterr().err


def test_a_risk_is_promised_at_the_least_cost(answers, capsys):
    numbers, page = made(answers, "--max_risk", "0.4")
    choice = numbers["choice"]
    assert choice["promise"] == {"max_risk": 0.4, "delta": 0.05}
    assert numbers["settings"][0]["cost_e"] == 0
    assert "cheapest with at most 40 % wrong answers and keeps that with probability 0.95" in page
    policy = json.loads(answers.with_name("answers-policy.json").read_text())
    assert policy["promise"] == choice["promise"]
    for flags in (["--max_risk", "0.01"], ["--max_risk", "0.4", "--budget", "3"]):
        with pytest.raises(SystemExit) as stop:
            made(answers, *flags)
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")
