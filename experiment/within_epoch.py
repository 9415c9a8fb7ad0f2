"""State to resume from in the middle of an epoch: written every few minutes, and continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from experiment.command_line import progress
from experiment.machine import random_state, set_random_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class WithinEpoch:
    """The batches of each epoch, from the one at which a killed run goes on.

    save(epoch, within) writes the state to resume from, with the entry `within` in it; it is called
    between two batches when `minutes` have passed since the last call or the start of the epoch.
    state: what `Run.start` returned. Without arguments nothing is saved or continued.

    seconds: what the epoch had taken when its state was written; 0 unless it is continued.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        state: dict[str, Any] | None = None,
        save: Callable[[int, dict[str, Any]], None] | None = None,
        minutes: float | None = None,
    ):
        self.device, self.save, self.minutes = device, save, minutes
        self.kept = (state or {}).get("within", {})
        self.seconds = 0.0

    @property
    def first(self) -> int:
        """The batch that the next epoch begins at, counted from 0."""
        return self.kept.get("batch", 0)

    def steps(
        self, batches: Any, epoch: int, label: str, sums: dict[str, Tensor]
    ) -> Iterator[tuple[int, Any]]:
        """Yield (number, batch) of an epoch of data.Batches, with a progress bar.

        sums: what the epoch adds up in place, as its losses. They, torch's random state and the
        augmentation's are saved, and restored before the first batch of an epoch that is continued.
        """
        kept, self.kept = self.kept, {}
        first, self.seconds = kept.get("batch", 0), kept.get("seconds", 0.0)
        if kept:
            set_random_state(kept["random"], self.device)
            for name, value in sums.items():
                value.copy_(kept["sums"][name])
        begun = saved = time.monotonic()
        left = batches.epoch(epoch, first, kept.get("augment"))
        bar = progress(left, len(batches), label, first)
        for i, batch in enumerate(bar, first):
            yield i, batch
            now = time.monotonic()
            due = self.minutes is not None and now - saved >= 60 * self.minutes
            if due and self.save and i + 1 < len(batches):
                within = {
                    "batch": i + 1,
                    "seconds": self.seconds + now - begun,
                    "sums": sums,
                    "random": random_state(self.device),
                    "augment": batches.augment_state,
                }
                self.save(epoch, within)
                saved = time.monotonic()
