"""What networks with exits are given: pixel statistics, sizes, and streamed folders."""

import numpy as np
import pytest
import torch

import data
import train_localnet
from early_exit import train
from early_exit.inputs import InputFormat, load_data, make_batches, pixel_stats

# torchvision announces another decoder, which is no matter of ours while this one is there.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def part_of(images):
    count = len(images)
    return data.Part(images, torch.zeros(count, dtype=torch.int64), torch.arange(count))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_stats_are_those_of_all_pixels(channels):
    images = torch.randint(0, 256, (50, channels, 7, 9), dtype=torch.uint8)
    images[:, 0] //= 3
    mean, std = pixel_stats(part_of(images))
    wanted = images.double().expand(-1, 3, -1, -1) / 255
    np.testing.assert_allclose(mean, wanted.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, wanted.std((0, 2, 3), correction=0), rtol=1e-12)


def test_a_channel_of_one_value_can_be_divided_by_its_std():
    images = torch.full((4, 3, 2, 2), 7, dtype=torch.uint8)
    mean, std = pixel_stats(part_of(images))
    assert mean == [7 / 255] * 3
    assert std == [1 / 255] * 3


def test_images_in_memory_are_normalised_and_only_resized_where_they_must_be():
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    (_, same, _), *_ = make_batches(part_of(images), 10, "cpu", InputFormat(8, MEAN, STD))
    torch.testing.assert_close(same, (images / 255 - mean) / std)

    grey = torch.stack([torch.full((3, 6, 10), v, dtype=torch.uint8) for v in (0, 100, 255)])
    (_, resized, _), *_ = make_batches(part_of(grey), 3, "cpu", InputFormat(12, MEAN, STD))
    assert resized.shape == (3, 3, 12, 12)
    wanted = (torch.tensor([0, 100, 255]).view(3, 1, 1, 1) / 255 - mean) / std
    torch.testing.assert_close(resized, wanted.expand(3, 3, 12, 12))


def test_images_are_augmented_before_they_are_resized():
    seen = []

    def augment(images, generator):
        seen.append(images.shape)
        return images * 0 + torch.rand(1, generator=generator)

    part = part_of(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    batches = make_batches(part, 2, "cpu", InputFormat(5, MEAN, STD), augment=augment, seed=3)
    (_, one, _), (_, two, _) = batches.epoch(1)
    assert seen == [(2, 3, 8, 8)] * 2
    assert one.shape == (2, 3, 5, 5)
    assert (one - two).abs().min() > 0.01


def test_a_streamed_folder_has_the_rows_of_one_in_memory(folder):
    held, streamed = (load_data(str(folder), "", 4, 1, stream) for stream in (False, True))
    assert held.classes == streamed.classes
    for name in ("train", "val", "test"):
        for field in ("labels", "index"):
            ours, theirs = (getattr(getattr(d, name), field) for d in (held, streamed))
            assert torch.equal(ours, theirs)
    mean, std = pixel_stats(streamed.train)
    assert (mean[0], std[0]) == (0.485, 0.229)
    batches = make_batches(streamed.val, 3, "cpu", InputFormat(32, mean, std, workers=0))
    assert [len(labels) for _, _, labels in batches.epoch(0)] == [3, 1]
    assert next(batches.epoch(0))[1].shape == (3, 3, 32, 32)


def test_a_folder_that_does_not_fit_into_memory(folder, tmp_path, monkeypatch, refused):
    monkeypatch.setattr("data.memory.free_on_host", lambda: 1000)
    for main in (train.main, train_localnet.main):
        flags = ["--dataset", folder, "--save_dir", tmp_path / "run"]
        refused(main, *flags, telling="of memory are free: give --stream")
    assert not (tmp_path / "run").exists()
