"""Answers of ResNet-20 and ResNet-56 to CIFAR-10's test pictures, clean, corrupted and mirrored.

    python -m results.pair_answers cifar10 RESNETS results/runs/pair-answers --corrupted

RESNETS is a folder with resnet20-12fca82f.th and resnet56-4bfd9763.th of
https://github.com/akamaster/pytorch_resnet_cifar10. Writes clean.npz of all test pictures, with
--mirrored also mirrored.npz of their mirror images, and with --corrupted NAME.npz of the half that
`half_rows` measures on, a file for each of CORRUPTIONS. Existing files are kept, so a killed run
continues with the next one; where all exist, neither the networks nor the pictures are read.

labels [N] and index [N] (row in the test set); resnet20 and resnet56 [N, 10], their logits;
features [N, 64], what ResNet-20's last layer sees. Two minutes on one core for 10,000 pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import data
import experiment
from models.weights import fill, under
from results.halved_test import half_rows
from results.studies.resnet_cifar import ResNet, resnet20, resnet56

NETS = {
    "resnet20": (resnet20, "resnet20-12fca82f.th"),
    "resnet56": (resnet56, "resnet56-4bfd9763.th"),
}
Corruption = Callable[[np.ndarray], np.ndarray]


def noise(deviation: float) -> Corruption:
    """Gaussian noise; pictures [N, H, W, C] in 0..1."""
    return lambda x: x + np.random.default_rng(0).normal(0, deviation, x.shape)


def blur(pixels: float) -> Corruption:
    """A Gaussian blur of this standard deviation."""
    return lambda x: gaussian_filter(x, (0, pixels, pixels, 0))


def contrast(left: float) -> Corruption:
    """The share of each picture's contrast that is left."""
    return lambda x: x.mean((1, 2), keepdims=True) * (1 - left) + left * x


# Strengths 1, 3 and 5 of CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019).
CORRUPTIONS = {
    f"{kind.__name__}-{strength}": kind(value)
    for kind, values in ((noise, (0.04, 0.08, 0.10)), (blur, (0.4, 0.7, 1.0)),
                         (contrast, (0.75, 0.4, 0.15)))
    for strength, value in zip((1, 3, 5), values, strict=True)
}  # fmt: skip


def read_net(folder: Path, name: str) -> ResNet:
    """The network with its weights from `folder`; ValueError where the file is missing."""
    make, file = NETS[name]
    path = folder / file
    if not path.exists():
        raise ValueError(
            f"{path}: not there; RESNETS must be a folder with the weights of "
            "github.com/akamaster/pytorch_resnet_cifar10"
        )
    checkpoint = torch.load(path, "cpu", weights_only=True)
    state = under(checkpoint.get("state_dict", checkpoint), "")
    return fill(make(10), state, str(path), name).eval()


@torch.inference_mode()
def answers(net: ResNet, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, 10] and the last layer's inputs [N, 64] of images uint8 [N, 3, H, W]."""
    net = net.to(memory_format=torch.channels_last)
    logits, features = [], []
    keep = net.linear.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    for part in experiment.progress(images.split(250), -(-len(images) // 250), "answers"):
        pixels = part.contiguous(memory_format=torch.channels_last).float() / 127.5 - 1
        logits.append(net(pixels))
    keep.remove()
    return torch.cat(logits).numpy(), torch.cat(features).numpy()


def corrupted(images: Tensor, corruption: Corruption) -> Tensor:
    """Images uint8 [N, C, H, W], rounded to uint8 again."""
    x = corruption(images.numpy().transpose(0, 2, 3, 1) / 255)
    pixels = (x.clip(0, 1) * 255).round().astype(np.uint8)
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2))


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("dataset", metavar="DATASET", help="a name, folder or .npz of data.load")
    parser.add_argument("resnets", metavar="RESNETS", type=Path, help="folder of the two networks")
    parser.add_argument("out", metavar="DIR", type=Path, help="where the files go")
    parser.add_argument("--corrupted", action="store_true", help="CORRUPTIONS as well")
    parser.add_argument("--mirrored", action="store_true", help="the mirror images as well")
    parser.add_argument("--data_root", type=Path, default=Path("data_root"), help="see data.load")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        names = ["clean", *["mirrored"] * args.mirrored, *(CORRUPTIONS if args.corrupted else ())]
        names = [name for name in names if not (args.out / f"{name}.npz").exists()]
        if not names:
            print(f"{args.out}: complete")
            return
        nets = {name: read_net(args.resnets, name) for name in NETS}
        test = data.load(args.dataset, args.data_root, 0.1, 0).test
        for name in names:
            path, index = args.out / f"{name}.npz", np.arange(len(test.labels))
            if name in CORRUPTIONS:
                _, index = half_rows(len(test.labels))
                images = corrupted(test.images[index], CORRUPTIONS[name])
            else:
                images = test.images.flip(-1) if name == "mirrored" else test.images
            said = {key: answers(net, images) for key, net in nets.items()}
            args.out.mkdir(parents=True, exist_ok=True)
            experiment.write_npz(
                path,
                labels=test.labels[index].numpy(),
                index=index,
                features=said["resnet20"][1],
                **{key: logits for key, (logits, _) in said.items()},
            )
            right = [f"{key} {(x[0].argmax(1) == test.labels[index].numpy()).mean():.2%}"
                     for key, x in said.items()]  # fmt: skip
            print(f"{path}: {', '.join(right)}", flush=True)


if __name__ == "__main__":
    main()
