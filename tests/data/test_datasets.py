"""data.load and class filters, offline: results, and a one-line message for each error."""

import hashlib
import io
import pickle
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from filelock import FileLock, Timeout
from PIL import Image

from data import NAMES, Dataset, Part, keep_classes, load, parse_classes, stem
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
    ({"x_train": np.full((30, 8, 8, 3), None)}, "holds Python objects"),
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


def test_files_that_are_no_npz(tmp_path, write_npz):
    path = tmp_path / "other.npz"
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for content in (b"<html>404</html>\n", pickle.dumps({}), array.getvalue(), b"PK"):
        path.write_bytes(content)
        with one_line_error(f"{path} is not an npz file"):
            load(str(path))
    path.write_bytes(b"")
    with one_line_error(f"{path} is empty", "copy it again"):
        load(str(path))
    path = write_npz(x_train=None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x_train", b"not an array")
    with one_line_error(f"x_train in {path} is not a numpy array"):
        load(path)


def flip_bytes(data):
    """Damages an array; the list of contents at the end stays whole."""
    return data[:1000] + bytes(byte ^ 255 for byte in data[1000:1100]) + data[1100:]


def set_bytes(data, at, content):
    return data[:at] + bytes(content) + data[at + len(content) :]


def entry(data):
    """The position of x_train in the list of contents."""
    return data.index(b"PK\x01\x02")


def first_block(data):
    return 30 + sum(int.from_bytes(data[at : at + 2], "little") for at in (26, 28))


def huge(data):
    data = set_bytes(data, entry(data) + 20, 2 * (2**24).to_bytes(4, "little"))
    return set_bytes(data, data.index(b"(30, 8, 8, 3)"), b"(99")


DAMAGE = {
    **{f"{kept:.1%} kept": lambda d, kept=kept: d[: int(kept * len(d))] for kept in (0.01, 0.7)},
    "end missing": lambda d: d[:-30],
    "bytes flipped": flip_bytes,
    "RuntimeError": lambda d: set_bytes(d, entry(d) + 8, [d[entry(d) + 8] | 1]),  # encryption
    "NotImplementedError": lambda d: set_bytes(d, entry(d) + 10, [99]),  # compression
    "EOFError": huge,
    "zlib.error": lambda d: set_bytes(d, first_block(d), [0xFF]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_npz(tmp_path, damage):
    """Some are named by the error that numpy raises."""
    path = tmp_path / "damaged.npz"
    saves = [np.savez_compressed] if damage == "zlib.error" else [np.savez]
    if damage == "bytes flipped":
        saves = [np.savez, np.savez_compressed]
    for save in saves:
        save(path, **toy_arrays())
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
        with one_line_error(f"{path} is cut short or damaged", "copy it again"):
            load(str(path))


def test_npz_that_cannot_be_read(write_npz, monkeypatch):
    path = write_npz()
    for name, error, telling in (
        ("numpy.load", MemoryError(), "does not fit into memory"),
        ("pathlib.Path.open", PermissionError(13, "No access"), "cannot be read (No access)"),
    ):
        monkeypatch.setattr(name, lambda *_, error=error, **__: raise_(error))
        with one_line_error(f"{path} {telling}"):
            load(path)


def raise_(error):
    raise error


def draw(path, size=(24, 20), color=(10, 20, 30), mode="RGB"):
    """A plain picture; `size` is PIL's (W, H)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    """pets/{train,test}/{cat,dog}/*.png, 20 x 24, train 4 a class and test 2."""
    for split, count in (("train", 4), ("test", 2)):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                draw(tmp_path / "pets" / split / name / f"{i}.png", color=(100 * k, i, 7))
    return tmp_path / "pets"


def test_folder(folder):
    dataset = load(f"{folder}/", val_size=2)
    assert dataset.name == "pets"
    assert dataset.classes == ("cat", "dog")
    train = whole_train(dataset)
    assert train.images.shape == (8, 3, 20, 24)
    assert train.images.dtype == torch.uint8
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    colors = [[100 * k, i, 7] for k in range(2) for i in range(4)]
    assert train.images[:, :, 0, 0].tolist() == colors
    assert train.images[:, :, 19, 23].tolist() == colors
    assert dataset.test.images.shape == (4, 3, 20, 24)
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]


def test_folder_pictures_of_other_sizes_and_modes(folder):
    """All become RGB of train's most common size, even where test's is another."""
    draw(folder / "train" / "cat" / "0.png", size=(30, 50), color=(200, 100, 50))
    draw(folder / "train" / "cat" / "1.png", color=(80, 80, 80), mode="L")
    for name in ("cat", "dog"):
        for i in range(5):
            draw(folder / "test" / name / f"{i}.png", size=(9, 9), color=(1, 2, 3))
    dataset = load(str(folder))
    train = whole_train(dataset)
    assert train.images.shape == (8, 3, 20, 24)
    assert (train.images[0] == torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None]).all()
    assert (train.images[1] == 80).all()
    assert dataset.test.images.shape == (10, 3, 20, 24)
    assert (dataset.test.images == torch.tensor([1, 2, 3])[:, None, None]).all()


def test_folder_resizes_as_pil_does(folder):
    """Antialiased: halving a chequerboard gives grey, where sampling would keep black and white."""
    board = (np.indices((40, 48)).sum(0) % 2 * 255).astype(np.uint8)
    picture = Image.fromarray(board).convert("RGB")
    picture.save(folder / "train" / "cat" / "0.png")
    expected = np.array(picture.resize((24, 20), Image.Resampling.BILINEAR), dtype=int)
    image = whole_train(load(str(folder))).images[0].permute(1, 2, 0).numpy()
    assert np.abs(image - expected).max() <= 1
    assert 100 < image.min() <= image.max() < 155


def without_pictures(folder):
    for file in folder.glob("**/*.png"):
        file.unlink()


BAD_FOLDERS = {
    "no train": (lambda f: (f / "train").rename(f / "spare"), "no folder train in {}"),
    "no test": (lambda f: (f / "test").rename(f / "spare"), "no folder test in {}"),
    "no classes": (
        lambda f: ((f / "test").rename(f / "spare"), (f / "test").mkdir()),
        "no class folders in {}/test",
    ),
    "other classes": (
        lambda f: (f / "test/dog").rename(f / "test/fox"),
        "train and test differ in {} (in one only: dog, fox)",
    ),
    "one class": (
        lambda f: [(f / split / "dog").rename(f / f"spare {split}") for split in ("train", "test")],
        "only one class in {}/train",
    ),
    "an empty class": (lambda f: without_pictures(f / "train/dog"), "no images in {}/train/dog"),
    "an empty test": (lambda f: without_pictures(f / "test"), "no images in {}/test"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders(folder, case):
    change, telling = BAD_FOLDERS[case]
    change(folder)
    with one_line_error(telling.format(folder)):
        load(str(folder))


def test_folder_with_an_unreadable_picture(folder):
    file = folder / "train" / "dog" / "2.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file)
    whole = file.read_bytes()
    middle = len(whole) // 2
    broken = whole[:middle] + bytes(50) + whole[middle + 50 :]
    for content in (b"no picture", b"", whole[:middle], broken):
        file.write_bytes(content)
        with one_line_error(f"picture {file} cannot be read"):
            load(str(folder))


TORCHVISION = {
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "fmnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "SVHN": "SVHN",
}


def fake(name):
    """A reader like torchvision's, with random images."""
    num_classes = 100 if name == "cifar100" else 10

    def read(root, train=None, split=None, download=False):
        assert download
        print("Files already downloaded and verified")
        first = train if split is None else split == "train"
        rng, count = np.random.default_rng(int(first)), (4 if first else 2) * num_classes
        shape = (3, 32, 32) if name == "SVHN" else (32, 32, 3) if "cifar" in name else (28, 28)
        pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        labels = np.arange(count) % num_classes
        if name == "SVHN":
            return SimpleNamespace(data=pixels, labels=labels)
        classes = [f"class {k}" for k in range(num_classes)]
        if "cifar" in name:
            return SimpleNamespace(data=pixels, targets=labels.tolist(), classes=classes)
        labels = torch.from_numpy(labels)
        return SimpleNamespace(data=torch.from_numpy(pixels), targets=labels, classes=classes)

    return read


def test_names():
    partial = ("cifar10_partial", "SVHN_partial")
    assert sorted(NAMES) == sorted(("digits", *TORCHVISION, *partial))


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_sets(monkeypatch, tmp_path, capsys, name):
    """Grey images stay grey; labels, order and class names are kept, and nothing is printed."""
    monkeypatch.setattr(torchvision.datasets, TORCHVISION[name], fake(name))
    dataset = load(name, root=tmp_path)
    assert capsys.readouterr().out == ""
    assert dataset.name == name
    for part, first in ((whole_train(dataset), True), (dataset.test, False)):
        which = {"split": "train" if first else "test"} if name == "SVHN" else {"train": first}
        source = fake(name)(tmp_path, **which, download=True)
        pixels = torch.as_tensor(source.data)
        if name != "SVHN":
            pixels = pixels.permute(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None]
        assert torch.equal(part.images, pixels)
        labels = source.labels if name == "SVHN" else source.targets
        assert part.labels.tolist() == list(labels)
    names = "0123456789" if name == "SVHN" else source.classes
    assert dataset.classes == tuple(names)


def test_processes_of_torchrun_download_one_after_the_other(monkeypatch, tmp_path):
    """While one looks for the data set, another one has to wait."""

    def read(root, **how):
        with pytest.raises(Timeout):
            FileLock(root / ".lock", timeout=0).acquire()
        return fake("cifar10")(root, **how)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", read)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert load("cifar10", root=tmp_path / "new").name == "cifar10"
    FileLock(tmp_path / "new" / ".lock", timeout=0).acquire()


@pytest.mark.parametrize("name", ["cifar10", "SVHN"])
def test_partial_sets_keep_classes_0_to_8(monkeypatch, tmp_path, name):
    monkeypatch.setattr(torchvision.datasets, TORCHVISION[name], fake(name))
    whole = load(name, root=tmp_path)
    partial = load(f"{name}_partial", root=tmp_path)
    assert partial.name == f"{name}_partial"
    assert partial.classes == whole.classes
    for part, full in ((whole_train(partial), whole_train(whole)), (partial.test, whole.test)):
        assert part.labels.unique().tolist() == list(range(9))
        assert part.index.tolist() == [i for i in range(len(full.labels)) if full.labels[i] != 9]
        assert torch.equal(part.images, full.images[part.index])
        assert torch.equal(part.labels, full.labels[part.index])


@pytest.mark.parametrize("name", [*TORCHVISION, "cifar10_partial", "SVHN_partial"])
def test_download_that_fails(monkeypatch, tmp_path, name):
    parent = name.removesuffix("_partial")
    for error, reason in (
        (OSError("<urlopen error [Errno -3] Temporary failure>"), "<urlopen error"),
        (RuntimeError("Error downloading train.gz:\n" + 50 * "long "), "Error downloading"),
        (AssertionError(), "AssertionError"),
    ):
        monkeypatch.setattr(
            torchvision.datasets, TORCHVISION[parent], lambda *_, e=error, **__: raise_(e)
        )
        with one_line_error(
            f"{parent} is not in {tmp_path} and could not be downloaded",
            reason,
            f"into {tmp_path}, or use digits or an npz file",
        ):
            load(name, root=tmp_path)


def test_parse_classes():
    for text, classes in {
        "0-8": [0, 1, 2, 3, 4, 5, 6, 7, 8],
        "0,2,5-7": [0, 2, 5, 6, 7],
        " 3 , 1-1 ": [1, 3],
        "5,1-3,2-5,1": [1, 2, 3, 4, 5],
    }.items():
        assert parse_classes(text, 10) == classes
    for text, telling in {
        "": "'' is no class",
        "8-3": "8-3 is empty: write 3-8",
        "10": "no class 10: use 0 to 9",
        "0-99999999999": "no class 99999999999",
        "-1": "'-1' is no class",
        "1,": "'' is no class",
        "1-2-3": "'1-2-3' is no class",
        "1.5": "'1.5' is no class",
        "1\n2": "is no class",
        "²": "'²' is no class",
    }.items():
        with one_line_error(f"classes {text!r}", telling):
            parse_classes(text, 10)


def part_of(labels):
    count = len(labels)
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    return Part(images, torch.tensor(labels), 100 + torch.arange(count))


def test_keep_classes():
    kept = keep_classes(part_of([0, 1, 2, 3, 2, 0]), [2, 0, 7])
    assert kept.labels.tolist() == [0, 2, 2, 0]
    assert kept.images.flatten().tolist() == [0, 2, 4, 5]
    assert kept.index.tolist() == [100, 102, 104, 105]

    for classes in ([], [7, 8], [1, 7]):  # fewer than two are there
        with one_line_error(f"keeping classes {classes}", "two or more of [0, 1, 2]"):
            keep_classes(part_of([0, 1, 2, 1]), classes)
