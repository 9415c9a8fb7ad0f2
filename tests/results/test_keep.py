"""What is kept of a run gives the same numbers."""

import json

import numpy as np
import pytest

import experiment
from deferral import npz_checks, predictions
from deferral.summary import summarise
from results import keep
from tests.made import quiet


def test_a_run_is_kept_with_its_numbers(trained, tmp_path):
    out = tmp_path / "kept"
    quiet(keep.main, trained, out)
    before = predictions.load(trained / "tiny-predictions.npz")
    after = predictions.load(out / "tiny-predictions.npz")
    assert keep.rounded(summarise(before)) == keep.rounded(summarise(after))
    np.testing.assert_array_equal(before.correct, after.correct)
    arrays = np.load(out / "tiny-predictions.npz")
    assert set(arrays) <= set(keep.NEEDED)
    assert sorted(path.name for path in out.iterdir()) == ["args.json", "tiny-predictions.npz"]
    assert str(tmp_path.parent) not in (out / "args.json").read_text()


def test_a_kept_file_names_no_folder_of_the_machine():
    inside = experiment.ROOT / "results" / "runs" / "a"
    found = keep.portable_json({"command": f"python -m x /far/run --out=/far/a.html {inside}"})
    assert found == {"command": "python -m x run --out=a.html results/runs/a"}
    assert keep.portable_json(["a / b", "1/2", "/far/run"]) == ["a / b", "1/2", "run"]


def test_rejectors_for_one_cost_may_be_left_out_and_change_no_other_rule(trained, tmp_path):
    out = tmp_path / "kept"
    quiet(keep.main, trained, out, "--without_rejectors")
    before, after = (predictions.load(p / "tiny-predictions.npz") for p in (trained, out))
    assert len(before.scores) > 0
    assert len(after.scores) == len(after.settings["rejectors"]) == 0
    assert keep.changed(before, after, rejectors=False) == []
    names = keep.changed(before, after)
    assert any(name.startswith("stage_switching at ") for name in names)
    assert not any(name.startswith("margin at ") for name in names)


def test_students_are_kept(trained, tmp_path):
    arrays = dict(np.load(trained / "tiny-predictions.npz"))
    settings = json.loads(str(arrays["settings"])) | {"students": ["small"], "inputs": {}}
    arrays |= {"student_logits": arrays["stage_logits"][:1], "settings": json.dumps(settings)}
    (tmp_path / "run").mkdir()
    np.savez(tmp_path / "run" / "tiny-predictions.npz", **arrays)
    quiet(keep.main, tmp_path / "run", tmp_path / "kept")
    kept = predictions.load(tmp_path / "kept" / "tiny-predictions.npz")
    np.testing.assert_array_equal(kept.student_logits, kept.stage_logits[:1])


def test_float16_is_not_used_where_it_changes_a_number(exit_file, tmp_path):
    """Logits that only float32 tells apart: the first exit's answers would all be class 0."""
    run = exit_file(close=True)
    quiet(keep.main, run, tmp_path / "kept")
    kept = np.load(tmp_path / "kept" / "x-predictions.npz")
    assert kept["stage_logits"].dtype == np.float32
    quiet(keep.main, exit_file(close=False), tmp_path / "short")
    assert np.load(tmp_path / "short" / "x-predictions.npz")["stage_logits"].dtype == np.float16


def test_nothing_is_kept_if_a_number_changes(exit_file, tmp_path, refused, monkeypatch):
    """As a number would that came from an array which is not kept."""
    monkeypatch.setattr(keep, "compact", lambda path, *_: without_a_row(path))
    refused(keep.main, exit_file(close=False), tmp_path / "kept", telling="printed digit")
    assert not list(tmp_path.glob("kept/*"))


def test_a_study_too_large_is_refused(exit_file, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(keep, "MEGABYTES", 1e-4)
    refused(keep.main, exit_file(close=False), tmp_path / "kept", telling="MB")
    assert not list(tmp_path.glob("kept/*"))


def test_the_size_includes_the_records(exit_file, tmp_path, refused, monkeypatch):
    run = exit_file(close=False)
    experiment.write_json(run / "args.json", {"note": 20_000 * "x"})
    monkeypatch.setattr(keep, "MEGABYTES", 0.015)
    refused(keep.main, run, tmp_path / "kept", telling="MB")
    assert not list(tmp_path.glob("kept/*"))


def test_kept_files_are_not_replaced(exit_file, tmp_path, refused):
    run = exit_file(close=False)
    quiet(keep.main, run, tmp_path / "kept")
    refused(keep.main, run, tmp_path / "kept", telling="exists")


def without_a_row(path):
    arrays = npz_checks.read_npz(path, keep.NEEDED)
    for name in ("labels", "split", "index"):
        arrays[name] = arrays[name][1:]
    return arrays | {k: arrays[k][:, 1:] for k in ("stage_logits", "scores")}


@pytest.fixture
def exit_file(tmp_path):
    """A folder with predictions of a network with two exits; close: of nearly equal logits."""

    def write(close):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 60)
        logits = rng.normal(0, 1, (2, 60, 3)) + 2 * np.eye(3)[labels]
        if close:
            logits[0] = 1000 + np.eye(3)[labels] / 100
        settings = {"dataset": "x", "classes": ["a", "b", "c"], "rejectors": []}
        experiment.write_npz(
            tmp_path / f"run-{close}" / "x-predictions.npz",
            labels=labels,
            stage_logits=logits.astype(np.float32),
            split=np.repeat([0, 1], 30),
            index=np.arange(60),
            scores=np.zeros((0, 60), np.float32),
            settings=np.array(json.dumps(settings | {"multiply_adds": [10, 20]})),
        )
        return tmp_path / f"run-{close}"

    return write


def test_result_files_are_kept_by_name_without_predictions(trained, tmp_path, refused):
    (tmp_path / "run" / "one").mkdir(parents=True)
    place = str(tmp_path / "weights.pth")
    (tmp_path / "run" / "one" / "a-eval.json").write_text(json.dumps({"area": 0.5, "from": place}))
    (tmp_path / "run" / "one" / "a-predictions.npz").write_bytes(b"")
    out = tmp_path / "kept"
    quiet(keep.main, tmp_path / "run", out, "--files", "*-eval.json", "args.json")
    (kept,) = (path for path in out.rglob("*") if path.is_file())
    assert kept == out / "one" / "a-eval.json"
    content = json.loads(kept.read_text())
    assert content["area"] == 0.5
    assert str(tmp_path) not in content["from"]
    again = (tmp_path / "run", out, "--files", "*-eval.json")
    refused(keep.main, *again, telling="a-eval.json: exists; delete it first")
    refused(keep.main, tmp_path / "run", out, "--files", "x.json", telling="holds no x.json")
