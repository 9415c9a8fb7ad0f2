"""The report on a device with exits and a server: numbers, words, and what is left out."""

import json

import numpy as np
import pytest

from deferral import rules, stages
from deferral.predictions import load
from deferral.report import __main__ as report
from deferral.risk import costs, risk
from tests.deferral.reports import Page, read, run
from tests.deferral.test_decide import EXITS, PAIRS, TEST, VAL, make

pytestmark = pytest.mark.usefixtures("quick")

MAIN, DEVICE = PAIRS[0], [0.02, 0.05, 0.1]
FLAGS = ["--draws", 30, "--cost_1", MAIN[0], "--cost_e", MAIN[1]]


def write(folder, run=0, **changes):
    """A file of `make` as it is saved; returns its path."""
    made = make(run)
    settings = {"dataset": "tiny", "classes": list("abcd"), "seed": run, "local": "toy, 3 exits"}
    settings |= made.settings | changes
    rows = VAL + np.arange(0, TEST, 30)
    path = folder / f"run-{run}" / "tiny-predictions.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        labels=made.labels,
        stage_logits=made.stage_logits,
        split=made.split,
        index=made.index,
        scores=made.scores,
        estimates=made.estimates,
        settings=json.dumps(settings),
        example_index=rows,
        example_images=np.zeros((len(rows), 1, 4, 4), np.uint8),
    )
    return path


@pytest.fixture(scope="module")
def made(quick, tmp_path_factory):
    """(runs, JSON, page) of two seeds."""
    folder = tmp_path_factory.mktemp("exits")
    paths = [write(folder, run) for run in (0, 1)]
    grid = ["--grid", *(f"{c1}:{ce}" for c1, ce in PAIRS), "--max_risk", 0.6]
    run(*paths, *FLAGS, *grid, "--out", folder / "page.html")
    return [load(path) for path in paths], *read(folder / "page.html")


def stops(one, name):
    """Where a rule stops the test samples of a run, found slowly; [N] in 0..3."""
    val, test = one.part("val"), one.part("test")
    alone = {"exit 1": 0, "exit 2": 1, "never": 2, "always": 3}
    if name in alone:
        return np.full(TEST, alone[name])
    doubts = [rules.max_softmax_doubt(part.stage_logits[:EXITS]) for part in (val, test)]
    if name == "max_softmax":
        t = stages.fit_thresholds(doubts[0], val.correct, *costs(*MAIN, DEVICE))
        return np.array([next((k for k in range(3) if row[k] <= t[k]), 3) for row in doubts[1].T])
    asked = val.scores[0] > 0, test.scores[0] > 0
    t = stages.fit_thresholds(doubts[0][:2], val.correct, *costs(*MAIN, DEVICE), asked[0])
    return np.array(
        [
            next((k for k in range(2) if row[k] <= t[k]), 2 + ask)
            for row, ask in zip(doubts[1].T, asked[1], strict=True)
        ]
    )


def test_numbers_are_those_of_a_slow_loop(made):
    runs, found, _ = made
    exits = {row["name"]: row for row in found["exits"]["rules"]}
    rows = {row["name"]: row for row in found["settings"][0]["rules"]}
    assert list(exits) == list(rows)
    adds = np.array([20, 50, 100, 100])
    for name in ("exit 1", "exit 2", "never", "always", "max_softmax", "stage_switching"):
        where = [stops(one, name) for one in runs]
        paid = [
            risk(one.part("test").correct, stop, *costs(*MAIN, DEVICE))
            for one, stop in zip(runs, where, strict=True)
        ]
        assert rows[name]["risk"] == pytest.approx(np.mean(paid), abs=1e-6), name
        assert rows[name]["reject_rate"] == pytest.approx(np.mean([s == 3 for s in where]))
        row = exits[name]
        for k in range(EXITS):
            assert row["shares"][k] == pytest.approx(np.mean([s == k for s in where]))
        assert row["sent"] == pytest.approx(rows[name]["reject_rate"])
        assert row["multiply_adds"] == pytest.approx(np.mean([adds[s] for s in where]))
    for k, row in enumerate(found["exits"]["stages"]):
        right = [one.part("test").correct[k].mean() for one in runs]
        assert row["accuracy"] == pytest.approx(np.mean(right))
        assert row["accuracy_std"] == pytest.approx(np.std(right, ddof=1))
        assert row["cost"] == pytest.approx([*DEVICE, 0.3][k])
    assert [row["exit"] for row in found["exits"]["stages"]] == [1, 2, 3, None]


def test_classes_pictures_and_curves_are_of_the_exits_that_answer(made):
    runs, found, _ = made
    assert found["shown"] == "amortized"
    shares = {row["name"]: row for row in found["exits"]["rules"]}["amortized"]
    kept = np.sum(found["classes"]["confusion_kept"])
    assert kept == pytest.approx(2 * TEST * sum(shares["shares"]))
    shown = {row["name"]: row for row in found["settings"][0]["rules"]}["amortized"]
    right = np.trace(found["classes"]["confusion_kept"]) + np.trace(
        found["classes"]["confusion_sent"]
    )
    assert right / (2 * TEST) == pytest.approx(shown["accuracy"])
    mean = np.average(
        [row["risk"] for row in found["classes"]["classes"]],
        weights=[row["total"] for row in found["classes"]["classes"]],
    )
    assert mean == pytest.approx(shown["risk"])
    test = runs[0].part("test")
    for one in found["pictures"]["shown"]:
        answer = test.stage_logits[one["exit"] - 1, test.example_index[one["example"]]].argmax()
        assert one["local"] == "abcd"[answer]
    curves = {row["name"]: row for row in found["curves"]["rules"]}
    assert not {"random", "oracle", "exits only"} & set(curves)
    assert "aurc" not in curves["optimum"]
    server = np.mean([one.part("test").correct[-1].mean() for one in runs])
    assert curves["optimum"]["accuracy"][-1] == pytest.approx(server)
    for at in found["rate_promises"]["at"]:
        assert at["simulated"]["rules"]["guaranteed"]["exceeds"] < 0.15  # 0.05 promised


def test_the_page_speaks_of_exits_and_a_server(made):
    _, found, html = made
    whole = Page(html)
    text = " ".join("".join(whole.text).split())
    for word in ("local net", "remote", "post-hoc", "AURC, local", "nan"):
        assert word not in text, word
    for sentence in found["headline"]:
        assert " ".join(sentence.split()) in text
    assert "A multiply-add of the device costs 0.001 local errors" in text
    assert "exits" in whole.ids


def test_a_price_of_multiply_adds_takes_the_place_of_the_files(tmp_path):
    path = write(tmp_path)
    for flops in (None, 0.0, 0.002):
        (one,) = report.read_runs([path], None, None, flops)
        wanted = np.array([20, 50, 100]) * (1e-3 if flops is None else flops)
        np.testing.assert_allclose(stages.device_costs(one), wanted)
    args = report.parse_args([str(path), "--cost_flops", "2e-9"])
    assert args.cost_flops == 2e-9


def test_bad_files_and_flags(tmp_path, refused):
    path = write(tmp_path)
    arrays = dict(np.load(path))
    bare = tmp_path / "exits.npz"
    settings = json.loads(str(arrays["settings"]))
    del settings["multiply_adds"]
    np.savez(bare, **arrays | {"settings": json.dumps(settings)})
    refused(report.main, bare, *FLAGS, telling="needs 2 stages, local and edge, or multiply_adds")
    refused(report.main, bare, "--cost_flops", 1, telling="does not say what its device computes")
    refused(report.main, path, *FLAGS, "--rule", "exits only", telling="no such rule")
    other = write(tmp_path, 1, multiply_adds=[20, 50, 101])
    refused(report.main, path, other, *FLAGS, telling="exits differ in multiply_adds")
