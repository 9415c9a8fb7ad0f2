"""Batches equals a slow obvious loop, and its order is a function of seed and epoch alone."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision import transforms

import data.batches
from data import Batches, Part
from data.augment import flip_crop
from tests.made import one_line_error


def make_part(count, channels=3, height=6, width=5):
    generator = torch.Generator().manual_seed(count)
    shape = (count, channels, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Part(images, labels, torch.arange(count))


def order_of(batches, epoch=0):
    return torch.cat([index for index, _, _ in batches.epoch(epoch)]).tolist()


def sizes_of(batches):
    return [len(index) for index, _, _ in batches]


@pytest.fixture(params=[1, 1000, 2**20], ids=lambda values: f"chunk of {values}")
def chunk_values(request, monkeypatch):
    """One batch a chunk, a few, and all of them."""
    monkeypatch.setattr(data.batches, "CHUNK_VALUES", request.param)


@pytest.mark.usefixtures("chunk_values")
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))])
def test_equals_pil_totensor_normalize(shuffle, channels, mean, std):
    part = make_part(50, channels)
    normalize = transforms.Normalize(*(torch.tensor(v).expand(3) for v in (mean, std)))
    slow = transforms.Compose([transforms.ToTensor(), normalize])
    batches = Batches(part, 4, "cpu", shuffle=shuffle, mean=mean, std=std)
    seen = 0
    for index, images, labels in batches.epoch(2):
        assert index.dtype == labels.dtype == torch.int64
        assert images.dtype == torch.float32
        assert images.shape == (len(index), 3, 6, 5)
        for row, image, label in zip(index.tolist(), images, labels.tolist(), strict=True):
            pixels = part.images[row].permute(1, 2, 0).expand(-1, -1, 3).numpy()
            torch.testing.assert_close(image, slow(Image.fromarray(pixels)), rtol=0, atol=1e-6)
            assert label == part.labels[row]
            seen += 1
    assert seen == 50


@pytest.mark.usefixtures("chunk_values")
@pytest.mark.parametrize(
    ("count", "batch_size", "shuffle", "sizes"),
    [
        (12, 4, False, [4, 4, 4]),
        (12, 4, True, [4, 4, 4]),
        (14, 4, True, [4, 4, 4, 2]),
        (13, 4, False, [4, 4, 4, 1]),
        (13, 4, True, [4, 4, 4]),
        (3, 1, True, [1, 1, 1]),
        (1, 4, True, [1]),
        (1, 1, True, [1]),
        (3, 8, True, [3]),
        (121, 3, True, [3] * 40),
        (121, 3, False, [3] * 40 + [1]),
    ],
)
def test_batch_sizes(count, batch_size, shuffle, sizes):
    batches = Batches(make_part(count), batch_size, "cpu", shuffle=shuffle)
    assert sizes_of(batches) == sizes
    assert len(batches) == len(sizes)


@pytest.mark.usefixtures("chunk_values")
def test_every_sample_once_an_epoch():
    batches = Batches(make_part(103), 4, "cpu", shuffle=True)
    for epoch in range(3):
        order = order_of(batches, epoch)
        assert sorted(order) == list(range(103))
        assert order != sorted(order)


def test_shuffling_drops_at_most_one_sample():
    order = order_of(Batches(make_part(101), 4, "cpu", shuffle=True))
    assert len(order) == len(set(order)) == 100


def test_without_shuffle_rows_come_in_order():
    batches = Batches(make_part(13), 4, "cpu", seed=5)
    assert order_of(batches, 0) == order_of(batches, 3) == list(range(13))


def test_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        return tuple(order_of(Batches(make_part(64), 8, "cpu", shuffle=True, seed=seed), epoch))

    pairs = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({order(*pair) for pair in pairs}) == len(pairs)
    assert [order(*pair) for pair in pairs] == [order(*pair) for pair in pairs]


def test_order_depends_on_nothing_else(monkeypatch):
    """Not on the pixels, the batch size, the chunks, the epochs before, nor on random state."""
    expected = order_of(Batches(make_part(64), 8, "cpu", shuffle=True, seed=1), 5)
    torch.manual_seed(123)
    monkeypatch.setattr(data.batches, "CHUNK_VALUES", 500)
    batches = Batches(make_part(64, channels=1), 16, "cpu", shuffle=True, seed=1)
    order_of(batches, 4)
    assert order_of(batches, 5) == expected


def test_global_random_state_is_untouched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    order_of(Batches(make_part(40), 8, "cpu", shuffle=True, augment=flip_some))
    assert torch.equal(torch.get_rng_state(), before)


def test_iterating_is_epoch_0():
    batches = Batches(make_part(40), 8, "cpu", shuffle=True, seed=9)
    assert torch.cat([index for index, _, _ in batches]).tolist() == order_of(batches, 0)


def test_two_epochs_at_once_do_not_disturb_each_other():
    batches = Batches(make_part(40), 8, "cpu", shuffle=True, augment=flip_some)
    alone = [images for _, images, _ in batches.epoch(1)]
    together = [second[1] for _, second in zip(batches.epoch(0), batches.epoch(1), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def flip_some(images, generator):
    flip = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


@pytest.mark.parametrize("start", [0, 1, 5, 12, 13])
def test_an_epoch_continued_reads_only_the_batches_to_come(start, monkeypatch):
    read = []

    class Recording(Batches):
        def plain(self, index):
            read.extend(index.tolist())
            return super().plain(index)

    monkeypatch.setattr(data.batches, "CHUNK_VALUES", 700)  # two batches
    part, given = make_part(51, height=9, width=9), {"shuffle": True, "augment": flip_crop}
    batches = Recording(part, 4, "cpu", **given)
    whole, states = [], [None]
    for batch in batches.epoch(3):
        whole.append(batch)
        states.append(batches.augment_state)
    read.clear()
    again = Recording(part, 4, "cpu", **given)
    left = [*again.epoch(3, start, states[start])]
    assert read == torch.cat([index for index, _, _ in whole])[4 * start :].tolist()
    assert len(left) == 13 - start
    for batch, expected in zip(left, whole[start:], strict=True):
        assert all(map(torch.equal, batch, expected))


def test_order_is_that_of_the_batches():
    batches = Batches(make_part(41), 4, "cpu", shuffle=True, seed=2)
    order = batches.order(6)
    assert len(order) == 40  # the lone last one is dropped
    assert torch.equal(order, torch.cat([index for index, _, _ in batches.epoch(6)]))
    plain = torch.cat([images for _, images, _ in batches.epoch(6)])
    assert torch.equal(batches.plain(order), plain)


@pytest.mark.parametrize(("spare", "where"), [(0, "cuda"), (-2, "cpu")])
def test_images_go_to_the_device_where_they_take_half_of_what_is_free(spare, where, monkeypatch):
    """Of a GPU that computes nothing; the batches are on the GPU either way."""
    part = make_part(50)
    free = 2 * part.images.nbytes + spare
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    with FakeTensorMode(allow_non_fake_inputs=True):
        batches = Batches(part, 4, "cuda", shuffle=True)
        assert batches.images.device.type == where
        for batch in batches.epoch(0):
            assert {x.device.type for x in batch} == {"cuda"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_on_the_host_give_the_same_batches(monkeypatch):
    part, how = make_part(2000), {"shuffle": True, "augment": flip_crop}
    held = Batches(part, 16, "cuda", **how)
    monkeypatch.setattr(data.batches, "fits_device", lambda size, device: False)
    kept = Batches(part, 16, "cuda", **how)
    assert (held.images.device.type, kept.images.device.type) == ("cuda", "cpu")
    for one, two in zip(held.epoch(3), kept.epoch(3), strict=True):
        assert all(map(torch.equal, one, two))


def test_augment_is_given_normalised_batches_and_its_result_is_used():
    part = make_part(10)
    given = []

    def augment(images, generator):
        assert isinstance(generator, torch.Generator)
        given.append(images)
        return images[:, :, :4] + 100

    plain = list(Batches(part, 4, "cpu"))
    changed = list(Batches(part, 4, "cpu", augment=augment))
    for (_, before, _), seen, (_, after, _) in zip(plain, given, changed, strict=True):
        assert torch.equal(seen, before)
        assert torch.equal(after, before[:, :, :4] + 100)


def test_augment_is_a_function_of_seed_and_epoch():
    def images(seed, epoch):
        batches = Batches(make_part(64), 8, "cpu", seed=seed, augment=flip_some)
        return torch.cat([images for _, images, _ in batches.epoch(epoch)])

    assert torch.equal(images(0, 1), images(0, 1))
    assert not torch.equal(images(0, 1), images(0, 2))
    assert not torch.equal(images(0, 1), images(1, 1))


def test_augment_leaves_the_order_alone():
    part = make_part(40)
    plain = Batches(part, 8, "cpu", shuffle=True)
    assert order_of(plain) == order_of(Batches(part, 8, "cpu", shuffle=True, augment=flip_some))


@pytest.mark.parametrize("channels", [1, 3])
def test_writing_into_a_batch_changes_nothing_else(channels):
    part = make_part(16, channels)
    pixels = part.images.clone()
    batches = Batches(part, 4, "cpu")
    expected = [images.clone() for _, images, _ in batches]
    for (_, images, _), before in zip(batches, expected, strict=True):
        assert torch.equal(images, before)
        images[:, 0].zero_()
        assert torch.equal(images[:, 1:], before[:, 1:])
    assert torch.equal(part.images, pixels)


def test_batches_kept_are_not_overwritten():
    batches = Batches(make_part(64), 4, "cpu", shuffle=True)
    kept = [images for _, images, _ in batches]
    copied = [images.clone() for _, images, _ in batches]
    assert all(torch.equal(a, b) for a, b in zip(kept, copied, strict=True))


@pytest.mark.parametrize(
    ("changes", "telling"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -3}, "batch_size is -3"),
        ({"part": make_part(0)}, "no images"),
        ({"part": make_part(4, height=0)}, "no images"),
        ({"part": make_part(4, channels=2)}, "[4, 2, 6, 5]"),
        ({"part": replace(make_part(4), images=torch.zeros(4, 3, 6, 5))}, "torch.float32"),
        ({"part": replace(make_part(4), images=torch.zeros(4, 6, 5).byte())}, "[4, 6, 5]"),
        ({"seed": -1}, "seed is -1"),
        ({"mean": (0.5, 0.5)}, "mean has 2 numbers"),
        ({"std": (0.5,) * 4}, "std has 4 numbers"),
        ({"std": 0.0}, "std is 0.0"),
        ({"std": (0.2, -0.1, 0.2)}, "above 0"),
    ],
)
def test_wrong_arguments(changes, telling):
    arguments = {"part": make_part(4), "batch_size": 2, "device": "cpu", **changes}
    with one_line_error(telling):
        Batches(**arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_what_the_cpu_gives():
    part = make_part(50)
    here = list(Batches(part, 8, "cpu", shuffle=True))
    there = list(Batches(part, 8, "cuda", shuffle=True, augment=lambda images, _: images))
    for ours, theirs in zip(here, there, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert b.is_cuda
            torch.testing.assert_close(a, b.cpu(), rtol=0, atol=1e-6)
