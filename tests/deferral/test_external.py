"""Files that this project did not write: what they become, and how bad ones are refused."""

import csv

import numpy as np
import pytest

from deferral.compare import decide
from deferral.external import is_native, load
from deferral.predictions import load as load_ours

COSTS = [(1.25, 0.25), (1.0, 0.1)]
N, K = 40, 3


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def external():
    """Arrays of an external npz with everything in it."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, K, N)
    logits = rng.normal(size=(2, N, K)) + 2 * np.eye(K)[labels]
    return {
        "labels": labels,
        "local_scores": softmax(logits[0]),
        "remote_scores": logits[1],
        "rejector": rng.normal(size=(2, N)),
        "rejector_names": np.array(["mine", "yours"]),
        "split": np.arange(N) % 2,
        "images": rng.integers(0, 256, (N, 5, 4, 3), dtype=np.uint8),
        "classes": np.array(["a", "b", "c"]),
    }


@pytest.fixture
def save(tmp_path):
    def write(arrays):
        np.savez(tmp_path / "theirs-predictions.npz", **arrays)
        return tmp_path / "theirs-predictions.npz"

    return write


def write_csv(path, arrays):
    """The same numbers as an npz of scores, as text that gives the same floats back."""
    columns = {"label": arrays["labels"]}
    for net in ("local", "remote"):
        for k in range(K):
            columns[f"{net}_{k}"] = [repr(float(x)) for x in arrays[f"{net}_scores"][:, k]]
    for name, score in zip(arrays["rejector_names"], arrays["rejector"], strict=True):
        columns[f"rejector_{name}"] = [repr(float(x)) for x in score]
    columns["split"] = [("val", "test")[i] for i in arrays["split"]]
    with open(path, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_all_that_is_in_a_file_is_read(external, save):
    p = load(save(external), COSTS)
    np.testing.assert_array_equal(p.labels, external["labels"])
    np.testing.assert_array_equal(p.split, external["split"])
    np.testing.assert_allclose(softmax(p.stage_logits[0]), external["local_scores"], rtol=1e-12)
    np.testing.assert_array_equal(p.stage_logits[1], external["remote_scores"])
    assert p.settings["dataset"] == "theirs"
    assert p.settings["classes"] == ["a", "b", "c"]
    assert p.settings["local_scores"] == "probabilities"
    assert p.settings["remote_scores"] == "logits"
    assert p.settings["split"] == "as in the file"


def test_a_rejector_stands_for_every_cost(external, save):
    p = load(save(external), COSTS)
    test = p.split == 1
    for cost in COSTS:
        decided = decide(p, *cost)
        for r, name in enumerate(["mine", "yours"]):
            np.testing.assert_array_equal(decided[name].stop, external["rejector"][r, test] > 0)
    assert not any(d.rule.kind == "rejector" for d in decide(p, 1.0, 0.2).values())


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW"])
def test_pictures_are_of_test_rows_channels_first(external, save, layout):
    images = external["images"]
    if layout == "NCHW":
        external["images"] = images.transpose(0, 3, 1, 2)
    elif layout == "NHW":
        external["images"] = images[..., 0]
    p = load(save(external), COSTS)
    assert (p.split[p.example_index] == 1).all()
    assert len(p.example_index) == N // 2
    for row, picture in zip(p.example_index, p.example_images, strict=True):
        wanted = images[row].transpose(2, 0, 1)
        np.testing.assert_array_equal(picture, wanted[:1] if layout == "NHW" else wanted)


def test_without_a_split_a_seeded_half_is_val(external, save):
    del external["split"]
    path = save(external)
    first, again, other = (load(path, COSTS, split_seed=s) for s in (0, 0, 1))
    assert (first.split == 0).sum() == N // 2
    np.testing.assert_array_equal(first.split, again.split)
    assert (first.split != other.split).any()
    assert "random half" in first.settings["split"]


def test_answers_alone_are_enough_for_the_remote_net(external, save):
    answers = external.pop("remote_scores").argmax(-1)
    p = load(save(external | {"remote_prediction": answers}), COSTS)
    np.testing.assert_array_equal(p.stage_logits[1].argmax(-1), answers)
    np.testing.assert_array_equal(p.correct[1], answers == external["labels"])
    assert p.settings["remote_scores"] == "answers alone"


@pytest.mark.parametrize(
    ("change", "form"),
    [
        (lambda p: p, "probabilities"),
        (lambda p: np.round(p, 3), "probabilities"),
        (lambda p: p.astype(np.float32), "probabilities"),
        (lambda p: np.eye(K)[p.argmax(1)], "probabilities"),
        (lambda p: 1.06 * p, "logits"),
        (lambda p: p - p[:, :1] * [2, -2, 0], "logits"),
    ],
)
def test_what_counts_as_probabilities(external, save, change, form):
    external["local_scores"] = change(external["local_scores"])
    p = load(save(external), COSTS)
    assert p.settings["local_scores"] == form
    assert np.isfinite(p.stage_logits).all()
    np.testing.assert_array_equal(p.stage_logits[0].argmax(1), external["local_scores"].argmax(1))


def test_logits_are_never_taken_for_probabilities(external, save):
    external["local_logits"] = external.pop("local_scores")
    p = load(save(external), COSTS)
    np.testing.assert_array_equal(p.stage_logits[0], external["local_logits"])


def test_a_csv_is_the_same_as_its_npz(external, save, tmp_path):
    del external["images"], external["classes"]
    a = load(save(external), COSTS)
    b = load(write_csv(tmp_path / "theirs.csv", external), COSTS)
    for name in ("labels", "stage_logits", "split", "index", "scores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.settings == b.settings


def test_whose_file_it_is(external, save, arrays, tmp_path):
    assert not is_native(save(external))
    assert not is_native(tmp_path / "any.csv")
    np.savez(tmp_path / "ours.npz", **arrays)
    assert is_native(tmp_path / "ours.npz")
    load_ours(tmp_path / "ours.npz")


def _set(name, value):
    return lambda a: a.__setitem__(name, value)


def _at(name, value, *where):
    def change(a):
        a[name] = a[name].astype(float)
        a[name][where] = value

    return change


SPOILT = {
    "lacks labels": lambda a: a.pop("labels"),
    "lacks local_logits, local_scores": lambda a: a.pop("local_scores"),
    "lacks remote_logits, .* or remote_prediction": lambda a: a.pop("remote_scores"),
    "holds local_logits and local_scores": _set("local_logits", np.zeros((N, K))),
    "holds remote_prediction and remote scores": _set("remote_prediction", np.zeros(N, int)),
    r"labels must be .* 0..2, but row 4 .* is 3": _at("labels", 3, 4),
    r"labels must be .* but row 4 .* is 0.5": _at("labels", 0.5, 4),
    "labels has 39 rows, the local scores have 40": _set("labels", np.zeros(39, int)),
    "local_scores holds values that are not finite": _at("local_scores", np.nan, 3, 1),
    r"local_scores look like probabilities, but row 0 .* sums to 1.01": lambda a: a.__setitem__(
        "local_scores", 1.01 * a["local_scores"]
    ),
    r"local_scores is .* but must be numbers \[N, K\]": _set("local_scores", np.zeros(N)),
    r"remote scores \(40, 4\) must be as local ones, \(40, 3\)": _set(
        "remote_scores", np.zeros((N, 4))
    ),
    "split holds '2'": _at("split", 2, 0),
    "split is .* but must be .40. of 0 and 1": _set("split", np.zeros(5, int)),
    "has no val rows": _set("split", np.ones(N, int)),
    "rejector .* must be .40. or .R, 40.": _set("rejector", np.zeros((2, 39))),
    "rejector holds values that are not finite": _at("rejector", np.nan, 0, 0),
    "rejector_names are .* 2 different names": _set("rejector_names", np.array(["a", "a"])),
    "classes are 2, but the scores have 3": _set("classes", np.array(["a", "b"])),
    "images are float64": _set("images", np.zeros((N, 3, 4, 4))),
    "images are uint8 .40, 2": _set("images", np.zeros((N, 2, 4, 4), np.uint8)),
}


@pytest.mark.parametrize("message", SPOILT)
def test_bad_arrays_are_named_in_one_line(external, save, message):
    SPOILT[message](external)
    path = save(external)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as e:
        load(path, COSTS)
    assert "\n" not in str(e.value)


GOOD = "label,local_0,local_1,remote_prediction,split\n0,1,0,1,val\n1,0,1,1,test\n"
BAD_CSV = {
    "needs a header and a row": "label,local_0\n",
    "the header holds a column twice": GOOD.replace("local_1", "local_0", 1),
    r"row 1 \(from 0\) has 4 values, the header 5": GOOD.replace("1,test", "test"),
    r"row 1 \(from 0\), column local_0: 'x' is no number": GOOD.replace("\n1,0,", "\n1,x,"),
    "column label: '' is no number": GOOD.replace("\n1,0,", "\n,0,"),
    "columns local_0, local_2 are not local_0 to local_1": GOOD.replace("local_1", "local_2"),
    "split holds 'train'": GOOD.replace("val", "train"),
    "remote_prediction must be whole": GOOD.replace(",1,val", ",2,val"),
}


@pytest.mark.parametrize("message", BAD_CSV)
def test_a_bad_csv_is_named_in_one_line(tmp_path, message):
    path = tmp_path / "x.csv"
    path.write_text(BAD_CSV[message])
    with pytest.raises(ValueError, match=f"^{path}: .*{message}") as e:
        load(path, COSTS)
    assert "\n" not in str(e.value)


def test_a_csv_may_come_from_a_spreadsheet(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode() + b"\r\n")
    assert load(path, COSTS).labels.tolist() == [0, 1]


def test_unreadable_files(external, save, tmp_path):
    text, path = tmp_path / "x.csv", save(external)
    text.write_bytes(b"\xff\xfe\x00\x01\n")
    path.write_bytes(path.read_bytes()[:-200])
    for bad in (text, path):
        with pytest.raises(ValueError, match=f"^{bad}: cannot be read"):
            load(bad, COSTS)
    for name in ("y.npz", "y.csv"):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name, COSTS)
