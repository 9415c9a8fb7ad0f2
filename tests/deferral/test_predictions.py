import json
import re

import numpy as np
import pytest

from deferral.predictions import find, load, tolerance

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
def with_estimates(arrays):
    """The same with two estimators of P(m right) and P(e right)."""
    estimates = np.random.default_rng(1).random((2, 2, 14)).astype(np.float32)
    described = [
        {"name": "amortized", "about": "on local features", "parameters": 10, "seconds": 0.5},
        {"name": "other", "about": "on pictures"},
    ]
    settings = json.loads(str(arrays["settings"])) | {"estimators": described}
    return arrays | {"estimates": estimates, "settings": np.array(json.dumps(settings))}


def test_estimates_are_loaded_and_parted(with_estimates, save):
    p = load(save(with_estimates))
    np.testing.assert_array_equal(p.estimates, with_estimates["estimates"])
    np.testing.assert_array_equal(p.part("val").estimates, p.estimates[:, :, :6])
    np.testing.assert_array_equal(p.part("test").estimates, p.estimates[:, :, 6:])
    without = {k: v for k, v in with_estimates.items() if k not in OPTIONAL}
    assert load(save(without)).part("test").estimates.shape == (2, 2, 8)


def test_estimates_may_be_absent_and_their_list_empty(arrays, save):
    assert load(save(arrays)).part("val").estimates is None
    _settings(estimators=[])(arrays)
    assert load(save(arrays)).estimates is None
    arrays["estimates"] = np.zeros((0, 2, 14), np.float32)
    assert load(save(arrays)).estimates.shape == (0, 2, 14)


@pytest.fixture
def with_progress(arrays):
    """The same, looked at three times while it was trained."""
    return arrays | {
        "progress_step": np.array([5, 10, 12]),
        "progress_seconds": np.array([0.5, 1.25, 1.5]),
        "progress_risk": np.ones((3, 2), np.float32),
        "progress_accuracy": np.ones((3, 2), np.float32),
        "progress_bytes": np.array([[10**10, 0]] * 3),
    }


def test_progress_is_loaded_and_kept_whole(with_progress, save):
    p = load(save(with_progress))
    for name in (n for n in with_progress if n.startswith("progress_")):
        for part in (p, p.part("val"), p.part("test")):
            np.testing.assert_array_equal(getattr(part, name), with_progress[name])


@pytest.mark.parametrize("name", ["step", "seconds", "risk", "accuracy", "bytes"])
def test_progress_goes_together(with_progress, save, name):
    del with_progress[f"progress_{name}"]
    with pytest.raises(ValueError, match=f"lacks progress_{name}, which go with the other"):
        load(save(with_progress))


def test_progress_of_other_rejectors(with_progress, save):
    with_progress["progress_bytes"] = np.zeros((3, 3), int)
    with pytest.raises(ValueError, match="L is 3 here and 2 in loss_rejector"):
        load(save(with_progress))


@pytest.mark.parametrize(
    ("text", "value"),
    [("adaptive-0", 0), ("adaptive-0.05", 0.05), ("adaptive-1e-05", 1e-5), ("adaptive-1", 1)]
    + [
        (x, None)
        for x in ("adaptive-1.1", "adaptive--0.1", "adaptive-nan", "adaptive-", "adaptive")
    ]
    + [(x, None) for x in ("joint", 0, 1, None, 0.5, "0.5", "often-0.5")],
)
def test_tolerance_of_an_adaptive_setting(text, value, arrays, save):
    assert tolerance(text) == value
    _setting(async_freq=text)(arrays)
    if value is not None or text in ("joint", 0, 1):
        assert load(save(arrays)).settings["rejectors"][1]["async_freq"] == text
    else:
        with pytest.raises(ValueError, match="async_freq"):
            load(save(arrays))


@pytest.mark.parametrize(("split", "value"), [("val", 1), ("test", 0)])
def test_part_without_rows_names_the_file(arrays, save, split, value):
    arrays["split"][:] = value
    for name in OPTIONAL[:2]:
        del arrays[name]
    path = save(arrays)
    with pytest.raises(ValueError, match=f"{path}: has no {split} rows"):
        load(path).part(split)


def test_part_of_no_such_split(arrays, save):
    with pytest.raises(ValueError, match="train"):
        load(save(arrays)).part("train")


def _replace(name, change):
    return lambda a: a.__setitem__(name, change(a[name]))


def _at(value, *where):
    def change(array):
        array = array.copy()
        array[where] = value
        return array

    return change


def _settings(**new):
    return _replace("settings", lambda text: np.array(json.dumps(json.loads(str(text)) | new)))


def _setting(**new):
    def change(text):
        settings = json.loads(str(text))
        settings["rejectors"][1] |= new
        return np.array(json.dumps(settings))

    return _replace("settings", change)


SPOILT = {
    "lacks labels, scores": lambda a: (a.pop("labels"), a.pop("scores")),
    "lacks example_images": lambda a: a.pop("example_images"),
    "lacks loss_edge, loss_rejector": lambda a: (a.pop("loss_edge"), a.pop("loss_rejector")),
    "scores .* N is 13 here and 14 in labels": _replace("scores", lambda x: x[:, 1:]),
    "stage_logits .* must be .E, N, K.": _replace("stage_logits", lambda x: x[0]),
    "labels is float64": _replace("labels", lambda x: x.astype(float)),
    "example_images is float32": _replace("example_images", lambda x: x.astype(np.float32)),
    "losses or progress of 4 rejectors, but scores of 2": _replace(
        "loss_rejector", lambda x: np.tile(x, 2)
    ),
    "holds no predictions": _replace("stage_logits", lambda x: x[:0]),
    "stage_logits holds values that are not finite": _replace("stage_logits", _at(np.nan, 1, 2, 0)),
    "scores holds values that are not finite": _replace("scores", _at(np.inf, 0, 3)),
    "labels holds values outside 0..2": _replace("labels", _at(3, 5)),
    "labels holds values outside": _replace("labels", _at(-1, 5)),
    "split holds values outside 0..1": _replace("split", _at(2, 5)),
    "example_index holds values outside 0..13": _replace("example_index", _at(14, 0)),
    "example_index holds rows that are not test": _replace("example_index", _at(0, 0)),
    "settings are not JSON": _replace("settings", lambda x: np.array("{")),
    "settings do not name a dataset": _replace("settings", lambda x: np.array("[]")),
    "settings hold 1 rejectors, but the arrays hold 2": _settings(rejectors=[{}]),
    "settings hold no list of rejectors": _settings(rejectors=None),
    "settings hold 2 classes, but the arrays hold 3": _settings(classes=["a", "b"]),
    "settings of rejector 1 need": _setting(cost_1="high"),
    "rejector 1 need .* cost_e >= 0": _setting(cost_e=-0.5),
    "need .* async_freq": _setting(async_freq="never"),
    "need .* surrogate": _setting(surrogate=None),
}


@pytest.mark.parametrize("message", SPOILT)
def test_load_says_what_is_wrong_in_one_line(arrays, save, message):
    SPOILT[message](arrays)
    path = save(arrays)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as e:
        load(path)
    assert "\n" not in str(e.value)


def _estimator(number, **new):
    def change(text):
        settings = json.loads(str(text))
        settings["estimators"][number] |= new
        return np.array(json.dumps(settings))

    return _replace("settings", change)


SPOILT_ESTIMATES = {
    "estimates holds values outside 0..1": _replace("estimates", _at(1.01, 0, 1, 3)),
    "estimates holds values outside 0..1 ?$": _replace("estimates", _at(-0.01, 1, 0, 13)),
    "estimates holds values that are not finite": _replace("estimates", _at(np.nan, 0, 0, 0)),
    "estimates is float32 .2, 1, 14., but must be .A, 2, N.": _replace(
        "estimates", lambda x: x[:, :1]
    ),
    "estimates is float32 .2, 14., but must be .A, 2, N.": _replace("estimates", lambda x: x[0]),
    "estimates is int64": _replace("estimates", lambda x: x.astype(int)),
    "estimates .* N is 13 here and 14 in labels": _replace("estimates", lambda x: x[..., 1:]),
    "settings hold 2 estimators, but the arrays hold 1": _replace("estimates", lambda x: x[:1]),
    "settings hold 2 estimators, but the arrays hold 0": lambda a: a.pop("estimates"),
    "settings hold no list of estimators, but the arrays hold 2": _settings(estimators=None),
    "settings hold no list of estimators": _settings(estimators="two"),
    "settings of estimator 1 need name and about": _estimator(1, name=None),
    "settings of estimator 0 need name and about": _estimator(0, about=""),
    "settings name an estimator twice: amortized, amortized": _estimator(1, name="amortized"),
    "settings hold parameters 1.5: not a whole number": _estimator(1, parameters=1.5),
    "settings hold multiply_adds -1: not a whole number": _estimator(1, multiply_adds=-1),
    "settings hold parameters 'few': not a whole number": _setting(parameters="few"),
    "settings hold bytes_sent -1: not a whole number": _setting(bytes_sent=-1),
    "settings hold refreshes 0.5: not a whole number": _setting(refreshes=0.5),
}


@pytest.mark.parametrize("message", SPOILT_ESTIMATES)
def test_load_says_what_is_wrong_with_estimates(with_estimates, save, message):
    SPOILT_ESTIMATES[message](with_estimates)
    path = save(with_estimates)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as e:
        load(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 and then nothing"])
def test_load_of_what_is_not_npz(tmp_path, content):
    path = tmp_path / "x-predictions.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path}: cannot be read"):
        load(path)


def test_load_of_one_plain_array(tmp_path):
    with open(tmp_path / "x.npz", "wb") as f:
        np.save(f, np.zeros(3))
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path / "x.npz")


def test_load_does_not_unpickle(arrays, save):
    arrays["labels"] = arrays["labels"].astype(object)
    with pytest.raises(ValueError, match="plain arrays"):
        load(save(arrays))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_load_of_a_truncated_file(arrays, save, keep):
    path = save(arrays)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=f"^{path}: cannot be read"):
        load(path)


def test_load_of_a_damaged_file(arrays, save):
    path = save(arrays)
    content = bytearray(path.read_bytes())
    at = content.index(arrays["stage_logits"].tobytes())
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        load(path)


def test_load_of_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.npz")


def test_find_is_recursive_and_sorted(tmp_path):
    names = ["b-predictions.npz", "a/x-predictions.npz", "a/b/x-predictions.npz", "a/other.npz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find(tmp_path) == sorted(tmp_path / name for name in names[:3])


def test_find_without_predictions(tmp_path):
    with pytest.raises(ValueError, match=f"no predictions in {tmp_path}; run eval_all.py first"):
        find(tmp_path)


def test_costs_of_exits_are_read(arrays, save):
    for settings in (
        {"multiply_adds": [10, 20]},
        {"multiply_adds": [10], "cost_flops": 1e-9},
        {"cost_flops": 0},
    ):
        _settings(**settings)(arrays)
        assert settings.items() <= load(save(arrays)).settings.items()


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"multiply_adds": 10}, "multiply_adds that are not whole numbers that never fall"),
        ({"multiply_adds": [10, 2.5]}, "not whole numbers"),
        ({"multiply_adds": [20, 10]}, "never fall"),
        ({"multiply_adds": [1, 2, 3]}, "multiply_adds of 3 exits, but the arrays hold 2 stages"),
        ({"multiply_adds": []}, "multiply_adds of 0 exits"),
        ({"cost_flops": -1e-9}, "cost_flops -1e-09: not a number >= 0"),
        ({"cost_flops": "1e-9"}, "cost_flops '1e-9'"),
        ({"cost_flops": float("nan")}, "cost_flops nan"),
    ],
)
def test_costs_of_exits_that_are_none(settings, telling, arrays, save):
    _settings(**settings)(arrays)
    with pytest.raises(ValueError, match=re.escape(telling)):
        load(save(arrays))
