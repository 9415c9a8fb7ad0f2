"""Training on several processes: `torchrun --nproc_per_node N -m early_exit.train ...`.

All processes iterate over the same global batches and each takes every N-th row, so that N
processes take the steps of one process with the same --batch_size, up to rounding. In detail:

- losses, gradients, L2W's weights, its pseudo-step and its meta-gradient are those of the global
  batch: sums are added over the processes and divided once;
- a last batch of fewer than 2 samples a process (l2w: 4) is skipped, so the batches of an epoch may
  depend on the number of processes;
- batch norm in train mode normalises by each process's own rows, as in DistributedDataParallel,
  and all processes use the running statistics of process 0. A network without batch norm (vit)
  trains the same on any number of processes; one with batch norm does not.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor

from models.exit_net import ExitNet


class Workers:
    """The processes that train together: this one is `rank` of `world`; 0 of 1 without torchrun."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))

    def start(self, device: torch.device) -> torch.device:
        """Join the process group; returns this process's device."""
        if self.world == 1:
            return device
        if device.type == "cuda":
            device = torch.device("cuda", self.local_rank)
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return device

    def share(self, x: Tensor, first: int = 0) -> Tensor:
        """This process's share of rows [B, ...], which start at row `first` of a batch."""
        return x[self._offset(self.rank, first) :: self.world]

    def _offset(self, rank: int, first: int) -> int:
        return (rank - first) % self.world

    def gather(self, x: Tensor, first: int = 0) -> Tensor:
        """The inverse of `share`: all rows [B, ...] from each process's rows. No gradient."""
        if self.world == 1:
            return x.detach()
        sizes = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(x)], device=x.device))
        counts = [int(size) for size in sizes]
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
        """Seed each process differently (for dropout), derived from the shared seed."""
        if self.rank:
            torch.manual_seed(torch.initial_seed() + (self.rank << 40))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def stop(self) -> None:
        """Leave the process group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def has_unused_parameters(net: ExitNet, size: int) -> bool:
    """Whether no exit uses some parameter, as in the last finer maps of a shallow MSDNet."""
    inputs = net.example(size).to(next(net.parameters()).device)
    params = list(net.parameters())
    net.eval()  # so that running statistics do not change
    logits = torch.stack(net(inputs)).sum()
    net.train()
    return any(g is None for g in torch.autograd.grad(logits, params, allow_unused=True))
