"""The files of a trained target, and how a network computes.

    SAVE_DIR/nets/{dataset}/{target}/{digest of the labelled rows}/
        args.json metrics.jsonl     the settings, and a line an epoch
        net.pth                     the weights
        votes.npz                   votes [E, M]: classes of the unlabelled rows after each of the
                                    last epochs, if a method needs them
        predictions.npz             logits of val and test, see deferral.predictions
        net.json                    accuracies and cost; written last

A network depends on its labels and settings only. It is stored by its labels and so trained once,
however many methods and numbers of targets have these labels: all share those of round 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import data
import experiment
from active_learning.index_sets import IndexSet
from active_learning.options import Study
from active_learning.target_models import Target
from deferral import predictions as saved
from models.features import with_features
from models.weights import fill

EVAL_BATCH = 500


class Numbers(NamedTuple):
    """How a network computes: on which device, with bf16 autocast, in channels-last memory."""

    device: torch.device
    bf16: bool
    channels_last: bool

    def place(self, net: nn.Module) -> nn.Module:
        """The network on the device, in its memory format."""
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        return net.to(self.device).to(memory_format=memory_format)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def numbers_of(bf16: bool | None, channels_last: bool | None, device: torch.device) -> Numbers:
    """By default bf16 on CUDA only, and channels last everywhere but on mps.

    On a CPU mobilenet_v3_small trains 2.4 times faster in channels-last memory (batch 60, 32 px).
    """
    return Numbers(
        device,
        device.type == "cuda" if bf16 is None else bf16,
        device.type != "mps" if channels_last is None else channels_last,
    )


def folder(study: Study, target: Target, labels: IndexSet) -> Path:
    return study.root / "nets" / study.dataset.name / target.name / labels.digest


def eval_batches(target: Target, part: data.Part, device: torch.device) -> data.Batches:
    """The part in its own order, normalised as the target's training images are."""
    mean, std = pixel_stats(target)
    return data.Batches(part, EVAL_BATCH, device, mean=mean, std=std)


def pixel_stats(
    target: Target,
) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """Mean and std that images are normalised with: ImageNet's for published weights."""
    if target.pretrained:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return 0.5, 0.5


def part_of(part: data.Part, rows: np.ndarray) -> data.Part:
    """Some rows of a part, on the part's device."""
    index = torch.from_numpy(rows).to(part.labels.device)
    return data.Part(*(values[index] for values in part))


def on_device(part: data.Part, device: torch.device) -> data.Part:
    return data.Part(*(values.to(device) for values in part))


def logits(net: nn.Module, batches: data.Batches, numbers: Numbers) -> Tensor:
    """Logits [N, K] in eval mode: float32, on the device."""
    return _forward(net, net, batches, numbers)


def features(net: nn.Module, batches: data.Batches, numbers: Numbers) -> Tensor:
    """Inputs of the last layer [N, D] in eval mode: float32, on the device."""
    return _forward(lambda images: with_features(net, images)[1], net, batches, numbers)


@torch.no_grad()
def _forward(
    compute: Callable[[Tensor], Tensor], net: nn.Module, batches: data.Batches, numbers: Numbers
) -> Tensor:
    mode = net.training
    net.eval()
    outputs = []
    for _, images, _ in batches:
        if numbers.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with numbers.autocast():
            output = compute(images)
        outputs.append(output.float())
    net.train(mode)
    return torch.cat(outputs)


class Trained(NamedTuple):
    """A target trained on a set of labels."""

    folder: Path
    target: Target
    about: dict[str, Any]  # net.json

    def net(self, num_classes: int) -> nn.Module:
        """The network with its weights; ValueError where they do not fit."""
        path = self.folder / "net.pth"
        if not path.exists():
            raise ValueError(f"{path}: deleted by --forget; train_net --overwrite trains it again")
        checkpoint = experiment.load_checkpoint(path, self.about["sha256"])
        net = self.target.build(num_classes, 0)
        return fill(net, checkpoint["state_dict"], str(path), self.target.name)

    def votes(self, size: int) -> np.ndarray:
        """[E, M]; ValueError if there are none, or not of `size` samples."""
        path = self.folder / "votes.npz"
        try:
            votes = saved.read_npz(path, ("votes",))["votes"]
        except (FileNotFoundError, KeyError):
            raise ValueError(
                f"{path}: no votes; python -m active_learning.train_net --mDIS --overwrite"
            ) from None
        if votes.ndim != 2 or votes.shape[1] != size:
            raise ValueError(f"{path}: votes {votes.shape} of a pool of {size}; --overwrite")
        return votes

    def predictions(self) -> saved.Predictions:
        return saved.load(self.folder / "predictions.npz")


def find(study: Study, target: Target, labels: IndexSet) -> Trained:
    """The trained target; ValueError if it was not trained, or is another network of that name."""
    path = folder(study, target, labels)
    try:
        about = json.loads((path / "net.json").read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path}: {target.name} was not trained on these labels; "
            "run python -m active_learning.train_net"
        ) from None
    except json.JSONDecodeError:
        raise ValueError(f"{path}/net.json: not JSON; train_net --overwrite") from None
    if about.get("target") != json.loads(json.dumps(target.settings)):
        raise ValueError(
            f"{path}: is another network called {target.name}, or of another --init; rename one of "
            "them, or use another --save_dir"
        )
    if about.get("data") != study.fingerprint or about.get("seed") != study.seed:
        raise ValueError(f"{path}: of other data or another seed; use another --save_dir")
    return Trained(path, target, about)


def digests(study: Study, labels: IndexSet) -> dict[str, str]:
    """SHA-256 of the weights of the T targets trained on these labels, by name."""
    paths = [folder(study, t, labels) / "net.json" for t in study.targets[: study.model_num]]
    return {
        path.parent.parent.name: experiment.read_json(path)["sha256"]
        for path in paths
        if path.exists()
    }
