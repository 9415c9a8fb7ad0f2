"""Flips and shifts against a slow loop, and how Batches uses them."""

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

import data
from data.augment import PAD, flip_crop, random_resized_crop
from data.parts import Part


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


def boxes(height, width, size, scale, batch=4000):
    """Left, top, width and height of random boxes in px, float64 [batch] each, and the crops.

    Images whose channels are the place of each pixel: a bilinear reading of them gives the places
    read, so two pixels of a crop tell its box. The outermost are clamped, so inner ones are taken.
    """
    places = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    images = torch.stack([places[1], places[0]])[None].float().expand(batch, 2, height, width)
    crops = random_resized_crop(size, scale)(images, generator(4)).double()
    near, far = size // 4, size - 1 - size // 4
    x, y = crops[:, 0, size // 2, [near, far]], crops[:, 1, [near, far], size // 2]
    step_x, step_y = ((v[:, 1] - v[:, 0]) / (far - near) for v in (x, y))
    left = x[:, 0] + 0.5 - (near + 0.5) * step_x
    top = y[:, 0] + 0.5 - (near + 0.5) * step_y
    return (left, top, step_x * size, step_y * size), crops


def test_a_crop_is_a_box_inside_the_image_read_bilinearly():
    height, width, size = 20, 32, 16
    (left, top, w, h), crops = boxes(height, width, size, (0.1, 1), batch=200)
    assert crops.shape == (200, 2, size, size)
    for low, length, whole in ((left, w, width), (top, h, height)):
        assert (low > -1e-3).all()
        assert (low + length < whole + 1e-3).all()
    at = torch.arange(size) + 0.5
    x = (left[:, None] + at * w[:, None] / size - 0.5).clamp(0, width - 1)
    y = (top[:, None] + at * h[:, None] / size - 0.5).clamp(0, height - 1)
    torch.testing.assert_close(crops[:, 0], x[:, None].expand(-1, size, -1), rtol=0, atol=2e-3)
    torch.testing.assert_close(crops[:, 1], y[:, :, None].expand(-1, -1, size), rtol=0, atol=2e-3)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.6, 1.0), (0.3, 0.3)])
def test_boxes_are_distributed_as_torchvisions(scale):
    """Area, shape and place of the box: quantiles of 4,000, torchvision's rounded to pixels."""
    height, width = 300, 200  # large, so that the rounding is little
    (left, top, w, h), _ = boxes(height, width, 8, scale)
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    drawn = [RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(4000)]
    t, s, th, tw = torch.tensor(drawn, dtype=torch.float64).T
    share = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98], dtype=torch.float64)
    pairs = {
        "area": (w * h / (height * width), tw * th / (height * width)),
        "shape": ((w / h).log(), (tw / th).log()),
        "left": (left / width, s / width),
        "top": (top / height, t / height),
    }
    for name, (ours, theirs) in pairs.items():
        gap = (ours.quantile(share) - theirs.quantile(share)).abs().max()
        assert gap < 0.03, (name, float(gap))


def test_where_no_box_fits_it_is_the_largest_in_the_middle():
    """A wide image and the whole area: a box of 4 to 3, as tall as the image."""
    found, _ = boxes(24, 80, 16, (1.0, 1.0), batch=50)
    for value, expected in zip(found, (24.0, 0.0, 32.0, 24.0), strict=True):
        torch.testing.assert_close(value, torch.full_like(value, expected), rtol=0, atol=1e-2)


def test_impossible_crops_are_refused():
    for scale in ((0, 1), (0.5, 0.4), (0.5, 1.1)):
        with pytest.raises(ValueError, match="the lower first"):
            random_resized_crop(8, scale)
