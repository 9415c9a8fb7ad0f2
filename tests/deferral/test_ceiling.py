"""The ceiling: a bound from both nets' logits, shown beside the rules and never offered as one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deferral import ceiling, external
from deferral.cascade import as_predictions
from deferral.compare import compare
from deferral.decide import decide, scored
from deferral.estimates import bayes_score
from deferral.predictions import Predictions
from deferral.risk import costs, risk
from tests.deferral.test_estimates import post_hoc

pytestmark = pytest.mark.usefixtures("quick")
COST = 1.25, 0.1


def make(seed=0, val=600, test=800, classes=5):
    """Nets whose errors are independent, so that the remote's logits tell what asking gains."""
    rng = np.random.default_rng(seed)
    n = val + test
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(2, n, classes))
    for net, gap in enumerate((1.2, 2.5)):
        logits[net, np.arange(n), labels] += gap + rng.normal(size=n)
    return Predictions(
        labels=labels,
        stage_logits=logits.astype(np.float32),
        split=np.repeat([0, 1], [val, test]),
        index=np.arange(n),
        scores=np.zeros((0, n)),
        settings={"dataset": "made", "classes": [*map(str, range(classes))], "rejectors": []},
    )


@pytest.fixture(scope="module")
def one(quick):
    return make()


def test_it_lies_between_estimates_from_the_local_logits_and_the_oracle(one):
    decisions, test = decide(one, *COST), one.part("test")
    paid = {n: risk(test.correct, d.stop, *costs(*COST)) for n, d in decisions.items()}
    assert paid["oracle"] < paid["ceiling"] < paid["post_hoc"] - 0.01


def test_it_is_the_bayes_rule_on_both_logits(one):
    val, test = one.part("val"), one.part("test")
    p = ceiling.both_right(val, test)
    assert p.shape == (2, 800)
    np.testing.assert_array_equal(decide(one, *COST)["ceiling"].stop, bayes_score(p, *COST) > 0)
    right = test.correct
    for mine, other, one_right in zip(p, post_hoc(val, test)[1], right, strict=True):
        assert np.mean((mine - one_right) ** 2) < np.mean((other - one_right) ** 2)
    labels_of_test = replace(test, labels=np.zeros_like(test.labels))
    np.testing.assert_array_equal(ceiling.both_right(val, labels_of_test), p)


def test_it_is_no_rule_to_choose(one):
    assert "ceiling" not in scored(decide(one, *COST))
    compared = compare([one], [COST], draws=20)
    row = next(rule for rule in compared.rules if rule.name == "ceiling")
    assert row.kind == "oracle"
    assert row.label == "ceiling (sees the remote's scores)"
    assert compared.best_confidence != "ceiling"


def test_a_device_with_exits_has_none(one):
    three = replace(
        one,
        stage_logits=one.stage_logits[[0, 0, 1]],
        settings=one.settings | {"multiply_adds": [1, 2]},
    )
    assert "ceiling" not in decide(three, *COST)


def test_blocks_of_test_rows_give_the_same(one, monkeypatch):
    val, test = one.part("val"), one.part("test")
    whole = ceiling.both_right(val, test)
    monkeypatch.setattr(ceiling, "ROWS", 650)
    np.testing.assert_allclose(ceiling.both_right(val, test), whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("columns", "known"),
    [("both", True), ("cheap", False), ("answers", False), ("costs", False)],
)
def test_a_file_of_answers_has_it_where_both_models_give_class_scores(
    one, tmp_path, columns, known
):
    table = {"label": one.labels, "split": np.where(one.split, "test", "val")}
    for name, logits in zip(("cheap", "dear"), one.stage_logits, strict=True):
        if columns in ("both", "costs", name):
            table |= {f"{name}_{k}": scores for k, scores in enumerate(logits.T)}
        else:
            table[f"answer_{name}"] = logits.argmax(-1)
        if columns == "costs":
            table[f"cost_{name}"] = np.full(len(one.labels), 1 + (name == "dear"))
    path = tmp_path / "answers.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    run = as_predictions(external.load(path))
    found = decide(run, *COST)
    assert ("ceiling" in found) == known
    if known:
        expected = decide(one, *COST)["ceiling"].stop
        assert (found["ceiling"].stop == expected).mean() > 0.99  # the file has float32 as text
