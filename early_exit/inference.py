"""A trained network on a device, in the precision and memory order asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from early_exit.compact import early_exit_logits
from losses.early_exit import boosted_logits
from models.exit_net import ExitNet, State


class Inference:
    """Answers of a network's exits: f_k, or G_k = f_k + t G_(k-1) for `ensemble_reweight` t > 0.

    Moves `net` to `device`. What a method below is given and gives lies there. Call them `with
    inference.ready()`, once around many batches: autocast then casts the weights once.
    """

    def __init__(
        self,
        net: ExitNet,
        device: torch.device,
        ensemble_reweight: float = 0.0,
        *,
        bf16: bool = False,
        channels_last: bool = False,
    ):
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.net = net.eval().to(device, memory_format=self.order)
        self.last_exit = LastExit(net)
        self.device, self.bf16 = device, bf16
        self.ensemble_reweight = ensemble_reweight
        if device.type == "cuda":
            # In TF32 the rounding is a thousandth, and which kernels round so hangs on the batch
            # size: samples near a threshold would leave elsewhere in a compacted batch.
            torch.backends.cudnn.allow_tf32 = False

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """No gradients, and bfloat16 where it was asked for."""
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def exits(self, images: Tensor) -> Tensor:
        """Answering logits of all exits, float32 [E, B, K]."""
        logits = [f.float() for f in self.net(self._ordered(images))]
        return boosted_logits(logits, self.ensemble_reweight)

    def last(self, images: Tensor) -> Tensor:
        """Logits f of the last exit [B, K] by itself."""
        return self.last_exit(self._ordered(images)).float()

    def early(self, images: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Exit [B] and logits [B, K] that answer, with compaction (`early_exit_logits`)."""
        images = self._ordered(images)
        return early_exit_logits(self.net, images, thresholds, self.ensemble_reweight)

    def predict(self, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Iterator[Tensor]:
        """`exits` of each batch (rows, images, labels), on the CPU."""
        with self.ready():
            for _, images, _ in batches:
                yield self.exits(images).cpu()

    def _ordered(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.order)


class LastExit(nn.Module):
    """A network with exits as one without: its last exit, the heads before it not computed."""

    def __init__(self, net: ExitNet):
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        state: State = images
        for k in range(self.net.num_exits):
            state = self.net.block(k, state)
        return self.net.head(self.net.num_exits - 1, state)
