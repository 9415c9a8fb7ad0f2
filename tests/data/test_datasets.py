"""data.load of npz files and digits, offline: results, and a one-line message for each error."""

import hashlib

import numpy as np
import pytest
import torch

from data import Dataset, Part, load, stem
from tests.made import one_line_error


def toy_arrays(shape=(8, 8, 3), num_classes=3, train=30, test=12):
    rng = np.random.default_rng(7)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": np.arange(train) % num_classes,
        "x_test": rng.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": np.arange(test) % num_classes,
    }


@pytest.fixture
def write_npz(tmp_path):
    """A function that writes toy arrays, some replaced or (None) left out, and gives the path."""

    def write(arrays=None, **changes):
        arrays = {**(arrays or toy_arrays()), **changes}
        path = tmp_path / "toy.npz"
        np.savez_compressed(path, **{k: v for k, v in arrays.items() if v is not None})
        return str(path)

    return write


def whole_train(dataset):
    """Train and val put together again, in the source's order."""
    index = torch.cat([dataset.train.index, dataset.val.index])
    order = index.argsort()
    images = torch.cat([dataset.train.images, dataset.val.images])[order]
    labels = torch.cat([dataset.train.labels, dataset.val.labels])[order]
    return Part(images, labels, index[order])


def test_stem():
    for name, prefix in {
        "SVHN_partial": "SVHN_partial",
        "/a/b/cifar10.npz": "cifar10",
        "some/folder/": "folder",
        "some/folder.v2": "folder.v2",
        "some/other/..": "some",
    }.items():
        assert stem(name) == prefix
    for name in ("", "  ", "/", "a/.npz"):
        with one_line_error("has no name", "digits"):
            stem(name)


def test_names_that_are_no_data_set(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    for name, *telling in (
        ("svhn", "unknown data set 'svhn'", "near: SVHN", "path of an .npz file"),
        ("cifar", "near: ", "cifar10,"),
        ("qqq", "unknown data set 'qqq': give one of"),
        ("no/such/folder", "no such file", "'no/such/folder'"),
        ("nowhere.npz", "no such file", "'nowhere.npz'"),
        ("no\n/such", "no such file", repr("no\n/such")),
        (str(path), "notes.txt is no data set", ".npz"),
    ):
        with one_line_error(*telling):
            load(name)


def test_digits():
    dataset = load("digits")
    sizes = [len(part.labels) for part in (dataset.train, dataset.val, dataset.test)]
    assert sizes == [1077, 120, 600]
    assert dataset.name == "digits"
    assert dataset.classes == tuple("0123456789")
    for part in (dataset.train, dataset.val, dataset.test):
        assert part.images.dtype == torch.uint8
        assert part.images.shape == (len(part.labels), 3, 32, 32)
        assert part.images.is_contiguous()
        assert part.labels.dtype == part.index.dtype == torch.int64
        assert part.labels.unique().tolist() == list(range(10))
    assert dataset.test.images.min() == 0
    assert dataset.test.images.max() == 255
    assert dataset.test.labels.bincount().min() >= 57  # stratified: 174 to 183 of each in 1797


def test_digits_are_all_there_once():
    from sklearn.datasets import load_digits

    dataset = load("digits")
    parts = (dataset.train, dataset.val, dataset.test)
    small = torch.cat([part.images[:, 0, ::4, ::4] for part in parts])
    ours = sorted((small.double() * 16 / 255).round().flatten(1).tolist())
    assert ours == sorted(load_digits().data.tolist())


def test_val_is_cut_from_train(write_npz):
    arrays = toy_arrays()
    dataset = load(write_npz(arrays), val_size=0.2)
    assert len(dataset.val.labels) == 6
    assert len(dataset.train.labels) == 24
    train = whole_train(dataset)
    assert torch.equal(train.index, torch.arange(30))
    assert torch.equal(train.images, torch.from_numpy(arrays["x_train"]).permute(0, 3, 1, 2))
    assert torch.equal(train.labels, torch.from_numpy(arrays["y_train"]))
    assert torch.equal(dataset.test.images, torch.from_numpy(arrays["x_test"]).permute(0, 3, 1, 2))
    assert torch.equal(dataset.test.labels, torch.from_numpy(arrays["y_test"]))
    assert torch.equal(dataset.test.index, torch.arange(12))


def test_cut_is_the_permutation_of_the_seed(write_npz):
    dataset = load(write_npz(), val_size=5, seed=3)
    first = np.random.default_rng(3).permutation(30)[:5]
    assert dataset.val.index.tolist() == sorted(first.tolist())


def test_cut_depends_on_the_seed_and_not_on_the_data(write_npz):
    path = write_npz()
    val = load(path, seed=1).val.index
    assert torch.equal(val, load(path, seed=1).val.index)
    assert not torch.equal(val, load(path, seed=2).val.index)
    other = write_npz(toy_arrays(shape=(5, 4), num_classes=2, test=9))
    assert torch.equal(val, load(other, seed=1).val.index)


@pytest.mark.parametrize(("val_size", "count"), [(1, 1), (29, 29), (7.0, 7), (0.5, 15), (0.05, 2)])
def test_val_size(write_npz, val_size, count):
    assert len(load(write_npz(), val_size=val_size).val.labels) == count


def test_impossible_cuts(write_npz):
    path = write_npz()
    for val_size in (0, -1, -0.1, 1.5, float("nan"), float("inf")):
        with one_line_error(f"val_size is {val_size}", "count"):
            load(path, val_size=val_size)
    for val_size in (0.01, 0.99, 30, 31):
        with one_line_error(f"val_size {val_size} puts", "of 30 train images", "from 1 to 29"):
            load(path, val_size=val_size)
    with one_line_error("seed is -1"):
        load(path, seed=-1)


def test_fingerprint_tells_images_labels_and_cut_apart(write_npz):
    arrays = toy_arrays()
    dataset = load(write_npz(arrays))
    fingerprint = dataset.fingerprint()
    assert len(fingerprint) == 16
    assert int(fingerprint, 16) >= 0
    assert load(write_npz(arrays)).fingerprint() == fingerprint

    pixel, label = arrays["x_test"].copy(), arrays["y_test"].copy()
    pixel[-1, -1, -1, -1] ^= 1
    label[-1] = 0
    others = [
        load(write_npz(arrays, x_test=pixel)),
        load(write_npz(arrays, y_test=label)),
        load(write_npz(arrays), seed=1),
    ]
    assert len({fingerprint, *(other.fingerprint() for other in others)}) == 4


def test_fingerprint_is_a_sha256():
    part = Part(torch.tensor([[[[1, 2]]]], dtype=torch.uint8), torch.tensor([1]), torch.tensor([0]))
    content = b"(1, 1, 1, 2)" + b"\1\2" + (1).to_bytes(8, "little")
    expected = hashlib.sha256(3 * content).hexdigest()[:16]
    none = Part(*(values[:0] for values in part))
    assert Dataset("x", part, part, part, ("a", "b"), none).fingerprint() == expected
    kept = hashlib.sha256(4 * content).hexdigest()[:16]
    assert Dataset("x", part, part, part, ("a", "b"), part).fingerprint() == kept


@pytest.mark.parametrize(
    ("shape", "channels"), [((8, 8), 1), ((8, 8, 1), 1), ((20, 24, 3), 3), ((1, 5), 1)]
)
def test_npz_shapes(write_npz, shape, channels):
    arrays = toy_arrays(shape)
    dataset = load(write_npz(arrays))
    train = whole_train(dataset)
    assert train.images.shape == (30, channels, *shape[:2])
    expected = torch.from_numpy(arrays["x_train"].reshape(30, *shape[:2], channels))
    assert torch.equal(train.images.permute(0, 2, 3, 1), expected)
    assert dataset.name == "toy"


def test_npz_with_100_classes(write_npz):
    dataset = load(write_npz(toy_arrays((8, 8), num_classes=100, train=300)))
    assert dataset.classes == tuple(str(k) for k in range(100))
    assert whole_train(dataset).labels.max() == 99


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_npz_floats_become_the_uint8_they_were(write_npz, dtype):
    arrays = toy_arrays((16, 16))
    floats = {k: (arrays[k] / 255).astype(dtype) for k in ("x_train", "x_test")}
    train = whole_train(load(write_npz(arrays, **floats)))
    assert torch.equal(train.images[:, 0], torch.from_numpy(arrays["x_train"]))


def test_npz_floats_are_rounded(write_npz):
    floats = np.full((12, 8, 8, 3), [0.4 / 255, 0.6 / 255, 1.0])
    images = load(write_npz(x_test=floats)).test.images
    assert (images == torch.tensor([0, 1, 255])[:, None, None]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i4", np.uint64])
def test_npz_label_types(write_npz, dtype):
    arrays = toy_arrays()
    labels = {k: arrays[k].astype(dtype) for k in ("y_train", "y_test")}
    train = whole_train(load(write_npz(arrays, **labels)))
    assert train.labels.dtype == torch.int64
    assert train.labels.tolist() == arrays["y_train"].tolist()


def test_npz_class_names_allow_gaps(write_npz):
    arrays = toy_arrays()
    labels = {k: 2 * arrays[k] for k in ("y_train", "y_test")}
    names = np.array(["ant", "bee", "cat", "dog", "elk", "fox"])
    dataset = load(write_npz(arrays, **labels, classes=names))
    assert dataset.classes == ("ant", "bee", "cat", "dog", "elk", "fox")
    assert dataset.test.labels.unique().tolist() == [0, 2, 4]


def test_npz_ignores_other_arrays(write_npz):
    path = write_npz(notes=np.array([{"a": 1}], dtype=object))
    assert len(load(path).test.labels) == 12


LABELS = toy_arrays()["y_train"]
FLOATS = toy_arrays()["x_train"] / 255


def with_value(array, value):
    array = array.copy()
    array.flat[5] = value
    return array


BAD_ARRAYS = [  # one entry for each check of the reader
    ({"y_train": None, "y_test": None}, "no array y_train, y_test in"),
    ({"x_train": np.zeros((30, 64), np.uint8)}, "x_train is [30, 64]"),
    ({"x_test": np.zeros((12, 3, 8, 8), np.uint8)}, "C 1 or 3"),
    ({"x_test": np.uint8(3)}, "x_test is []"),
    ({"x_train": np.zeros((30, 8, 8, 3), np.int64)}, "x_train is int64"),
    ({"x_train": np.full((30, 8, 8, 3), "a")}, "x_train is <U1"),
    ({"x_train": np.zeros((0, 8, 8, 3), np.uint8)}, "x_train has no images"),
    ({"x_test": np.zeros((0, 8, 8, 3), np.uint8), "y_test": LABELS[:0]}, "x_test has no images"),
    ({"x_train": np.zeros((30, 0, 8, 3), np.uint8)}, "no pixels ([30, 0, 8, 3])"),
    ({"x_train": with_value(FLOATS, np.nan)}, "x_train has NaN"),
    ({"x_train": with_value(FLOATS, -np.inf)}, "x_train has NaN or infinite"),
    ({"x_train": with_value(FLOATS, -0.5)}, "x_train has floats in -0.5..1"),
    ({"x_train": FLOATS * 255}, "floats in 0..255"),
    ({"x_train": np.full((30, 8, 8, 3), None)}, "not an npz file of plain arrays"),
    ({"x_test": np.zeros((12, 8, 9, 3), np.uint8)}, "[8, 8, 3], of x_test [8, 9, 3]"),
    ({"y_train": LABELS[:, None]}, "y_train is [30, 1]"),
    ({"y_train": LABELS.astype(float)}, "y_train is float64"),
    ({"y_train": LABELS[:-1]}, "x_train has 30 images and y_train 29 labels"),
    ({"y_test": LABELS[:0]}, "x_test has 12 images and y_test 0 labels"),
    ({"y_train": with_value(LABELS, -1)}, "y_train has label -1"),
    ({"y_test": with_value(LABELS[:12], 3)}, "y_test has label 3"),
    ({"y_train": with_value(LABELS, 2**62)}, "add an array `classes`"),
    ({"y_train": LABELS + 1}, "no label 0 in y_train"),
    ({"y_train": LABELS * 0}, "only one class in y_train"),
    ({"y_train": LABELS * 0, "classes": np.array(["a"])}, "only one class in y_train"),
    ({"classes": np.array(["a", "b"])}, "y_train has label 2"),
    ({"classes": np.array([1, 2, 3])}, "classes is int64 [3]"),
    ({"classes": np.array([["a", "b", "c"]])}, "classes is <U1 [1, 3]"),
]


def test_bad_arrays(write_npz):
    for changes, telling in BAD_ARRAYS:
        path = write_npz(**changes)
        with one_line_error(telling, path):
            load(path)


def raise_(error):
    raise error
