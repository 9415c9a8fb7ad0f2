"""State to resume from in the middle of an epoch: written every few minutes, and continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from experiment.command_line import progress
from experiment.machine import random_state, set_random_state
from experiment.parallel import ALONE, Workers

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class WithinEpoch:
    """The batches of each epoch, from the one at which a killed run goes on.

    save(epoch, within) writes the state to resume from, with the entry `within` in it; process 0
    calls it between two batches when `minutes` have passed since the last call or the start of the
    epoch. state: what `Run.start` returned, the same in all processes. Without arguments nothing is
    saved or continued. ValueError for a state of another number of processes.

    seconds: what the epoch had taken when its state was written; 0 unless it is continued.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        state: dict[str, Any] | None = None,
        save: Callable[[int, dict[str, Any]], None] | None = None,
        minutes: float | None = None,
        workers: Workers = ALONE,
    ):
        self.device, self.save, self.minutes, self.workers = device, save, minutes, workers
        self.kept = (state or {}).get("within", {})
        self.seconds = 0.0
        saved_by = len(self.kept.get("processes", ())) or workers.world
        if saved_by != workers.world:
            raise ValueError(
                f"--resume: {saved_by} processes saved the state in the middle of an epoch, and "
                f"{workers.world} cannot continue it; start {saved_by}"
            )

    @property
    def first(self) -> int:
        """The batch that the next epoch begins at, counted from 0."""
        return self.kept.get("batch", 0)

    def steps(
        self, batches: Any, epoch: int, label: str, sums: dict[str, Tensor]
    ) -> Iterator[tuple[int, Any]]:
        """Yield (number, batch) of an epoch of data.Steps, with a progress bar.

        sums: what the epoch adds up in place, as its losses. They, torch's random state and the
        augmentation's are saved, and restored before the first batch of an epoch that is continued.
        """
        kept, self.kept = self.kept, {}
        first, self.seconds = kept.get("batch", 0), kept.get("seconds", 0.0)
        mine = kept["processes"][self.workers.rank] if kept else {}
        if mine:
            set_random_state(mine["random"], self.device)
            for name, value in sums.items():
                value.copy_(mine["sums"][name])
        begun = saved = time.monotonic()
        left = batches.epoch(epoch, first, mine.get("augment"))
        bar = progress(left, len(batches), label, first)
        for i, batch in enumerate(bar, first):
            yield i, batch
            if self.minutes is None or self.save is None or i + 1 == len(batches):
                continue
            due = time.monotonic() - saved >= 60 * self.minutes
            if self.workers.of_first(due):
                saved = time.monotonic()
                mine = {
                    "sums": sums,
                    "random": random_state(self.device),
                    "augment": batches.augment_state,
                }
                processes = self.workers.to_first(mine)
                if processes:
                    seconds = self.seconds + saved - begun
                    self.save(epoch, {"batch": i + 1, "seconds": seconds, "processes": processes})
                saved = time.monotonic()
