"""Random changes to a batch of images on its device, for `Batches(augment=...)`."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PAD = 4  # pixels an image may be shifted by, as is usual for CIFAR (He et al., 2016)
RATIO = (3 / 4, 4 / 3)  # lowest and highest width over height of a random crop


def flip_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and shift each by up to `PAD` pixels both ways: [B, C, H, W].

    What a shift uncovers is the image's own reflection. Not for data whose mirror image means
    something else (digits, text).
    """
    batch, channels, height, width = images.shape
    device = images.device
    mirrored = torch.rand(batch, 1, 1, 1, generator=generator, device=device) < 0.5
    padded = F.pad(torch.where(mirrored, images.flip(3), images), [PAD] * 4, mode="reflect")
    shifts = torch.randint(2 * PAD + 1, (2, batch, 1), generator=generator, device=device)
    rows = shifts[0] + torch.arange(height, device=device)
    columns = shifts[1] + torch.arange(width, device=device)
    image = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_resized_crop(
    size: int, scale: tuple[float, float] = (0.08, 1.0)
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """An augmentation to [B, C, size, size]: a random box of each image, resized.

    The box's share of the area is uniform in `scale`, the logarithm of its width over its height
    in that of `RATIO`, its place uniform (Szegedy et al., 2015). Boxes that stick out are drawn
    again, up to ten times; then it is the largest in the middle, as torchvision does. Boxes need
    not begin at a whole pixel, and are read bilinearly, without smoothing where they shrink.
    """
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale {scale}: give two numbers in (0, 1], the lower first")

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        batch, channels, height, width = images.shape
        u = torch.rand(4, batch, 10, generator=generator, device=images.device)
        area = scale[0] + (scale[1] - scale[0]) * u[0]
        low, high = math.log(RATIO[0]), math.log(RATIO[1])
        shape = torch.exp(low + (high - low) * u[1])
        # Sides as shares of the image's own: wide * high = area, (wide * W) / (high * H) = shape.
        wide = (area * shape * height / width).sqrt()
        tall = area / wide
        fits = (wide <= 1) & (tall <= 1)
        valid, first = fits.any(1), fits.int().argmax(1)[:, None]
        wide, tall, x, y = (v.gather(1, first)[:, 0] for v in (wide, tall, u[2], u[3]))
        whole = min(max(width / height, RATIO[0]), RATIO[1]) * height / width  # wide over tall
        wide = torch.where(valid, wide, min(1.0, whole))
        tall = torch.where(valid, tall, min(1.0, 1 / whole))
        x, y = torch.where(valid, x, 0.5), torch.where(valid, y, 0.5)
        theta = images.new_zeros(batch, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1] = wide, tall
        theta[:, 0, 2], theta[:, 1, 2] = (1 - wide) * (2 * x - 1), (1 - tall) * (2 * y - 1)
        grid = F.affine_grid(theta, [batch, channels, size, size], align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    return augment


AUGMENTATIONS = {"none": None, "flip_crop": flip_crop}
