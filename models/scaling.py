"""The mean and standard deviation of the images that a network was trained with."""

from __future__ import annotations

from typing import Any, NamedTuple

# Their ImageNet weights were trained with 0.5, to which torchvision's `transform_input` converts
# images that its transforms scaled to ImageNet's mean; networks are built without it here.
TRAINED_WITH_HALF = ("googlenet", "inception_v3")


class Scaling(NamedTuple):
    """mean, std: one number, or three, in units of the full range 0..1; () stands for 0.5."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def entries(self, kind: str) -> dict[str, list[float]]:
        """What the checkpoint of a "local" or "edge" net stores of it; nothing for 0.5."""
        return {f"{kind}_mean": [*self.mean], f"{kind}_std": [*self.std]} if self.mean else {}


HALF = Scaling()


def saved_scaling(checkpoint: dict[str, Any], kind: str) -> Scaling:
    """The scaling in a checkpoint; that of checkpoints without is 0.5."""
    return Scaling(*(tuple(checkpoint.get(f"{kind}_{what}", ())) for what in ("mean", "std")))


def torchvision_scaling(name: str) -> Scaling:
    """That of torchvision's default ImageNet weights of `name`, as their transforms state it."""
    from torchvision.models import get_model_weights

    if name in TRAINED_WITH_HALF:
        return Scaling()
    transforms = get_model_weights(name).DEFAULT.transforms()
    return Scaling(tuple(transforms.mean), tuple(transforms.std))
