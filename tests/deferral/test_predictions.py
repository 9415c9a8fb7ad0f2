import json

import numpy as np
import pytest

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
    "loss_rejector .* R is 1 here and 2 in scores": _replace("loss_rejector", lambda x: x[:, 1:]),
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
