import json

import numpy as np
import pytest

from deferral import rules
from deferral.predictions import load
from deferral.risk import costs, risk
from deferral.summary import COLUMNS, setting_name, summarise


def test_rows_are_the_obvious_numbers(arrays, save):
    rows = summarise(load(save(arrays)))
    right = arrays["stage_logits"].argmax(-1) == arrays["labels"]
    m, e = right[:, 6:]
    assert len(rows) == 2
    for row, score in zip(rows, arrays["scores"][:, 6:], strict=True):
        sent = score > 0
        paper = np.where(sent, row["cost_e"] + row["cost_1"] * ~e, ~m)
        assert row["risk_rejector"] == pytest.approx(paper.mean())
        assert row["accuracy"] == pytest.approx(np.where(sent, e, m).mean())
        assert row["reject_rate"] == pytest.approx(sent.mean())
        assert row["risk_never"] == pytest.approx((~m).mean())
        assert row["risk_always"] == pytest.approx(row["cost_e"] + row["cost_1"] * (~e).mean())
        mixed = (1 - sent.mean()) * row["risk_never"] + sent.mean() * row["risk_always"]
        assert row["risk_random"] == pytest.approx(mixed)
        cheapest = np.minimum(~m, row["cost_e"] + row["cost_1"] * ~e)
        assert row["risk_oracle"] == pytest.approx(cheapest.mean())
        assert (row["local_accuracy"], row["edge_accuracy"]) == (m.mean(), e.mean())
        assert (row["kept_n"], row["sent_n"]) == ((~sent).sum(), sent.sum())
        assert row["kept_local_accuracy"] == pytest.approx(m[~sent].mean())
        assert row["kept_edge_accuracy"] == pytest.approx(e[~sent].mean())
        assert row["sent_local_accuracy"] == pytest.approx(m[sent].mean())
        assert row["sent_edge_accuracy"] == pytest.approx(e[sent].mean())


def test_confidence_is_fitted_on_val_alone(arrays, save):
    arrays["stage_logits"][1] += 2 * (np.arange(3) == arrays["labels"][:, None])  # worth asking
    rows = summarise(load(save(arrays)))
    softmax = np.exp(arrays["stage_logits"][0])
    doubt = 1 - (softmax / softmax.sum(-1, keepdims=True)).max(-1)
    right = arrays["stage_logits"].argmax(-1) == arrays["labels"]
    on_test = []
    for fitted_on in (slice(0, 6), slice(6, 14)):
        t = rules.best_threshold(doubt[fitted_on], right[:, fitted_on], *costs(1.25, 0.25))
        stop = (doubt[6:] > t).astype(int)
        on_test.append(risk(right[:, 6:], stop, *costs(1.25, 0.25)))
    assert rows[1]["risk_confidence"] == pytest.approx(on_test[0])
    assert on_test[0] > on_test[1]  # so that a fit on test would show


def test_only_confidence_looks_at_val(arrays, save):
    before = summarise(load(save(arrays)))
    arrays["labels"][:6] = arrays["stage_logits"][0, :6].argmax(-1)  # all right: never ask
    after = summarise(load(save(arrays)))
    assert after[1]["risk_confidence"] == after[1]["risk_never"]
    for old, new in zip(before, after, strict=True):
        assert {k for k in COLUMNS if old[k] != new[k]} <= {"risk_confidence"}


def test_rows_have_fixed_columns_and_plain_values(arrays, save):
    rows = summarise(load(save(arrays)))
    for row in rows:
        assert tuple(row) == COLUMNS
        assert {type(v) for v in row.values()} <= {str, int, float}
    assert json.loads(json.dumps(rows)) == rows


def test_an_empty_side_is_nan(arrays, save):
    arrays["scores"][0] = -1
    row = summarise(load(save(arrays)))[0]
    assert row["sent_n"] == 0
    assert np.isnan(row["sent_local_accuracy"])
    assert np.isnan(row["sent_edge_accuracy"])
    assert row["accuracy"] == row["kept_local_accuracy"] == row["local_accuracy"]


def test_needs_two_stages(arrays, save):
    arrays["stage_logits"] = np.concatenate([arrays["stage_logits"]] * 2)
    with pytest.raises(ValueError, match="2 stages"):
        summarise(load(save(arrays)))


def test_setting_name():
    assert [setting_name(s) for s in (1, 100, 0, "joint", "adaptive-0.050")] == [
        "S = 1",
        "S = 100",
        "S = |D|",
        "joint",
        "adaptive, 0.05",
    ]
