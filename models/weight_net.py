"""The weight net of L2W (Han et al., ECCV 2022, arXiv 2209.08310): losses to sample weights."""

import torch
from torch import Tensor, nn

INPUTS = ("loss", "conf", "both")
DIMENSIONS = {"mat": (0, 1), "col": (1,), "row": (0,)}


class WeightNet(nn.Module):
    """An MLP from what every exit says of a sample to a weight for each exit.

    num_exits: E. `inputs`: what it sees, detached: the loss at every exit, the confidence, or both.
    hidden units in each of `layers` hidden layers, ReLU, tanh at the end.
    """

    def __init__(self, num_exits: int, inputs: str = "loss", hidden: int = 500, layers: int = 1):
        super().__init__()
        self.inputs = inputs
        width = num_exits * (2 if inputs == "both" else 1)
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.net = nn.Sequential(*parts, nn.Linear(width, num_exits), nn.Tanh())

    def forward(self, losses: Tensor, confidences: Tensor) -> Tensor:
        """Both [B, E] to a score in -1..1 for each, [B, E]; no gradient into either."""
        seen = {"loss": [losses], "conf": [confidences], "both": [losses, confidences]}
        return self.net(torch.cat(seen[self.inputs], dim=1).detach())


def sample_weights(scores: Tensor, epsilon: float, dimension: str) -> Tensor:
    """W = 1 + epsilon (scores - their mean), [B, E], for the loss sum_k mean_i W_ik CE_ik.

    The mean is that of the whole matrix (`mat`), of each sample over its exits (`col`) or of each
    exit over the batch (`row`), as the paper's flag --constraint_dimension names them.
    """
    return 1 + epsilon * (scores - scores.mean(DIMENSIONS[dimension], keepdim=True))
