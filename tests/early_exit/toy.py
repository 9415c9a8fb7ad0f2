"""A network with exits that costs nothing, and checkpoints and runs made by hand."""

import copy
import functools

import numpy as np
import torch
from torch import nn

import data
from early_exit.inputs import pixel_stats
from models.exit_net import ExitNet
from models.exit_nets import EXIT_NETS
from tests.made import settings_of

TINY = {"n_blocks": 3, "base": 1, "step": 1, "n_channels": 4, "growth_rate": 2}
TINY_FLAGS = [x for name, value in TINY.items() for x in (f"--{name}", str(value))]
ARCHS = [name for name, net in EXIT_NETS.items() if net.reads == "images"]
SMALL = {  # of each of them, as small as it goes
    "msdnet": TINY,
    "ranet": {"n_blocks": 1, "block_step": 1, "step": 1, "n_channels": 4},
    "resnet": {"width": 4},
    "vit": {"hidden_dim": 16, "num_layers": 3, "num_heads": 2, "mlp_dim": 16},
}


class Toy(ExitNet):
    """Linear blocks on the 12 values of a [B, 3, 2, 2] image; the state is lists in a list.

    `seen[k]` are the batch sizes that block k was given.
    """

    def __init__(self, num_exits=4, num_classes=5, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.num_exits = num_exits
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(num_exits))
        self.heads = nn.ModuleList(nn.Linear(12, num_classes) for _ in range(num_exits))
        for head in self.heads:
            nn.init.normal_(head.weight, std=1.5)
        self.seen = [[] for _ in range(num_exits)]

    def block(self, k, state):
        features, (images, *_) = [state.flatten(1), [state, state]] if k == 0 else state
        self.seen[k].append(len(features))
        # What came in goes on beside the features: a row that is kept wrongly shows later.
        features = torch.tanh(self.layers[k](features) + images.flatten(1))
        return [features, [images, images[:, :1]]]

    def head(self, k, state):
        return self.heads[k](state[0])


def make_net(arch="msdnet", num_classes=4, size=32, seed=0):
    """A small network whose exits differ: batch norms that saw images, and heads that are sure."""
    return copy.deepcopy(_net(arch, num_classes, size, seed))


@functools.cache
def _net(arch, num_classes, size, seed):
    torch.manual_seed(seed)
    net = EXIT_NETS[arch].from_settings(settings_of(arch, **SMALL[arch]), num_classes, size)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(16, 3, size, size))
        for name, p in net.named_parameters():
            if name.startswith(("classifier", "heads")) and p.ndim == 2:
                p.mul_(5)
    return net.eval()


def checkpoint_of(npz, arch="msdnet", method="base", t=0.0, seed=0, **changes):
    """What early_exit.train would have written for `npz`, as a dict."""
    dataset = data.load(str(npz), val_size=40)
    mean, std = pixel_stats(dataset.train)
    num_classes, size = len(dataset.classes), dataset.train.images.shape[-1]
    return {
        "kind": "early_exit",
        "arch": arch,
        "settings": settings_of(arch, **SMALL[arch]),
        "method": method,
        "ensemble_reweight": t,
        "num_classes": num_classes,
        "size": size,
        "mean": mean,
        "std": std,
        "dataset": dataset.name,
        "data": dataset.fingerprint(),
        "val_size": 40,
        "split_seed": 0,
        "stream": False,
        "seed": seed,
        "epochs": 3,
        "state_dict": make_net(arch, num_classes, size, seed).state_dict(),
    } | changes


def slow_logits(net, images, t=0.0):
    """G of every exit, image by image: [E, N, K]."""
    found = []
    with torch.no_grad():
        for image in images:
            before, of_image = 0, []
            for f in net.eval()(image[None]):
                before = f[0] + t * before
                of_image.append(before)
            found.append(torch.stack(of_image))
    return torch.stack(found, dim=1)


def slow_stop(confidence, thresholds):
    """The first exit that is sure enough, sample by sample: [N] from [E, N]."""
    last = len(confidence) - 1
    return np.array(
        [
            next((k for k in range(last) if column[k] >= thresholds[k]), last)
            for column in confidence.T
        ]
    )
