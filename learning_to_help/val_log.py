"""Risk and accuracy of the cascades on val during training, and the bytes sent so far."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from data import FeatureBatches, ImageBatches
from deferral import risk, rules
from learning_to_help.settings import Setting
from learning_to_help.steps import Rejectors
from models.inference import predict, predict_each

KINDS = {"step": np.int64, "seconds": np.float64, "risk": np.float32, "accuracy": np.float32}
KINDS |= {"bytes": np.int64}


class Progress:
    """The arrays progress_* of deferral.predictions, one row for each evaluation on val.

    Every rejector decides by its own rule (REMOTE iff its score > 0); the current edge, not the
    rejector's copy of it, answers what is sent. val is evaluated after every `every` batches since
    the start, or at the end of each epoch if `every` is None. seconds is the training time of the
    one pass that trains all settings, from the start and across resumes, without evaluations. The
    risk of a rejector that does not know the costs is nan.
    """

    def __init__(
        self,
        settings: Sequence[Setting],
        local_logits: Tensor,
        val: ImageBatches,
        every: int | None,
        edge_val: ImageBatches | FeatureBatches | None = None,
    ):
        self.settings, self.val, self.every = settings, val, every
        self.edge_val = edge_val or val
        self.labels = val.labels.cpu()
        self.local_correct = local_logits.argmax(-1).cpu() == self.labels
        self.rows: dict[str, list] = {kind: [] for kind in KINDS}
        self.seconds = 0.0

    def start(self) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def stop(self, rejectors: Rejectors) -> None:
        """Stop the clock."""
        next(rejectors.net.parameters()).sum().item()  # reading a value waits for the device
        self.seconds += time.perf_counter() - self.started

    def after_batch(self, edge: torch.nn.Module, rejectors: Rejectors) -> None:
        if self.every and rejectors.copies.step % self.every == 0:
            self.stop(rejectors)
            self.evaluate(edge, rejectors)
            self.start()

    def after_epoch(self, edge: torch.nn.Module, rejectors: Rejectors) -> Tensor:
        """The edge's logits [Nv, K] on val; call `stop` first."""
        return predict(edge, self.edge_val) if self.every else self.evaluate(edge, rejectors)

    def evaluate(self, edge: torch.nn.Module, rejectors: Rejectors) -> Tensor:
        """Append a row to every array; returns the edge's logits [Nv, K] on val."""
        if self.edge_val is self.val:  # one pass: each image is read once
            edge_logits, pair_logits = predict_each([edge, rejectors.net], self.val)
        else:
            edge_logits, pair_logits = (
                predict(edge, self.edge_val),
                predict(rejectors.net, self.val),
            )
        edge_correct = edge_logits.argmax(-1).cpu() == self.labels
        correct = torch.stack([self.local_correct, edge_correct]).numpy()
        pairs = pair_logits.cpu().numpy()  # [R, Nv, 2]
        risks, accuracies = [], []
        for setting, pair in zip(self.settings, pairs, strict=True):
            stop = rules.threshold(pair[:, 1] - pair[:, 0], 0.0)
            accuracies.append(risk.accuracy(correct, stop))
            costs = setting.costs
            risks.append(risk.risk(correct, stop, *risk.costs(*costs)) if costs else np.nan)
        sent = [rejectors.copies.bytes_sent(s.async_freq) for s in self.settings]
        row = (rejectors.copies.step, self.seconds, risks, accuracies, sent)
        for kind, value in zip(KINDS, row, strict=True):
            self.rows[kind].append(np.array(value, KINDS[kind]))
        return edge_logits

    def arrays(self) -> dict[str, np.ndarray]:
        """progress_step and progress_seconds [P], progress_risk, _accuracy and _bytes [P, R]."""
        width = {"step": (), "seconds": ()}
        return {
            f"progress_{kind}": np.array(rows, KINDS[kind]).reshape(
                len(rows), *width.get(kind, (len(self.settings),))
            )
            for kind, rows in self.rows.items()
        }

    def state(self) -> dict:
        arrays = {k: torch.from_numpy(v) for k, v in self.arrays().items()}
        return {"progress": arrays | {"seconds": self.seconds}}

    def load(self, state: dict) -> None:
        saved = state["progress"]
        self.seconds = saved["seconds"]
        self.rows = {kind: list(saved[f"progress_{kind}"].numpy()) for kind in KINDS}
