"""Where a trained target is kept, and what is read from it.

    SAVE_DIR/nets/{dataset}/{target}/{digest of the labelled rows}/
        args.json metrics.jsonl     the settings, and a line an epoch
        net.pth                     the weights
        votes.npz                   votes [E, M], epochs [E]: classes of the unlabelled rows after
                                    each of the last epochs, where a method needs them
        predictions.npz             logits of val and test, as deferral.predictions has them
        net.json                    accuracies and cost; written last

A network hangs on its labels and settings only. Kept by the labels, it is trained once, however
many methods and numbers of targets come to these labels: all share those of round 0.
"""

from __future__ import annotations

import json
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
    """How a device computes: bf16 autocast, maps channels last."""

    device: torch.device
    bf16: bool
    channels_last: bool

    def place(self, net: nn.Module) -> nn.Module:
        """The network on the device, in its memory format."""
        last = torch.channels_last if self.channels_last else torch.contiguous_format
        return net.to(self.device, memory_format=last)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def numbers_of(args, device: torch.device) -> Numbers:
    """--bf16, on CUDA if not given; --channels_last, everywhere but on mps.

    On a CPU mobilenet_v3_small trains 2.4 times faster with maps channels last (batch 60, 32 px).
    """
    usual = {"bf16": device.type == "cuda", "channels_last": device.type != "mps"}
    given = {name: getattr(args, name) for name in usual}
    return Numbers(device, **{k: usual[k] if v is None else v for k, v in given.items()})


def folder(study: Study, target: Target, labels: IndexSet) -> Path:
    return study.root / "nets" / study.dataset.name / target.name / labels.digest


def pixel_stats(target: Target) -> dict[str, tuple[float, ...] | float]:
    """Mean and std that images are normalised with: ImageNet's for published weights."""
    if target.pretrained:
        return {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return {"mean": 0.5, "std": 0.5}


def part_of(part: data.Part, rows: np.ndarray) -> data.Part:
    """Some rows of a part, on the part's device."""
    index = torch.from_numpy(rows).to(part.labels.device)
    return data.Part(*(values[index] for values in part))


def on_device(part: data.Part, device: torch.device) -> data.Part:
    return data.Part(*(values.to(device) for values in part))


@torch.no_grad()
def forward(
    net: nn.Module, batches: data.Batches, numbers: Numbers, features: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Logits [N, K] and, where asked for, features [N, D] in eval mode: float32, on the device."""
    mode = net.training
    net.eval()
    logits, feats = [], []
    for _, images, _ in batches:
        if numbers.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with numbers.autocast():
            if features:
                out, seen = with_features(net, images)
                feats.append(seen.float())
            else:
                out = net(images)
        logits.append(out.float())
    net.train(mode)
    return torch.cat(logits), torch.cat(feats) if features else None


class Trained(NamedTuple):
    """A target that was trained on a set of labels."""

    folder: Path
    target: Target
    about: dict[str, Any]  # net.json

    def net(self, num_classes: int) -> nn.Module:
        """The network with its weights; ValueError where they do not fit."""
        path = self.folder / "net.pth"
        if not path.exists():
            raise ValueError(f"{path}: was forgotten; train_net --overwrite makes it again")
        checkpoint = experiment.load_checkpoint(path, self.about["sha256"])
        net = self.target.build(num_classes, 0)
        return fill(net, checkpoint["state_dict"], str(path), self.target.name)

    def votes(self, size: int) -> np.ndarray:
        """[E, M]; ValueError where none were kept, or not of `size` samples."""
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
    """The trained target; ValueError where it is not, or with another network of that name."""
    path = folder(study, target, labels)
    try:
        about = json.loads((path / "net.json").read_text())
    except FileNotFoundError:
        raise ValueError(
            f"{path}: {target.name} was not trained on these labels; "
            "python -m active_learning.train_net does it"
        ) from None
    except json.JSONDecodeError:
        raise ValueError(f"{path}/net.json: not JSON; train_net --overwrite") from None
    if about.get("target") != json.loads(json.dumps(target.settings)):
        raise ValueError(
            f"{path}: is another network called {target.name}, or of another --init; rename one of "
            "them, or use another --save_dir"
        )
    if about.get("data") != study.data or about.get("seed") != study.seed:
        raise ValueError(f"{path}: of other data or another seed; use another --save_dir")
    return Trained(path, target, about)


def digests(study: Study, labels: IndexSet) -> dict[str, str]:
    """SHA-256 by name of the T targets' weights that were trained on these labels."""
    paths = [folder(study, t, labels) / "net.json" for t in study.targets[: study.model_num]]
    return {
        path.parent.parent.name: experiment.read_json(path)["sha256"]
        for path in paths
        if path.exists()
    }
