"""Folders of pictures and torchvision's data sets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from filelock import FileLock, Timeout
from PIL import Image

from data import NAMES, load
from tests.data.test_datasets import raise_, whole_train
from tests.made import one_line_error


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
