"""Rejectors that estimate P(m right | x) and P(e right | x) instead of deciding.

Two kinds: rejectors whose surrogate does not know the costs (losses/deferral.py), trained beside
the edge, and amortized rejectors (train_rejector.py), whose checkpoints may also hold one linear
rejector for each cost pair.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import experiment
from data import ImageBatches
from learning_to_help.amortized import describe_all, estimate_all
from learning_to_help.settings import cost_name
from losses.surrogates import SURROGATES
from models.amortized import AmortizedRejector
from models.cost import multiply_adds, parameters
from models.localnet import LocalNet
from models.rejector import Rejector
from models.weights import fill

INPUT_WORDS = {
    "features": "what the local net has computed",
    "image": "the image",
    "both": "the image and what the local net has computed",
}


def image_rejector_cost() -> dict[str, int]:
    """Parameters and multiply-adds of the paper's rejector, a LeNet-5 on the image."""
    net = Rejector()
    image = torch.zeros(1, 3, net.size, net.size)
    return {"parameters": parameters(net), "multiply_adds": multiply_adds(net, image)}


def cost_free(scores: Tensor, local_logits: Tensor, checkpoint: dict) -> tuple[Tensor, dict]:
    """Estimates [2, N] and settings of a rejector whose surrogate does not know the costs.

    scores [N] (logit REMOTE - logit LOCAL), local_logits [N, K]. P(m right | x) is m's max softmax,
    as in both papers. ValueError for a surrogate that knows the costs.
    """
    name, freq = checkpoint["surrogate"], checkpoint["async_freq"]
    edge_right = SURROGATES[name].edge_right
    if edge_right is None:
        raise ValueError(f"{name} knows the costs and estimates no probability")
    estimates = torch.stack([local_logits.softmax(-1).amax(-1), edge_right(scores, local_logits)])
    return estimates, {
        "name": name if freq == 1 else f"{name}, {'S = ' if freq != 'joint' else ''}{freq}",
        "about": f"{name} deferral score on the image; P(m right) is m's max softmax",
        "fitted_on": "the nets' training images",
        "seed": checkpoint["seed"],
        **image_rejector_cost(),
    }


def read(save_dir: Path, name: str, hashes: dict[str, str]) -> dict[str, dict]:
    """The checkpoints of train_rejector.py by file stem; ValueError if they need other nets.

    hashes: SHA-256 of the nets "local" and "edge" in the directory.
    """
    checkpoints = {}
    for path in experiment.RunPaths(save_dir, name).rejectors():
        checkpoint = experiment.load_checkpoint(path)
        if checkpoint.get("kind") != "amortized":
            raise ValueError(f"{path}: not a checkpoint of train_rejector.py")
        for other, digest in hashes.items():
            if checkpoint[f"{other}_sha256"] != digest:
                raise ValueError(f"{path}: needs another {other} net than the one here (SHA-256)")
        checkpoints[path.stem] = checkpoint
    return checkpoints


def build(checkpoint: dict, where: str) -> AmortizedRejector:
    """The network of a checkpoint of `read`; where: its file in an error message."""
    sizes = ("input", "num_classes", "num_features", "hidden", "net")
    net = AmortizedRejector(*(checkpoint[key] for key in sizes))
    fill(net, checkpoint["state_dict"], where, "amortized rejector")
    return net


def rejector_name(net: AmortizedRejector) -> str:
    """The input, and the network on the image unless it is the paper's: "both, small"."""
    return net.input if net.net == "lenet5" else f"{net.input}, {net.net}"


def amortized(
    net: AmortizedRejector, local: LocalNet, batches: Sequence[ImageBatches], checkpoint: dict
) -> tuple[Tensor, dict[str, Any]]:
    """Estimates [2, N] over all batches, and settings, of an amortized rejector."""
    estimates = torch.cat([estimate_all(net, local, b) for b in batches], -1)
    about = f"amortized: one rejector for all costs, on {INPUT_WORDS[net.input]}"
    keys = ("parameters", "multiply_adds", "seconds", "fitted_on", "seed")
    settings = {"name": f"amortized, {rejector_name(net)}", "about": about}
    return estimates, settings | {k: checkpoint[k] for k in keys}


def per_cost(
    net: AmortizedRejector,
    local: LocalNet,
    batches: Sequence[ImageBatches],
    checkpoint: dict,
    stem: str,
) -> tuple[Tensor, list[dict]]:
    """Scores [R, N] over all batches, and settings, of the linear rejectors for each cost pair."""
    weight, bias = checkpoint["per_cost_weight"], checkpoint["per_cost_bias"]
    described = torch.cat([describe_all(net, local, b) for b in batches])
    scores = described @ weight.T.to(described) + bias.to(described)
    settings = [
        {
            "stem": f"{stem}-{surrogate}-{cost_name(cost_1, cost_e)}",
            "async_freq": 1,  # fitted on the final edge
            "cost_1": cost_1,
            "cost_e": cost_e,
            "surrogate": f"{surrogate}, {rejector_name(net)}",
            "about": f"one a cost: linear on {INPUT_WORDS[net.input]}, by the {surrogate} loss",
            "seed": checkpoint["seed"],
            "fitted_on": checkpoint["fitted_on"],
            "parameters": checkpoint["parameters"],
            "multiply_adds": checkpoint["multiply_adds"],
        }
        for surrogate, cost_1, cost_e in checkpoint["per_cost"]
    ]
    return scores.T, settings
