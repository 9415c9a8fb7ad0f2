"""The per-class figure and table: its numbers against the arrays, and what it says of the nets."""

import csv
import json

import numpy as np
import pytest

from deferral import per_class as numbers
from deferral import rules
from deferral.predictions import load
from figures import per_class, settings


@pytest.fixture
def non_iid(tmp_path, write):
    """Writes predictions where the local net has never seen some classes; returns their path."""

    def make(unseen=(2, 9), classes=10, **more):
        path = tmp_path / "run" / "cifar10-predictions.npz"
        arrays = write(path, pictures=0, **more)
        about = arrays["settings"]
        if classes != 10:  # two nets that guess
            rng, n = np.random.default_rng(1), len(arrays["labels"])
            about["classes"] = [f"kind {k}" for k in range(classes)]
            arrays["labels"] = np.arange(n) % classes
            arrays["stage_logits"] = rng.normal(size=(2, n, classes)).astype(np.float32)
        arrays["stage_logits"][0][:, list(unseen)] -= 9
        seen = [k for k in range(classes) if k not in unseen]
        about["local_classes"] = seen
        np.savez(path, **(arrays | {"settings": json.dumps(about)}))
        return path

    return make


def run(*argv):
    per_class.main([str(a) for a in argv])


def read_csv(folder):
    text = (folder / "cifar10-per_class.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.filterwarnings("error")
def test_the_table_is_the_arrays(non_iid, finished):
    path = non_iid()
    run(path.parent, "--cost_1", 1, "--cost_e", 0.1)
    out = path.parent / "figures"
    rows = {(r["seen"], r["class"]): r for r in read_csv(out)}
    predictions = load(path)
    test = predictions.part("test")
    setting = settings.one_setting(predictions, 1, 0.1)
    m, e = test.correct
    softmax = np.exp(test.stage_logits[0].astype(float))
    doubt = 1 - (softmax / softmax.sum(-1, keepdims=True)).max(-1)
    sent = {
        "rejector": test.scores[setting["row"]] > 0,
        "oracle": 0.1 + ~e < ~m,
        "confidence": per_class.decide(predictions, setting)["confidence"] == 1,
    }
    # A threshold on the doubt, whatever it is: all that is sent is in more doubt than what is kept.
    assert doubt[sent["confidence"]].min() > doubt[~sent["confidence"]].max()
    is_seen = ~np.isin(test.labels, (2, 9))
    names = test.settings["classes"]
    groups = {("yes", names[k]): test.labels == k for k in (0, 1, 3, 4, 5, 6, 7, 8)}
    groups |= {("yes", "all"): is_seen, ("no", "bird"): test.labels == 2}
    groups |= {("no", "truck"): test.labels == 9, ("no", "all"): ~is_seen}
    groups[("all", "all")] = np.ones(len(m), bool)
    assert list(rows) == list(groups)
    right = np.where(sent["rejector"], e, m)
    cost = np.where(sent["rejector"], 0.1 + ~e, ~m)
    for key, of in groups.items():
        row = rows[key]
        assert int(row["n"]) == of.sum()
        for rule, stop in sent.items():
            assert float(row[f"reject_rate_{rule}"]) == pytest.approx(stop[of].mean()), (key, rule)
        for column, values in (("local_accuracy", m), ("edge_accuracy", e), ("accuracy", right)):
            assert float(row[column]) == pytest.approx(values[of].mean()), (key, column)
        assert float(row["risk"]) == pytest.approx(cost[of].mean())
        assert row["seen"] != "no" or float(row["local_accuracy"]) == 0
    line = f"the rejector sends {100 * sent['rejector'][is_seen].mean():.1f} % of these"
    ((_, title),) = finished
    assert f"trained on 8 of 10 classes: {line}" in title
    assert f"{100 * sent['rejector'][~is_seen].mean():.1f} % of the others" in title


def change_labels(path, change):
    """Rewrite the file with labels that `change(labels, split)` has changed in place."""
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays["labels"], arrays["split"])
    np.savez(path, **arrays)


def test_confidence_is_fitted_on_val_alone(non_iid):
    path = non_iid()
    predictions = load(path)
    setting = settings.one_setting(predictions, 1.25, 0.2)
    val, test = predictions.part("val"), predictions.part("test")
    doubt, test_doubt = (rules.max_softmax_doubt(part.stage_logits[0]) for part in (val, test))
    cut = rules.best_threshold(doubt, val.correct, np.array([0, 0.2]), np.array([1, 1.25]))
    before = per_class.decide(predictions, setting)
    np.testing.assert_array_equal(before["confidence"], test_doubt > cut)
    change_labels(path, lambda labels, split: np.put(labels, np.flatnonzero(split), 0))
    after = per_class.decide(load(path), setting)
    np.testing.assert_array_equal(after["confidence"], before["confidence"])
    assert (after["oracle"] != before["oracle"]).any()  # so that a fit on test would show


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [10, 30])
def test_few_and_too_many_classes(non_iid, finished, classes):
    """Beside the rates two confusions, with counts as text; above 20 classes the ends alone."""
    path = non_iid(unseen=(3, classes - 1), classes=classes)
    run(path.parent)
    assert len(read_csv(path.parent / "figures")) == classes + 3
    ((fig, title),) = finished
    if classes > per_class.MAPS:
        assert len(fig.axes) == 1
        assert "the 12 classes most and the 12 least often sent" in title
        return
    test = load(path).part("test")
    stop = per_class.decide(load(path), settings.one_setting(load(path), None, None))["rejector"]
    for ax, counts in zip(fig.axes[1:], numbers.kept_and_sent(test, stop), strict=True):
        drawn = np.zeros_like(counts)
        for text in ax.texts:
            x, y = text.get_position()
            drawn[y, x] = int(text.get_text())
        np.testing.assert_array_equal(drawn, counts)


def test_ends_are_the_most_and_the_least_often_sent():
    rng = np.random.default_rng(0)
    total = rng.integers(5, 50, 40)
    total[[4, 17]] = 0
    sent = (total * rng.random(40)).astype(int)
    none = np.zeros(40, int)
    found = per_class.ends(numbers.Groups(total, sent, none, none, none))
    there = sorted((k for k in range(40) if total[k]), key=lambda k: (-sent[k] / total[k], k))
    assert found == there[:12] + there[-12:]
    few = numbers.Groups(*(x[:24] for x in (total, sent, none, none, none)))
    assert sorted(per_class.ends(few)) == [k for k in range(24) if k not in (4, 17)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("classes", "first", "rows"),
    [(None, "?", 11), (list(range(10)), "yes", 11), ([], "no", 11), ([0], "yes", 13)],
)
def test_one_side_has_no_row_of_its_own(tmp_path, write, finished, classes, first, rows):
    path = tmp_path / "cifar10-predictions.npz"
    arrays = write(path)
    settings_now = arrays["settings"] | ({} if classes is None else {"local_classes": classes})
    np.savez(path, **(arrays | {"settings": json.dumps(settings_now)}))
    run(tmp_path)
    found = read_csv(tmp_path / "figures")
    assert (found[0]["seen"], len(found)) == (first, rows)
    assert ("local net trained on" in finished[0][1]) == (rows == 13)


@pytest.mark.filterwarnings("error")
def test_a_class_that_is_not_in_test(non_iid, finished):
    path = non_iid()
    change_labels(path, lambda labels, _: np.place(labels, labels == 5, 6))
    run(path.parent)
    row = next(r for r in read_csv(path.parent / "figures") if r["class"] == "dog")
    assert (row["n"], row["reject_rate_rejector"], row["risk"]) == ("0", "", "")
