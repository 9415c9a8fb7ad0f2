"""Random changes to a batch of images on its device, for `Batches(augment=...)`."""

import torch
import torch.nn.functional as F
from torch import Tensor

PAD = 4  # pixels an image may be shifted by, as is usual for CIFAR (He et al., 2016)


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
    each = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[:, None, None]
    return padded[each, channel, rows[:, None, :, None], columns[:, None, None, :]]


AUGMENTATIONS = {"none": None, "flip_crop": flip_crop}
