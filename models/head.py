"""The last layer of a network as a network of its own."""

from torch import Tensor, nn


class Head(nn.Module):
    """`layer` (models.features.last_layer) alone, from the features of `with_features`.

    It shares its weights with the network that the layer is part of.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, D] to logits [B, K]."""
        if isinstance(self.layer, nn.Conv2d):
            features = features[:, :, None, None]
        return self.layer(features).flatten(1)
