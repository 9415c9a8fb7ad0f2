"""Flips and shifts against a slow loop, and how Batches uses them."""

import numpy as np
import torch

import data
from data.augment import PAD, flip_crop
from data.datasets import Part


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_image_is_a_shift_of_itself_or_of_its_mirror_image():
    images = torch.rand(64, 3, 12, 10, generator=generator())
    changed = flip_crop(images, generator(1))
    assert changed.shape == images.shape
    seen = set()
    for image, found in zip(images.numpy(), changed.numpy(), strict=True):
        places = []
        for mirrored in (False, True):
            source = image[:, :, ::-1] if mirrored else image
            padded = np.pad(source, ((0, 0), (PAD, PAD), (PAD, PAD)), mode="reflect")
            for y in range(2 * PAD + 1):
                for x in range(2 * PAD + 1):
                    if np.array_equal(padded[:, y : y + 12, x : x + 10], found):
                        places.append((mirrored, y, x))
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 40
    assert {mirrored for mirrored, _, _ in seen} == {False, True}
    for axis in (1, 2):  # shifts both ways, to the ends
        assert {place[axis] for place in seen} == set(range(2 * PAD + 1))


def test_the_generator_alone_decides():
    images = torch.rand(8, 3, 9, 9)
    assert torch.equal(flip_crop(images, generator(2)), flip_crop(images, generator(2)))
    assert not torch.equal(flip_crop(images, generator(2)), flip_crop(images, generator(3)))


def test_batches_give_the_plain_images_too():
    part = Part(
        torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8), torch.arange(20), torch.arange(20)
    )
    changed = data.Batches(part, 6, "cpu", shuffle=True, seed=1, augment=flip_crop)
    as_they_are = data.Batches(part, 6, "cpu", shuffle=True, seed=1)
    batches = zip(changed.epoch(2), as_they_are.epoch(2), changed.rows(2), strict=True)
    for (rows, images, _), (same_rows, plain, _), alone in batches:
        assert torch.equal(rows, same_rows)
        assert torch.equal(rows, alone)
        assert torch.equal(changed.plain(rows), plain)
        assert not torch.equal(images, plain)
