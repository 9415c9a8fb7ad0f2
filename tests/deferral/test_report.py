"""The report's numbers against slow ones, and its page."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from deferral.predictions import load
from deferral.report.page import page
from tests.deferral.reports import FEW, MAIN, Page, change, read, run
from tests.figures.conftest import synthetic

pytestmark = pytest.mark.usefixtures("quick")

EVIL = "<script>alert('x')</script> & $c$"


@pytest.fixture(scope="module")
def made(quick, tmp_path_factory):
    """(predictions, JSON, page) of one run with rejectors, an estimator, pictures, bad names."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "cifar10-predictions.npz"
    synthetic(path, cost_e=(0.0, 0.2, 0.4), async_freq=(100,), pictures=30)
    p = load(path)
    good = np.clip(p.correct + np.random.default_rng(0).normal(0, 0.5, p.correct.shape), 0, 1)
    classes = [EVIL, *p.settings["classes"][1:]]
    change(path, classes=classes, estimators=[("amortized <b>", good)])
    flags = ("--costs", "1:0.2", "--max_reject_rate", 0.25, "--max_risk", 0.9, "--title", EVIL)
    run(path, *FEW, *flags)
    return load(path), *read(folder / "cifar10-report.html")


@pytest.fixture(scope="module")
def rules(made):
    return {row["name"]: row for row in made[1]["settings"][0]["rules"]}


def slow_risk(labels, logits, stop, cost_1, cost_e):
    total = 0.0
    for n, label in enumerate(labels):
        if stop[n]:
            total += cost_e + cost_1 * (np.argmax(logits[1, n]) != label)
        else:
            total += np.argmax(logits[0, n]) != label
    return total / len(labels)


def test_risks_are_those_of_a_slow_loop(made, rules):
    p, found, _ = made
    val, test = p.part("val"), p.part("test")

    def of(stop, part=test):
        return slow_risk(part.labels, part.stage_logits, stop, *MAIN)

    n = len(test.labels)
    rejector = next(
        i for i, s in enumerate(p.settings["rejectors"]) if (s["cost_1"], s["cost_e"]) == MAIN
    )
    stops = {
        "never": np.zeros(n),
        "always": np.ones(n),
        "stage_switching": test.scores[rejector] > 0,
        "amortized <b>": 1 - test.estimates[0, 0] > 0.2 + 1.25 * (1 - test.estimates[0, 1]),
    }

    def doubt(part):
        e = np.exp(part.stage_logits[0].astype(float))
        return 1 - e.max(-1) / e.sum(-1)

    cuts = [-1, *np.unique(doubt(val))]
    best = min(cuts, key=lambda t: of(doubt(val) > t, val))
    above = doubt(val)[doubt(val) > best].min(initial=2)
    stops["max_softmax"] = doubt(test) > (best + above) / 2
    for name, stop in stops.items():
        row = rules[name]
        assert row["risk"] == pytest.approx(of(stop), abs=1e-6), name
        assert row["reject_rate"] == pytest.approx(np.mean(stop))
        rate = np.mean(stop)
        mixed = (1 - rate) * of(stops["never"]) + rate * of(stops["always"])
        assert row["random_risk"] == pytest.approx(mixed)
        right = np.where(stop, test.correct[1], test.correct[0])
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["risk_low"] <= row["risk"] <= row["risk_high"]
    cheaper = np.minimum(~test.correct[0], 0.2 + 1.25 * ~test.correct[1])
    assert rules["oracle"]["risk"] == pytest.approx(cheaper.mean(), abs=1e-6)
    assert all(rules["oracle"]["risk"] <= row["risk"] for row in rules.values())
    assert rules[found["settings"][0]["best_confidence"]]["difference"] == 0
    sizes = [rules["amortized <b>"][key] for key in ("parameters", "multiply_adds", "about")]
    assert sizes == [1234, 5678, "about amortized <b>"]
    assert rules["max_softmax"]["parameters"] is None


def test_the_grid_is_what_rejectors_were_trained_for(made):
    p, found, _ = made
    grid = found["grid"]
    pairs = [(cost["cost_1"], cost["cost_e"]) for cost in grid["costs"]]
    often = {(s["cost_1"], s["cost_e"]) for s in p.settings["rejectors"] if s["async_freq"] == 1}
    assert pairs == sorted(often - {(1.25, 0.25)})  # trained at S = 100 alone
    never = next(row for row in grid["rules"] if row["name"] == "never")
    assert never["risk"] == pytest.approx(np.mean(never["risk_at"]))
    column = pairs.index(MAIN)
    for row in grid["rules"]:
        main = next(r for r in found["settings"][0]["rules"] if r["name"] == row["name"])
        assert row["risk_at"][column] == main["risk"]
    assert [(s["cost_1"], s["cost_e"]) for s in found["settings"]] == [MAIN, (1.0, 0.2)]


def test_curves_start_local_and_end_remote(made):
    p, found, _ = made
    test = p.part("test")
    for row in found["curves"]["rules"]:
        assert row["accuracy"][0] == pytest.approx(test.correct[0].mean())
        assert row["accuracy"][-1] == pytest.approx(test.correct[1].mean())
        assert row["accuracy_at"] == pytest.approx(row["accuracy"][10:100:10])
    by_name = {row["name"]: row for row in found["curves"]["rules"]}
    assert by_name["oracle"]["normalised_area"] == pytest.approx(1)
    assert by_name["random"]["normalised_area"] == pytest.approx(0)
    assert {"max_softmax", "stage_switching", "post_hoc", "amortized <b>"} < set(by_name)


def test_classes_and_confusions_are_counts_of_the_shown_rule(made):
    p, found, _ = made
    test, numbers = p.part("test"), found["classes"]
    # The estimates see who is right, so they are best on val.
    assert found["shown"] == numbers["rule"] == "amortized <b>"
    stop = 1 - test.estimates[0, 0] > 0.2 + 1.25 * (1 - test.estimates[0, 1])
    kept, sent = np.zeros((2, 10, 10), int)
    for n, label in enumerate(test.labels):
        answer = test.stage_logits[int(stop[n]), n].argmax()
        (sent if stop[n] else kept)[label, answer] += 1
    np.testing.assert_array_equal(numbers["confusion_kept"], kept)
    np.testing.assert_array_equal(numbers["confusion_sent"], sent)
    for k, row in enumerate(numbers["classes"]):
        assert row["sent"] == stop[test.labels == k].sum()
        assert row["accuracy"] == pytest.approx((kept[k, k] + sent[k, k]) / row["total"])
    pictures = found["pictures"]
    assert pictures["kept_count"] + pictures["sent_count"] == pictures["count"] == 30
    for one in pictures["shown"]:
        row = test.example_index[one["example"]]
        assert one["side"] == ("sent" if stop[row] else "kept")
        assert one["class"] == p.settings["classes"][test.labels[row]]
        assert one["remote_quality"] == test.correct[1, row]


def test_promised_rates_are_those_of_the_threshold(made):
    p, found, _ = made
    test, at = p.part("test"), found["rate_promises"]["at"]
    assert [row["max_rate"] for row in at] == [0.1, 0.2, 0.25, 0.3, 0.4, 0.5]
    score = 1 - test.estimates[0, 0] - 0.2 - 1.25 * (1 - test.estimates[0, 1])
    for row in at:
        assert row["reject_rate"] == pytest.approx((score > row["threshold"]).mean())
        assert row["simulated"]["splits"] == len(row["simulated"]["rules"]["guaranteed"]["rates"])
        assert row["simulated"]["rules"]["guaranteed"]["exceeds"] < 0.15  # 0.05 promised


def test_reliability_of_estimates(made):
    p, found, _ = made
    test = p.part("test")
    row = next(
        r for r in found["reliability"] if (r["name"], r["net"]) == ("amortized <b>", "remote")
    )
    estimated, right = test.estimates[0, 1].astype(float), test.correct[1]
    assert row["brier"] == pytest.approx(np.mean((estimated - right) ** 2), rel=1e-5)
    assert np.mean(row["observed"]) == pytest.approx(right.mean())  # bins of 25 each
    distance = np.mean(np.abs(np.subtract(row["estimated"], row["observed"])))
    assert row["calibration_error"] == pytest.approx(distance)


def test_the_page_is_whole_and_needs_nothing_else(made):
    text = made[2]
    html = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "iframe", "object"} & html.tags
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in html.links)
    assert "http" not in text
    assert "@import" not in text
    assert "nan" not in "".join(html.text)
    assert len(set(html.ids)) == len(html.ids)
    # Every clip path and marker that a figure uses is there, and so is every section linked to.
    used = re.findall(r"url\(#([^)]+)\)", text) + [x[1:] for x in html.links if x[0] == "#"]
    assert used
    assert set(used) <= set(html.ids)


def test_equal_numbers_give_equal_pages(made):
    p, found, text = made
    assert page(found, p) == text


def test_names_are_escaped(made):
    text = Page(made[2]).text
    assert "<script>" not in made[2]
    assert "amortized <b>" in "".join(text)
    assert text.count(EVIL) >= 2  # title and heading


def test_the_page_shows_what_the_json_holds(made):
    found, text = made[1], "".join(Page(made[2]).text)
    for sentence in found["headline"]:
        assert sentence in text
    for row in found["settings"][0]["rules"]:
        assert f"{row['risk']:.3f}" in text
        assert row["label"].replace(" = ", "\u00a0=\u00a0") in text
    for fact in found["facts"]:
        assert fact["value"] in text
    assert found["command"] in text


def test_pictures_on_the_page_are_those_of_the_file(made):
    p, found, _ = made
    sources = [x for x in Page(made[2]).links if x.startswith("data:")]
    assert len(sources) == len(found["pictures"]["shown"])
    for source, one in zip(sources, found["pictures"]["shown"], strict=True):
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
        np.testing.assert_array_equal(pixels, p.example_images[one["example"]].transpose(1, 2, 0))
    text = Page(made[2]).text
    for one in found["pictures"]["shown"]:
        for net in ("local", "remote"):
            sign = "✓" if one[f"{net}_quality"] else "✗"
            assert f"{sign} {net}: {one[net]}" in text
            assert (one[net] == one["class"]) == one[f"{net}_quality"]
