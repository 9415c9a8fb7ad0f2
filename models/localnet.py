"""The local net m, the small classifier on the device: LeNet-5 (LeCun et al., 1998)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resize(images: Tensor, size: int) -> Tensor:
    """[B, C, H, W] to [B, C, size, size], bilinear, antialiased when it shrinks."""
    if images.shape[-2:] == (size, size):
        return images
    shrinks = images.shape[-2] > size or images.shape[-1] > size
    return F.interpolate(images, (size, size), mode="bilinear", antialias=shrinks)


def pooled(x: Tensor) -> Tensor:
    """2 x 2 max-pooling, then ReLU: [B, C, H, W] to [B, C, H / 2, W / 2], H and W even.

    Values and gradients are those of ReLU first, for a quarter of the ReLU's work.
    """
    if x.requires_grad or x.device.type != "cpu":
        return F.relu(F.max_pool2d(x, 2))
    # max_pool2d also stores the index of each maximum, which only a backward pass needs: without,
    # a LeNet-5 takes 9 instead of 18 ms for 250 images, one core. Not with gradients: `maximum`
    # splits the gradient between equal values, which neighbouring equal pixels give.
    x = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(x[..., ::2], x[..., 1::2]).relu_()


class LocalNet(nn.Module):
    """A local net of `num_classes`: `LOCAL_NETS[name](num_classes)`.

    size: px that images are resized to. num_features: values that `with_features` returns.
    """

    size: int
    num_features: int

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] to logits [B, K]."""
        return self.with_features(images)[0]

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K], and features [B, D] for a rejector."""
        raise NotImplementedError


class LeNet5(LocalNet):
    """LeNet-5 for 32 x 32 RGB; other sizes are resized to it.

    conv 6@5, pool, conv 16@5, pool, fc 120, 84, K. Parameter names are those of the L2H release:
    conv1, conv2, fc1, fc2, fc3. With 10 classes 62,006 parameters and 651,720 multiply-adds.
    """

    size = 32
    num_features = 400 + 120 + 84

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K] and features [B, 604].

        The features are the last map (400 values) and both hidden layers (120 and 84), after ReLU.
        """
        x = pooled(self.conv1(resize(images, self.size)))
        x = torch.flatten(pooled(self.conv2(x)), 1)
        first = F.relu(self.fc1(x))
        second = F.relu(self.fc2(first))
        return self.fc3(second), torch.cat([x, first, second], 1)


# A new local net is a subclass of LocalNet and a line here.
LOCAL_NETS: dict[str, type[LocalNet]] = {"lenet5": LeNet5}
