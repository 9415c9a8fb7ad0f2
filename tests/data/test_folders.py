"""Streamed folders: the same cut as in memory, and images that depend on (seed, epoch, row)."""

import gc
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data.folders
from data import Batches, FolderBatches, Part, load, load_folder
from data.folders import IMAGENET_MEAN, IMAGENET_STD, FolderPart, read_picture
from tests.made import one_line_error

PLAIN = {"mean": 0, "std": 1}


def save(path, pixels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)


def make_folder(root, test="test", train_count=9, suffixes=(".png", ".jpg", ".bmp")):
    rng = np.random.default_rng(0)
    for split, count in (("train", train_count), (test, 3)):
        for name in ("cat", "dog"):
            for i in range(count):
                small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
                size = tuple(rng.integers(30, 60, 2).tolist())
                smooth = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
                file = root / split / name / f"{i:02}{suffixes[i % len(suffixes)]}"
                save(file, np.asarray(smooth))
    return root


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("folders") / "pets")


@pytest.fixture
def copied(pets, tmp_path):
    return Path(shutil.copytree(pets, tmp_path / "pets"))


@pytest.fixture(scope="module")
def train(pets):
    return load_folder(pets, val_size=3).train


def images_of(part, epoch=0, **flags):
    """Each row's image of one epoch, by row."""
    flags = {"batch_size": 4, "device": "cpu", "size": 16, "workers": 0} | PLAIN | flags
    found = {}
    for index, images, _ in FolderBatches(part, **flags).epoch(epoch):
        found |= dict(zip(index.tolist(), images, strict=True))
    return found


def assert_same_images(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(image, b[row]) for row, image in a.items())


@pytest.mark.parametrize("val_size", [3, 0.25])
@pytest.mark.parametrize("test", ["test", "val"])
def test_the_same_parts_as_in_memory(tmp_path, test, val_size):
    root = make_folder(tmp_path / "pets", test)
    streamed, loaded = load_folder(root, val_size, seed=4), load(str(root), "", val_size, seed=4)
    assert streamed.name == loaded.name == "pets"
    assert streamed.classes == loaded.classes == ("cat", "dog")
    for split in ("train", "val", "test"):
        a, b = getattr(streamed, split), getattr(loaded, split)
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.index, b.index)
        for file, label in zip(a.files, a.labels.tolist(), strict=True):
            assert Path(file).is_file()
            assert Path(file).parent.name == streamed.classes[label]
    assert len(set(streamed.train.files + streamed.val.files)) == 18
    assert all(Path(file).parent.parent == root / test for file in streamed.test.files)


def test_imagenets_test_folder_without_classes_is_ignored(tmp_path):
    root = make_folder(tmp_path / "pets", "val")
    (root / "test").mkdir()
    shutil.copy(root / "val" / "cat" / "00.png", root / "test" / "ILSVRC2012_test_1.png")
    assert all(Path(file).parent.parent == root / "val" for file in load_folder(root).test.files)


def test_bad_folders(copied):
    def refused(*telling):
        with one_line_error(*telling):
            load_folder(copied)

    (copied / "test" / "dog").rename(copied / "test" / "fox")
    refused("train and test differ", "dog, fox")
    shutil.rmtree(copied / "test")
    refused(f"no folder test in {copied}")
    shutil.rmtree(copied)
    refused(f"no such folder: '{copied}'")


@pytest.mark.parametrize("val_size", [0, 18, 1.5])
def test_val_sizes_that_leave_nothing(pets, val_size):
    with pytest.raises(ValueError, match="val_size"):
        load_folder(pets, val_size)


def test_fingerprint(copied, tmp_path):
    before = load_folder(copied).fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert load_folder(copied, seed=1).fingerprint() != before
    assert load_folder(copied, val_size=5).fingerprint() != before
    others = [load_folder(copied, size=px, rejector_val_size=n) for px in (0, 8, 9) for n in (0, 4)]
    assert len({dataset.fingerprint() for dataset in others}) == 6
    assert others[0].fingerprint() == before
    moved = Path(shutil.copytree(copied, tmp_path / "elsewhere" / "pets"))
    assert load_folder(moved).fingerprint() == before

    file = copied / "train" / "cat" / "02.bmp"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    assert load_folder(copied).fingerprint() == before  # names and sizes count, content does not
    file.write_bytes(whole + b"x")
    assert load_folder(copied).fingerprint() != before
    file.write_bytes(whole)
    file.rename(file.with_name("02b.bmp"))
    assert load_folder(copied).fingerprint() != before


@pytest.mark.parametrize("size", [16, 28])
def test_evaluation_is_resize_and_centre_crop_as_pil_does_them(pets, size):
    """Two levels of 255 apart at most: PIL rounds after each of the two directions."""
    part = load_folder(pets).test
    images = images_of(part, size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    short = round(size * 256 / 224)
    for row, file in enumerate(part.files):
        picture = Image.open(file).convert("RGB")
        least = min(picture.size)
        target = [short * side // least for side in picture.size]
        picture = picture.resize(target, Image.Resampling.BILINEAR)
        left, top = (round((side - size) / 2) for side in picture.size)
        pixels = np.asarray(picture.crop((left, top, left + size, top + size)))
        expected = (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
        found = images[row].permute(1, 2, 0).numpy()
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 2.01 / 255 / min(IMAGENET_STD)


def test_batches_have_rows_labels_and_sizes(train):
    batches = FolderBatches(train, 4, "cpu", size=16, workers=0)
    assert len(batches) == 4
    assert batches.batch_size == 4
    assert batches.global_sizes() == [4, 4, 4, 3]
    assert torch.equal(batches.labels, train.labels)
    seen = []
    for index, images, labels in batches:
        assert index.dtype == labels.dtype == torch.int64
        assert images.dtype == torch.float32
        assert images.shape == (len(index), 3, 16, 16)
        assert torch.equal(labels, train.labels[index])
        seen += index.tolist()
    assert seen == list(range(15))


@pytest.mark.parametrize("count", [9, 12, 13, 1])
@pytest.mark.parametrize("shuffle", [False, True])
def test_order_and_sizes_are_those_of_batches(train, count, shuffle):
    part = FolderPart(train.files[:count], train.labels[:count], train.index[:count])
    streamed = FolderBatches(part, 4, "cpu", shuffle=shuffle, seed=3, size=8, workers=0)
    blank = Part(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), part.labels, part.index)
    loaded = Batches(blank, 4, "cpu", shuffle=shuffle, seed=3)
    for epoch in (0, 1, 5):
        expected = [index.tolist() for index, _, _ in loaded.epoch(epoch)]
        assert [index.tolist() for index, _, _ in streamed.epoch(epoch)] == expected
        assert [rows.tolist() for rows in streamed.rows(epoch)] == expected
        assert streamed.global_sizes() == [len(rows) for rows in expected]
        assert len(streamed) == len(expected)


def test_workers_and_chunks_change_nothing(train, monkeypatch):
    flags = {"shuffle": True, "train": True, "seed": 7}
    expected = [images_of(train, epoch, **flags) for epoch in (2, 3)]
    monkeypatch.setattr(data.folders, "CHUNK", 3)
    for workers in (0, 2):
        batches = FolderBatches(train, 4, "cpu", size=16, workers=workers, **PLAIN, **flags)
        next(batches.epoch(1))  # abandoned early: its chunks must not be mistaken for epoch 2's
        for epoch, images in zip((2, 3), expected, strict=True):
            found = {}
            for index, batch, _ in batches.epoch(epoch):
                found |= dict(zip(index.tolist(), batch, strict=True))
            assert_same_images(found, images)


def test_augmentation_depends_on_seed_epoch_and_row_only(train):
    flags = {"train": True, "seed": 7}
    expected = images_of(train, 2, **flags)
    assert_same_images(images_of(train, 2, **flags), expected)
    assert_same_images(images_of(train, 2, shuffle=True, batch_size=5, **flags), expected)
    twice = FolderPart([train.files[0]] * 8, train.labels[:8], train.index[:8])
    same = images_of(twice, 2, **flags)
    assert torch.equal(same[0], expected[0])
    others = [same[row] for row in range(8)]
    others += [images_of(twice, 3, **flags)[0], images_of(twice, 2, train=True, seed=8)[0]]
    assert len({tuple(image.flatten().tolist()) for image in others}) == 10


def test_global_random_state_is_neither_read_nor_changed(train):
    torch.manual_seed(1)
    first = images_of(train, train=True, shuffle=True)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert_same_images(images_of(train, train=True, shuffle=True), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_have_the_documented_area_aspect_and_flips(tmp_path):
    """The picture encodes positions: red is the column, green the row of a pixel."""
    level = np.linspace(0, 255, 256).astype(np.uint8)
    pixels = np.stack([*np.meshgrid(level, level), np.zeros((256, 256), np.uint8)], -1)
    save(tmp_path / "where.png", pixels)
    count = 200
    part = FolderPart([str(tmp_path / "where.png")] * count, torch.zeros(count), torch.zeros(count))
    images = torch.stack([*images_of(part, size=64, train=True, batch_size=50).values()])
    red, green = images[:, 0].mean(1), images[:, 1].mean(2)  # along columns, and along rows
    # Ends of the crop: half a pixel of the image beyond the middle of the first and last.
    width = ((red[:, -1] - red[:, 0]) * 64 / 63).abs()
    height = (green[:, -1] - green[:, 0]) * 64 / 63
    assert (green[:, -1] > green[:, 0]).all()
    area, aspect = width * height, width / height
    slack = 1.08  # whole pixels, of a crop of 72 px or more a side
    assert 0.08 / slack < area.min() < 0.15
    assert 0.9 < area.max() <= 1.01
    assert 3 / 4 / slack < aspect.min() < 0.85
    assert 1.2 < aspect.max() < 4 / 3 * slack
    mirrored = (red[:, -1] < red[:, 0]).sum()
    assert 75 <= mirrored <= 125  # 3.5 standard deviations


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_batch_and_decode_no_more(train, world, monkeypatch):
    flags = {"batch_size": 4, "size": 16, "shuffle": True, "train": True, "workers": 0, **PLAIN}
    whole = list(FolderBatches(train, device="cpu", **flags).epoch(1))
    decoded = []
    read = read_picture
    monkeypatch.setattr(data.folders, "read_picture", lambda f: decoded.append(f) or read(f))
    for rank in range(world):
        batches = FolderBatches(train, device="cpu", rank=rank, world=world, **flags)
        assert batches.global_sizes() == [4, 4, 4, 3]
        assert batches.batch_size == 4
        shares = list(batches.epoch(1))
        assert len(shares) == len(batches) == len(whole)
        for share, full in zip(shares, whole, strict=True):
            for a, b in zip(share, full, strict=True):
                assert torch.equal(a, b[rank::world])
    assert sorted(decoded) == sorted(train.files)


def test_a_small_batch_may_go_to_all_ranks(train):
    """The last batch, of 3, is not shared by two ranks that want 2 pictures each."""
    batches = FolderBatches(train, 4, "cpu", size=16, workers=0, rank=1, world=2, least=2)
    assert [len(labels) for *_, labels in batches.epoch(1)] == [2, 2, 2, 3]


def test_a_rank_may_have_nothing_of_the_last_batch(train):
    part = FolderPart(train.files[:6], train.labels[:6], train.index[:6])
    batches = FolderBatches(part, 4, "cpu", size=16, workers=0, rank=2, world=3)
    shapes = [tuple(images.shape) for _, images, _ in batches]
    assert shapes == [(1, 3, 16, 16), (0, 3, 16, 16)]


@pytest.mark.parametrize(
    ("workers", "damage"), [(0, "text"), (0, "empty"), (0, "cut"), (0, "gone"), (2, "cut")]
)
def test_an_unreadable_picture_is_named_in_one_line(copied, workers, damage):
    part = load_folder(copied, 3).train
    file = Path(part.files[9])
    whole = file.read_bytes()
    file.write_bytes({"text": b"no picture", "empty": b"", "cut": whole[:200], "gone": b""}[damage])
    if damage == "gone":
        file.unlink()
    reader = FolderBatches(part, 4, "cpu", size=16, workers=workers)
    batches = reader.epoch(0)
    for _ in range(2):
        next(batches)
    with pytest.raises(ValueError, match="cannot be read") as error:
        next(batches)
    if workers:
        assert [worker.exitcode for worker in reader._loader._iterator._workers] == [0, 0]
    message = str(error.value)
    assert message.startswith(f"picture {file} cannot be read (")
    assert "\n" not in message


def test_workers_end_at_once_with_their_batches(copied):
    """And not with torch's iterator, which takes 5 s a worker if the garbage collector ends it."""
    batches = FolderBatches(load_folder(copied, 3).train, 4, "cpu", size=16, workers=2)
    next(iter(batches.epoch(0)))
    iterator = batches._loader._iterator
    batches.cycle = batches
    del batches
    gc.collect()
    assert [worker.exitcode for worker in iterator._workers] == [0, 0]


def test_pictures_of_all_modes_and_formats_become_rgb(tmp_path):
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = smooth.resize((50, 40), Image.Resampling.BICUBIC)
    cases = [("RGB", "png"), ("L", "png"), ("P", "png"), ("RGBA", "png"), ("1", "png")]
    cases += [("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "webp"), ("RGB", "tif")]
    for mode, suffix in cases:
        file = tmp_path / f"{mode}.{suffix}"
        smooth.convert(mode).save(file)
        expected = np.asarray(Image.open(file).convert("RGB"))
        image = read_picture(str(file))
        assert image.dtype == torch.uint8
        assert np.array_equal(image.permute(1, 2, 0), expected), file

    levels = rng.integers(0, 65536, (4, 13), dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    image = read_picture(str(tmp_path / "deep.png"))
    assert np.abs(image[0].numpy() - levels / 257).max() < 1  # all of the range, in 8 bits
    assert (image == image[0]).all()


def test_a_picture_under_another_suffix_is_read(tmp_path):
    save(tmp_path / "really.png", np.full((4, 4, 3), 9, np.uint8))
    (tmp_path / "really.png").rename(tmp_path / "claimed.jpg")  # ImageNet has such
    assert (read_picture(str(tmp_path / "claimed.jpg")) == 9).all()


def test_file_names_with_unusual_characters(tmp_path):
    names = ["ä ö.png", "line\nbreak.png", "日本.png"]
    for name in names:
        save(tmp_path / name, np.full((4, 4, 3), 9, np.uint8))
    part = FolderPart([str(tmp_path / n) for n in names], torch.zeros(3), torch.arange(3))
    assert len(images_of(part)) == 3


def test_two_epochs_at_a_time_are_refused(train):
    batches = FolderBatches(train, 4, "cpu", size=8, workers=0)
    old = batches.epoch(0)
    next(old)
    next(batches.epoch(1))
    with pytest.raises(RuntimeError, match="newer epoch"):
        next(old)


def test_workers_by_default(train, monkeypatch):
    def workers(count):
        part = FolderPart(train.files[:1] * count, train.labels[:1].expand(count), None)
        return FolderBatches(part, 4, "cpu")._loader.num_workers

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert [workers(n) for n in (1, 255, 256)] == [0, 0, 8]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert workers(256) == 3


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"size": 0}, "size is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"world": 0}, "world is 0"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2: give one from 0 to 1"),
        ({"rank": -1}, "rank is -1"),
        ({"std": 0}, "std is 0"),
        ({"mean": (1, 2)}, "mean has 2 numbers"),
    ],
)
def test_bad_values(train, flags, telling):
    with pytest.raises(ValueError, match=telling):
        FolderBatches(train, **{"batch_size": 4, "device": "cpu"} | flags)


def test_an_empty_part():
    with pytest.raises(ValueError, match="no pictures"):
        FolderBatches(FolderPart([], torch.zeros(0), torch.zeros(0)), 4, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_equals_cpu(train):
    flags = {"shuffle": True, "train": True, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    cpu = images_of(train, 1, **flags)
    gpu = images_of(train, 1, **flags, device="cuda", workers=2)
    for row, image in gpu.items():
        assert image.device.type == "cuda"
        torch.testing.assert_close(image.cpu(), cpu[row], rtol=0, atol=1e-6)
