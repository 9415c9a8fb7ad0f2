"""Training on several processes: `torchrun --nproc_per_node N -m early_exit.train ...`.

Every process walks the same global batches and takes each N-th row of them, so that N processes
take the steps of one process with the same --batch_size, to rounding. What is exact and what not:

- losses, gradients, L2W's weights, its pseudo-step and its meta-gradient are those of the global
  batch: sums are added over the processes and divided once;
- a last batch of fewer than 2 samples a process (l2w: 4) is left out, so that which batches there
  are may hang on the number of processes;
- batch norm in train mode normalises by each process's own rows, as DistributedDataParallel has
  it, and process 0's running statistics are everybody's. A network without batch norm (vit) is the
  same on any number of processes; one with it is the average of N networks that share weights.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


class Workers:
    """This process among its peers: rank of world. Without torchrun it is alone."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))

    def start(self, device: torch.device) -> torch.device:
        """Join the others; returns this process's device."""
        if self.world == 1:
            return device
        if device.type == "cuda":
            device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return device

    def share(self, x: Tensor, first: int = 0) -> Tensor:
        """This process's rows of a stretch [B, ...] that begins at row `first` of the batch."""
        return x[self._offset(self.rank, first) :: self.world]

    def _offset(self, rank: int, first: int) -> int:
        return (rank - first) % self.world

    def gather(self, x: Tensor, first: int = 0) -> Tensor:
        """The whole stretch [B, ...] from every process's rows of it. No gradient passes."""
        if self.world == 1:
            return x.detach()
        counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
        counts = [int(c) for c in counts]
        padded = x.new_zeros((max(counts), *x.shape[1:]))
        padded[: len(x)] = x.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        whole = x.new_empty((sum(counts), *x.shape[1:]))
        for rank, (part, count) in enumerate(zip(parts, counts, strict=True)):
            whole[self._offset(rank, first) :: self.world] = part[:count]
        return whole

    def add(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor summed over the processes."""
        if self.world == 1:
            return tensors
        flat = torch.cat([t.detach().flatten() for t in tensors.values()])
        dist.all_reduce(flat)
        parts = flat.split([t.numel() for t in tensors.values()])
        return {
            name: part.view_as(t) for (name, t), part in zip(tensors.items(), parts, strict=True)
        }

    def differ(self) -> None:
        """Give each process random numbers of its own (dropout), from the seed that they share."""
        if self.rank:
            torch.manual_seed(torch.initial_seed() + (self.rank << 40))

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def stop(self) -> None:
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
