"""What every network of a run says of val and test: the arrays of predictions.npz."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import data
from learning_to_help import estimators
from learning_to_help.amortized import student_logits
from models.inference import predict_each
from models.localnet import LocalNet
from models.rejector import StackedRejectors

SETTING = ("async_freq", "cost_1", "cost_e", "surrogate", "seed")
LINK = ("refreshes", "bytes_sent", "outages")
EXAMPLES = 256  # test images kept for figures


def predict_parts(
    dataset: Any, nets: list[nn.Module], batch_size: int, device: torch.device
) -> list[np.ndarray]:
    """Logits [N, K] of each net, or [R, N, 2] of stacked rejectors, on val and then test."""
    nets = [net.to(device) for net in nets]
    parts = [data.image_batches(part, batch_size, device) for part in (dataset.val, dataset.test)]
    both = [predict_each(nets, batches) for batches in parts]
    return [torch.cat(pair, dim=-2).cpu().numpy() for pair in zip(*both, strict=True)]


def predict_all(
    dataset: Any,
    edge: nn.Module,
    local: nn.Module | None,
    rejectors: list[nn.Module],
    batch_size: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz: all nets predict val and test in one pass, in that order."""
    parts, nets = (dataset.val, dataset.test), [net for net in (local, edge) if net is not None]
    stack: list[nn.Module] = [StackedRejectors(rejectors)] if rejectors else []
    stages = predict_parts(dataset, nets + stack, batch_size, device)
    count, val = sum(len(part.labels) for part in parts), len(dataset.val.labels)
    scores = np.zeros((0, count), np.float32)
    if rejectors:
        pairs = stages.pop()
        scores = pairs[..., 1] - pairs[..., 0]
    # Spread evenly over the test set, which may be sorted by class.
    shown = np.unique(np.linspace(0, count - val - 1, EXAMPLES).astype(int))
    return {
        "labels": torch.cat([part.labels for part in parts]).numpy(),
        "stage_logits": np.stack(stages).astype(np.float32),
        "split": np.repeat(np.array([0, 1], np.int8), [val, count - val]),
        "index": torch.cat([part.index for part in parts]).numpy(),
        "scores": scores.astype(np.float32),
        "example_index": shown + val,
        "example_images": data.pixels_of(dataset.test, torch.from_numpy(shown)).numpy(),
    }


def split_rejectors(
    arrays: dict[str, np.ndarray], rejectors: dict[str, dict[str, Any]]
) -> tuple[dict[str, dict], list[dict]]:
    """Settings of the rejectors that know the costs, by stem, and of those that estimate.

    Leaves the former in arrays["scores"] and puts the latter, if any, into arrays["estimates"].
    """
    scores, size = arrays["scores"], estimators.image_rejector_cost()
    with_costs = [k for k, c in enumerate(rejectors.values()) if c["cost_1"] is not None]
    costed = {
        stem: {k: c[k] for k in (*SETTING, *LINK)} | size
        for stem, c in rejectors.items()
        if c["cost_1"] is not None
    }
    local = torch.from_numpy(arrays["stage_logits"][0])
    estimated = [
        estimators.cost_free(torch.from_numpy(score), local, c)
        for score, c in zip(scores, rejectors.values(), strict=True)
        if c["cost_1"] is None
    ]
    arrays["scores"] = scores[with_costs]
    if estimated:
        arrays["estimates"] = np.stack([estimates.numpy() for estimates, _ in estimated])
    return costed, [setting for _, setting in estimated]


def predict_later(
    arrays: dict[str, np.ndarray],
    costed: dict[str, dict],
    later: dict[str, dict[str, Any]],
    local: LocalNet,
    dataset: Any,
    batch_size: int,
    device: torch.device,
) -> tuple[list[dict], list[str]]:
    """Add what the rejectors of train_rejector.py say to the arrays.

    Returns settings of those that estimate, and the names of those whose students are on the image
    alone and so classify by themselves.
    """
    parts = dataset.val, dataset.test
    batches = [data.image_batches(part, batch_size, device) for part in parts]
    estimating, students = [], {}
    for stem, checkpoint in later.items():
        net = estimators.build(checkpoint, stem).to(device)
        if checkpoint["amortized"]:
            estimates, setting = estimators.amortized(net, local, batches, checkpoint)
            before = arrays.get("estimates", np.zeros((0, *estimates.shape), np.float32))
            arrays["estimates"] = np.concatenate([before, estimates.cpu().numpy()[None]])
            if net.on_image:
                students[setting["name"]] = student_logits(net, batches).cpu().numpy()
            estimating.append(setting)
        if "per_cost" in checkpoint:
            scores, settings = estimators.per_cost(net, local, batches, checkpoint, stem)
            arrays["scores"] = np.concatenate([arrays["scores"], scores.cpu().numpy()])
            costed |= {setting.pop("stem"): setting for setting in settings}
    if students:
        arrays["student_logits"] = np.stack([*students.values()])
    return estimating, [*students]
