"""Images as bytes, kept on the device or, where they do not fit, on the host and copied over.

Both give the same bytes for the same rows; the rows are on the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


class OnDevice:
    """uint8 [N, C, H, W] kept on the device."""

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images = images.to(device)

    def take(self, rows: Tensor) -> Tensor:
        """The images of rows [M]: uint8 [M, C, H, W] on the device."""
        return self.images.index_select(0, rows)

    def chunks(self, rows: Tensor, size: int) -> Iterator[Tensor]:
        """`take` of each `size` rows in turn, the last may be fewer."""
        yield from map(self.take, rows.split(size))


class OnHost:
    """uint8 [N, C, H, W] in the host's memory, of which every row asked for is copied over.

    On CUDA a chunk is gathered into pinned memory and copied on a stream of its own while the
    device works on the chunk before. torch's pinned memory is not used again before the copies out
    of it are done (its caching host allocator sees to that), and `record_stream` keeps the copy's
    memory until what was queued when it was dropped has run. Rows are asked back from the device
    once a call, which waits for it: once an epoch in `chunks`.
    """

    def __init__(self, images: Tensor, device: torch.device) -> None:
        self.images, self.device = images.cpu(), device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def take(self, rows: Tensor) -> Tensor:
        """The images of rows [M]: uint8 [M, C, H, W] on the device."""
        return self._arrived(self._send(rows.cpu()))

    def chunks(self, rows: Tensor, size: int) -> Iterator[Tensor]:
        """`take` of each `size` rows in turn, each on its way while the one before is in use."""
        first, *others = rows.cpu().split(size)
        coming = self._send(first)
        for following in (*others, None):
            pixels = self._arrived(coming)
            if following is not None:
                coming = self._send(following)
            yield pixels

    def _send(self, rows: Tensor) -> Tensor:
        """Gather rows of the host and begin to copy them."""
        shape, pinned = (len(rows), *self.images.shape[1:]), self.stream is not None
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        torch.index_select(self.images, 0, rows, out=pixels)
        with torch.cuda.stream(self.stream) if pinned else contextlib.nullcontext():
            return pixels.to(self.device, non_blocking=pinned)

    def _arrived(self, pixels: Tensor) -> Tensor:
        """Let the device wait for the last copy that was begun; the host does not."""
        if self.stream is not None:
            working = torch.cuda.current_stream(self.device)
            working.wait_stream(self.stream)
            pixels.record_stream(working)
        return pixels
