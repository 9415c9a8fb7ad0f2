"""Which files the report takes and which it refuses: several runs, external files, bad input."""

import csv

import numpy as np
import pytest

from deferral.predictions import load
from deferral.report import __main__ as report
from tests.deferral.reports import FEW, Page, change, read, run
from tests.figures.conftest import synthetic

pytestmark = pytest.mark.usefixtures("quick")


def test_runs_of_several_seeds(tmp_path):
    paths = [tmp_path / f"run-{seed}" / "cifar10-predictions.npz" for seed in (43, 44, 45)]
    for seed, path in zip((43, 44, 45), paths, strict=True):
        synthetic(path, cost_1=(1.25,), cost_e=(0.2, 0.4), async_freq=(1,), pictures=0, n=(90, 120))
        change(path, seed=seed)
    run(*(path.parent for path in paths), *FEW, "--seeds", 43, 45, "--out", tmp_path / "out")
    found, text = read(tmp_path / "out" / "cifar10-report.html")
    assert found["data"]["seeds"] == [43, 45]
    accuracies = [load(paths[i]).part("test").correct[0].mean() for i in (0, 2)]
    never = next(row for row in found["settings"][0]["rules"] if row["name"] == "never")
    assert never["accuracy"] == pytest.approx(np.mean(accuracies))
    assert never["accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1))
    classes = found["classes"]
    assert sum(row["total"] for row in classes["classes"]) == 2 * 120
    assert sum(row["sent"] for row in classes["classes"]) == np.sum(classes["confusion_sent"])
    assert np.sum(classes["confusion_kept"]) == 2 * 120 - np.sum(classes["confusion_sent"])
    assert found["pictures"] is None
    assert "pictures" not in Page(text).ids
    assert f"{never['risk']:.3f} ± {never['risk_std']:.3f}" in text


def test_a_rule_that_is_not_in_every_run_is_left_out(tmp_path, no_page):
    paths = [tmp_path / f"run-{seed}" / "cifar10-predictions.npz" for seed in (43, 44)]
    for seed, path in zip((43, 44), paths, strict=True):
        both = ("stage_switching", "cost_sensitive")
        synthetic(path, cost_1=(1.25,), cost_e=(0.2,), async_freq=(1,), n=(60, 80), surrogates=both)
        right = load(path).correct
        change(
            path,
            seed=seed,
            rejectors=[0] if seed == 43 else None,
            estimators=[("late", right)] if seed == 44 else (),
        )
    run(*paths, *FEW, "--out", tmp_path / "both.html")
    found, _ = read(tmp_path / "both.html")
    kept = {row["name"] for row in found["settings"][0]["rules"]}
    assert "stage_switching" in kept
    assert not {"cost_sensitive", "late"} & kept
    assert found["shown"] == "stage_switching"
    for rows in (found["curves"]["rules"], found["reliability"]):
        assert not {"cost_sensitive", "late"} & {row["name"] for row in rows}


def external(tmp_path):
    """The same answers as npz and as CSV; returns both paths."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 240)
    logits = rng.normal(size=(2, 240, 3)) + np.array([1, 2])[:, None, None] * np.eye(3)[labels]
    score, split = rng.normal(size=240), np.arange(240) % 3 > 0
    np.savez(
        tmp_path / "a.npz",
        labels=labels,
        local_scores=logits[0],
        remote_scores=logits[1],
        rejector_theirs=score,
        split=split.astype(int),
    )
    with open(tmp_path / "a.csv", "w", newline="") as f:
        writer = csv.writer(f)
        names = [f"{net}_{k}" for net in ("local", "remote") for k in range(3)]
        writer.writerow(["label", *names, "rejector_theirs", "split"])
        for n in range(240):
            values = [repr(float(x)) for x in [*logits[0, n], *logits[1, n], score[n]]]
            writer.writerow([labels[n], *values, int(split[n])])
    return tmp_path / "a.npz", tmp_path / "a.csv"


def test_an_external_npz_and_csv_give_the_same_numbers(tmp_path, no_page):
    found = []
    for path in external(tmp_path):
        out = tmp_path / f"{path.suffix[1:]}.html"
        run(path, *FEW, "--grid", "1:0", "1:0.2", "--rule", "theirs", "--out", out)
        found.append(read(out)[0])
    for one in found:
        del one["command"], one["data"]["files"], one["facts"], one["inputs"]
        del one["data"]["understood"], one["policy"]["file"]
    assert found[0] == found[1]
    rows = {row["name"]: row for row in found[0]["settings"][0]["rules"]}
    assert rows["theirs"]["about"] == "the file's rejector; sends iff its score is > 0"
    assert found[0]["shown"] == "theirs"
    # One rejector for all costs: it sends the same everywhere.
    theirs = next(row for row in found[0]["grid"]["rules"] if row["name"] == "theirs")
    assert theirs["about"] == rows["theirs"]["about"]
    assert theirs["reject_rate_at"] == [rows["theirs"]["reject_rate"]] * 2
    fitted = next(row for row in found[0]["grid"]["rules"] if row["name"] == "theirs, fitted")
    assert fitted["risk"] <= theirs["risk"] + 0.05


def test_answers_alone_and_many_classes(tmp_path):
    rng = np.random.default_rng(0)
    n, k = 300, 50
    labels = rng.integers(0, k, n)
    local = rng.normal(size=(n, k)) + 3 * np.eye(k)[labels]
    answer = np.where(rng.random(n) < 0.9, labels, 0)
    path = tmp_path / "big.npz"
    np.savez(path, labels=labels, local_logits=local, remote_prediction=answer)
    run(path, *FEW, "--grid", "1.25:0.2")
    found, text = read(tmp_path / "big-report.html")
    page = Page(text)
    assert "grid" not in page.ids  # one pair of costs is no grid
    assert found["shown"] == found["settings"][0]["best_confidence"]
    assert "random half" in "".join(page.text)
    assert len(found["classes"]["classes"]) == 50


def bad(refused, tmp_path, *argv, telling):
    before = sorted(tmp_path.rglob("*"))
    refused(report.main, *argv, telling=telling)
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "run" / "cifar10-predictions.npz"
    synthetic(path, cost_1=(1.25,), cost_e=(0.2,), async_freq=(1,), n=(60, 80), steps=2)
    return path


def test_bad_files(small, tmp_path, refused):
    bad(refused, tmp_path, tmp_path / "none.npz", telling="none.npz")
    (tmp_path / "folder").mkdir()
    bad(refused, tmp_path, tmp_path / "folder", telling="no predictions in")
    external = tmp_path / "x.npz"
    np.savez(external, labels=np.array([0, 1]))
    bad(refused, tmp_path, external, telling=f"{external}: has no model")
    for n, split in (((0, 50), "val"), ((50, 0), "test")):
        synthetic(small, n=n, pictures=0)
        bad(refused, tmp_path, small, telling=f"{small}: has no {split} rows")
    arrays = dict(np.load(small))
    np.savez(small, **arrays | {"stage_logits": arrays["stage_logits"][:1]})
    bad(refused, tmp_path, small, telling="needs 2 stages")
    small.write_bytes(small.read_bytes()[:-300])
    bad(refused, tmp_path, small, telling=str(small))


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--rule", "best"], "max_softmax, margin, entropy, post_hoc, stage_switching"),
        (["--rule", "oracle"], "--rule oracle: no such rule"),
        (["--seeds", 43, 50], "--seeds 50: no such run; the seeds are 43"),
        (["--cost_1", -1], "--cost_1: -1 must be finite, at least 0"),
        (["--cost_e", "nan"], "--cost_e: nan must be finite"),
        (["--costs", "1.25"], "'1.25' is not C1:CE"),
        (["--grid", "1:x"], "'x' is not a number"),
        (["--delta", 0], "--delta: 0 must be finite, above 0 and below 1"),
        (["--max_reject_rate", 1.5], "--max_reject_rate"),
        (["--cost", 1], "unrecognized arguments"),
    ],
)
def test_bad_flags(flags, telling, small, tmp_path, refused):
    bad(refused, tmp_path, small, "--draws", 9, *flags, telling=telling)


def test_runs_that_cannot_be_compared(small, tmp_path, refused):
    other = tmp_path / "other" / "cifar10-predictions.npz"
    synthetic(other, cost_1=(1.25,), cost_e=(0.2,), n=(60, 80), seed=1)
    bad(refused, tmp_path, small, small, telling="given twice")
    bad(refused, tmp_path, small, other, telling="differ in their seeds, but these are 43, 43")
    change(other, seed=44)
    bad(refused, tmp_path, small, other, telling=f"{small} and {other} are of different data")


@pytest.mark.parametrize("name", ["report.html", "report.json", "policy.json"])
def test_a_report_that_is_there_is_kept(name, small, tmp_path, refused):
    there = small.parent / f"cifar10-{name}"
    there.write_text("mine")
    bad(refused, tmp_path, small.parent, telling="--overwrite replaces it")
    assert there.read_text() == "mine"


def test_a_place_that_cannot_be_written(small, tmp_path, refused, no_page):
    (tmp_path / "file").write_text("")
    bad(refused, tmp_path, small, *FEW, "--out", tmp_path / "file" / "x.html", telling="cannot be")
