import json

import numpy as np
import pytest

from deferral.npz_checks import tolerance
from deferral.predictions import find, load

OPTIONAL = ("example_index", "example_images", "loss_step", "loss_edge", "loss_rejector")


def test_load_returns_what_was_saved(arrays, save):
    p = load(save(arrays))
    for name, value in arrays.items():
        if name != "settings":
            np.testing.assert_array_equal(getattr(p, name), value)
    assert p.settings == json.loads(str(arrays["settings"]))
    assert p.labels.dtype == p.split.dtype == np.int64
    assert p.example_images.dtype == np.uint8


def test_correct_is_the_argmax(arrays, save):
    p = load(save(arrays))
    for e in range(2):
        for n, label in enumerate(p.labels):
            row = list(p.stage_logits[e, n])
            assert p.correct[e, n] == (row.index(max(row)) == label)


def test_optional_arrays_may_be_absent(arrays, save):
    p = load(save({k: v for k, v in arrays.items() if k not in OPTIONAL}))
    assert p.example_index is None
    assert p.loss_rejector is None
    assert p.part("test").example_images is None


def test_an_edge_only_run_has_no_rejectors(arrays, save):
    settings = json.loads(str(arrays["settings"])) | {"rejectors": []}
    arrays |= {"scores": np.zeros((0, 14), np.float32), "settings": json.dumps(settings)}
    arrays["loss_rejector"] = np.zeros((2, 0), np.float32)
    assert load(save(arrays)).scores.shape == (0, 14)


def test_part_keeps_rows_and_their_pictures(arrays, save):
    p = load(save(arrays))
    test = p.part("test")
    np.testing.assert_array_equal(test.index, p.index[6:])
    np.testing.assert_array_equal(test.correct, p.correct[:, 6:])
    np.testing.assert_array_equal(test.scores, p.scores[:, 6:])
    np.testing.assert_array_equal(test.index[test.example_index], p.index[p.example_index])
    np.testing.assert_array_equal(test.example_images, p.example_images)
    val = p.part("val")
    assert len(val.labels) == 6
    assert len(val.example_index) == len(val.example_images) == 0


@pytest.fixture
def full(arrays):
    """The same with two estimators, and with val measured three times while training."""
    described = [
        {"name": "amortized", "about": "on local features", "parameters": 10, "seconds": 0.5},
        {"name": "other", "about": "on pictures"},
    ]
    settings = json.loads(str(arrays["settings"]))
    settings |= {"estimators": described, "students": ["other"]}
    return arrays | {
        "settings": np.array(json.dumps(settings)),
        "estimates": np.random.default_rng(1).random((2, 2, 14)).astype(np.float32),
        "student_logits": np.random.default_rng(2).normal(size=(1, 14, 3)).astype(np.float32),
        "progress_step": np.array([5, 10, 12]),
        "progress_seconds": np.array([0.5, 1.25, 1.5]),
        "progress_risk": np.ones((3, 2), np.float32),
        "progress_accuracy": np.ones((3, 2), np.float32),
        "progress_bytes": np.array([[10**10, 0]] * 3),
    }


def test_estimates_are_split_and_groups_are_whole(full, save):
    p = load(save(full))
    np.testing.assert_array_equal(p.estimates, full["estimates"])
    np.testing.assert_array_equal(p.part("val").estimates, p.estimates[:, :, :6])
    np.testing.assert_array_equal(p.part("test").estimates, p.estimates[:, :, 6:])
    np.testing.assert_array_equal(p.part("test").student_logits, full["student_logits"][:, 6:])
    for part in (p, p.part("val")):
        for name in ("step", "seconds", "risk", "accuracy", "bytes"):
            np.testing.assert_array_equal(getattr(part.progress, name), full[f"progress_{name}"])
        np.testing.assert_array_equal(part.losses.rejector, full["loss_rejector"])
    assert p.part("val").examples is None
    np.testing.assert_array_equal(p.examples.rows, full["example_index"])


def test_empty_groups_are_none(arrays, save):
    for name in ("loss_step", "loss_edge", "loss_rejector"):
        arrays[name] = arrays[name][:0]
    settings(estimators=[])(arrays)
    p = load(save(arrays))
    assert p.losses is p.progress is p.estimates is None
    arrays["estimates"] = np.zeros((0, 2, 14), np.float32)
    assert load(save(arrays)).estimates.shape == (0, 2, 14)


@pytest.mark.parametrize(
    ("async_freq", "share"),
    [("adaptive-0", 0), ("adaptive-1e-05", 1e-5), ("adaptive-1", 1), ("joint", None), (0, None)]
    + [(x, "bad") for x in ("adaptive-1.1", "adaptive--0.1", "adaptive-nan", "adaptive", None, 0.5)]
    + [(x, "bad") for x in ("0.5", "often-0.5", "never")],
)
def test_async_freq_of_a_setting(async_freq, share, arrays, save):
    rejector(async_freq=async_freq)(arrays)
    assert tolerance(async_freq) == (None if share == "bad" else share)
    if share != "bad":
        assert load(save(arrays)).settings["rejectors"][1]["async_freq"] == async_freq
        return
    with pytest.raises(ValueError, match="async_freq"):
        load(save(arrays))


def test_rows_of_a_split_that_are_missing(arrays, save):
    path = save({k: v for k, v in arrays.items() if k not in OPTIONAL})
    p = load(path)
    with pytest.raises(ValueError, match="train"):
        p.part("train")
    for split, value in (("val", 1), ("test", 0)):
        p.split[:] = value
        with pytest.raises(ValueError, match=f"{path}: has no {split} rows"):
            p.part(split)


def without(*names):
    return lambda arrays: [arrays.pop(name) for name in names]


def replaced(name, change):
    return lambda arrays: arrays.__setitem__(name, change(arrays[name]))


def at(name, value, *where):
    """`value` in one place of a copy."""
    return lambda arrays: (
        arrays.__setitem__(name, arrays[name].copy()) or arrays[name].__setitem__(where, value)
    )


def settings(**new):
    return replaced("settings", lambda text: np.array(json.dumps(json.loads(str(text)) | new)))


def rejector(kind="rejectors", number=1, **new):
    def change(text):
        changed = json.loads(str(text))
        changed[kind][number] |= new
        return np.array(json.dumps(changed))

    return replaced("settings", change)


def estimator(number, **new):
    return rejector("estimators", number, **new)


SPOILT = {
    "lacks labels, scores": without("labels", "scores"),
    "lacks example_images": without("example_images"),
    "lacks loss_edge, loss_rejector": without("loss_edge", "loss_rejector"),
    "lacks progress_bytes, which go with": without("progress_bytes"),
    "scores .* N is 13 here and 14 in labels": replaced("scores", lambda x: x[:, 1:]),
    "stage_logits .* must be .E, N, K.": replaced("stage_logits", lambda x: x[0]),
    "labels is float64": replaced("labels", lambda x: x.astype(float)),
    "example_images is float32": replaced("example_images", lambda x: x.astype(np.float32)),
    "progress_bytes .* L is 3 here and 2": replaced("progress_bytes", lambda x: x[:, [0, 0, 1]]),
    "holds no predictions": replaced("stage_logits", lambda x: x[:0]),
    "stage_logits holds values that are not finite": at("stage_logits", np.nan, 1, 2, 0),
    "labels holds values outside 0..2": at("labels", 3, 5),
    "split holds values outside 0..1": at("split", 2, 5),
    "example_index holds values outside 0..13": at("example_index", 14, 0),
    "example_index holds rows that are not test": at("example_index", 0, 0),
    "estimates holds values outside 0..1": at("estimates", 1.01, 0, 1, 3),
    "estimates is float32 .2, 1, 14., but must be": replaced("estimates", lambda x: x[:, :1]),
    "settings are not JSON": replaced("settings", lambda x: np.array("{")),
    "settings do not name a dataset": replaced("settings", lambda x: np.array("[]")),
    "settings hold 1 rejectors, but the arrays hold 2": settings(rejectors=[{}]),
    "settings hold no list of rejectors": settings(rejectors=None),
    "settings hold 2 classes, but the arrays hold 3": settings(classes=["a", "b"]),
    "settings of rejector 1 need": rejector(cost_1="high"),
    "rejector 1 need .* cost_e >= 0": rejector(cost_e=-0.5),
    "need .* surrogate": rejector(surrogate=None),
    "settings hold 2 estimators, but the arrays hold 0": without("estimates"),
    "settings hold no list of estimators": settings(estimators="two"),
    "settings of estimator 1 need name and about": estimator(1, name=None),
    "settings name an estimator twice: amortized, amortized": estimator(1, name="amortized"),
    "student_logits .* K is 2 here and 3": replaced("student_logits", lambda x: x[..., 1:]),
    "settings must name each of the 1 students": settings(students=[]),
    "settings hold parameters 1.5: not a whole number": estimator(1, parameters=1.5),
    "settings hold bytes_sent -1: not a whole number": rejector(bytes_sent=-1),
    "multiply_adds that are not whole numbers": settings(multiply_adds=[10, 2.5]),
    "not whole numbers that never fall": settings(multiply_adds=[20, 10]),
    "multiply_adds of 3 exits, but the arrays hold 2": settings(multiply_adds=[1, 2, 3]),
    "cost_flops -1e-09: not a number >= 0": settings(cost_flops=-1e-9),
    "cost_flops nan": settings(cost_flops=float("nan")),
    "cannot be read: .* plain arrays": replaced("labels", lambda x: x.astype(object)),
}


@pytest.mark.parametrize("message", SPOILT)
def test_load_names_the_file_and_the_fault_in_one_line(full, save, message):
    SPOILT[message](full)
    path = save(full)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as e:
        load(path)
    assert "\n" not in str(e.value)


def test_load_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.npz")


def test_find_is_recursive_and_sorted(tmp_path):
    names = ["b-predictions.npz", "a/x-predictions.npz", "a/b/x-predictions.npz", "a/other.npz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find(tmp_path) == sorted(tmp_path / name for name in names[:3])
    for folder in (tmp_path / "a" / "c", tmp_path / "none"):
        with pytest.raises(ValueError, match=f"no predictions in {folder}; eval_all.py"):
            find(folder)
