"""Training on several processes: `torchrun --nproc_per_node N SCRIPT ...`.

All processes iterate over the same global batches and each computes every N-th row, so that N
processes take the steps of one process with the same --batch_size, up to rounding. In detail:

- losses and gradients are those of the global batch: sums are added over the processes and divided
  once. This holds for L2W's weights, its pseudo-step and its meta-gradient too;
- batch norm in train mode normalises by each process's own rows, as in DistributedDataParallel,
  and all processes use the running statistics of process 0. Dropout draws other units in each
  process. A network with neither trains the same on any number of processes, others do not;
- a last batch of fewer than 2 samples a process is computed whole by every process in learning to
  help. early_exit.train skips it (l2w: fewer than 4 samples), so its batches of an epoch may depend
  on the number of processes.

Process 0 evaluates val, writes all files and prints. The data and the run directory must have the
same path on every host.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiment.command_line import error_line, fail, one_line_errors
from experiment.machine import pick_device

T = TypeVar("T")

LEAST = 2  # samples of a process in a shared batch


class Workers:
    """The processes that work together: this one is `rank` of `world`, and `local_rank` of the
    `local_world` on its host. `Workers()` is one process alone.

    As a context manager it joins the process group and leaves it at the end; within, processes
    other than 0 print nothing on stdout.
    """

    def __init__(self, rank: int = 0, world: int = 1, local_rank: int = 0, local_world: int = 1):
        self.rank, self.world = rank, world
        self.local_rank, self.local_world = local_rank, local_world

    @classmethod
    def of_torchrun(cls) -> Workers:
        """As torchrun's environment says; without torchrun one process alone."""
        names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        return cls(*(int(os.environ.get(name, value)) for name, value in names.items()))

    def __enter__(self) -> Workers:
        self._leave = contextlib.ExitStack()
        if self.world > 1:
            with_gpus = torch.cuda.is_available()
            # torchrun may keep its store when it starts a job again: without a prefix, gloo would
            # find the addresses of processes that have ended.
            store, rank, world = next(dist.rendezvous("env://"))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if with_gpus else "gloo",
                store=dist.PrefixStore(f"attempt-{attempt}", store),
                rank=rank,
                world_size=world,
            )
            self._leave.callback(dist.destroy_process_group)
        if self.rank:
            nowhere = self._leave.enter_context(open(os.devnull, "w"))
            self._leave.enter_context(contextlib.redirect_stdout(nowhere))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.wait()
        self._leave.close()
        if self.world > 1:
            # gloo's threads outlive their group. They need the interpreter to free the last
            # tensors that they had, and abort the process if it has begun to end by then.
            time.sleep(0.2)

    def pick_device(self, name: str) -> torch.device:
        """experiment.pick_device, but each process on a host has the GPU of its local rank.

        ValueError if the host has fewer GPUs than processes, or for a device that they cannot use.
        """
        if self.world > 1 and torch.cuda.is_available() and name in ("best", "cuda"):
            gpus = torch.cuda.device_count()
            if self.local_world > gpus:
                raise ValueError(
                    f"{self.local_world} processes and {gpus} GPUs on this host: give torchrun "
                    f"--nproc_per_node {gpus}"
                )
            torch.cuda.set_device(self.local_rank)
            name = f"cuda:{self.local_rank}"
        elif self.world > 1 and name not in ("best", "cpu"):
            raise ValueError(f"--device {name}: under torchrun give cuda or cpu, without a number")
        elif self.world > 1:
            name = "cpu"
        return pick_device(name)

    @contextlib.contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """experiment.one_line_errors, but if one process fails, all end, and one line is printed.

        Every process must come to the end of the block, so nothing in it may wait for the others.
        """
        if self.world == 1:
            with one_line_errors():
                yield
            return
        message = None  # None: no error; "": the process has printed its line already
        try:
            yield
        except (OSError, ValueError) as e:
            message = error_line(e)
        except SystemExit:
            message = ""
        messages: list[str | None] = [None] * self.world
        dist.all_gather_object(messages, message)
        failed = [rank for rank, m in enumerate(messages) if m is not None]
        if failed and messages[failed[0]] and self.rank == failed[0]:
            fail(str(message))
        if failed:
            raise SystemExit(2)

    def of_first(self, value: T) -> T:
        """The value that process 0 passes."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def to_first(self, value: T) -> list[T] | None:
        """In process 0 the value that each process passes, by rank; None in the others."""
        if self.world == 1:
            return [value]
        values: list[Any] | None = None if self.rank else [None] * self.world
        dist.gather_object(value, values)
        return values

    def sharing(self, batch_size: int) -> dict[str, int]:
        """Arguments of data.Batches that share batches, but leave small last ones whole.

        ValueError if a batch has fewer than 2 samples a process, which batch norm needs.
        """
        if self.world > 1 and batch_size < LEAST * self.world:
            raise ValueError(
                f"--batch_size {batch_size}: is shared by {self.world} processes; give "
                f"{LEAST * self.world} or more"
            )
        return {"rank": self.rank, "world": self.world, "least": LEAST}

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
        return dict(zip(tensors, _parts(flat, [*tensors.values()]), strict=True))

    def average(self, parameters: Iterable[nn.Parameter], losses: Tensor, count: int) -> Tensor:
        """Turn means over this process's `count` samples into means over all samples.

        In place for the gradients of `parameters`; losses [...] are returned. Samples that several
        processes have computed count in each of them.
        """
        if self.world == 1:
            return losses
        means = [p.grad for p in parameters if p.grad is not None] + [losses.detach()]
        flat = torch.cat([*(t.flatten() for t in means), losses.new_ones(1)]) * count
        dist.all_reduce(flat)
        *grads, average = _parts(flat[:-1] / flat[-1], means)
        torch._foreach_copy_(means[:-1], grads)
        return average

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors, in place, the values that they have in process 0."""
        of_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors if self.world > 1 else ():
            of_dtype.setdefault(tensor.dtype, []).append(tensor.detach())
        for targets in of_dtype.values():
            flat = torch.cat([t.flatten() for t in targets])
            dist.broadcast(flat, 0)
            torch._foreach_copy_(targets, _parts(flat, targets))

    def differ(self) -> None:
        """Seed each process differently (for dropout), derived from the shared seed."""
        if self.rank:
            # Mixed, since torch's generator of the CPU reads the lower 32 bits alone.
            mixed = np.random.SeedSequence([torch.initial_seed(), self.rank])
            torch.manual_seed(int(mixed.generate_state(1, np.uint64)[0]))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1))


ALONE = Workers()


def _parts(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The pieces of a flat tensor [N], in the shapes of `like`."""
    pieces = flat.split([t.numel() for t in like])
    return [piece.view(t.shape) for piece, t in zip(pieces, like, strict=True)]
