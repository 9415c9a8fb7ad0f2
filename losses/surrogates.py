"""All surrogates of the rejector's loss L2, by the name that flags and files use.

To add a surrogate, write a function and add a line to SURROGATES.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from losses import deferral, stage_switching


class Surrogate(NamedTuple):
    """One form of L2.

    loss(logits [R, B, 2], local_logits [B, K], labels [B], edge_wrong [R, B], cost_1 [R, 1],
    cost_e [R, 1]) -> [R], the mean over the batch for each of R rejectors; logits are (LOCAL,
    REMOTE).
    edge_right(score [..., N], local_logits [N, K]) -> [..., N]: the estimate of P(e = y | x) that
    follows from a deferral score, for a surrogate without costs; None for one with costs.
    largest_cost_e: the loss has no lower bound above it.
    """

    loss: Callable[..., Tensor]
    edge_right: Callable[[Tensor, Tensor], Tensor] | None = None
    largest_cost_e: float = math.inf

    @property
    def knows_costs(self) -> bool:
        return self.edge_right is None


def weighted(action_weights: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """Loss of a surrogate that weights log p_LOCAL and log p_REMOTE."""

    def loss(logits, local_logits, labels, edge_wrong, cost_1, cost_e):
        local_correct = local_logits.argmax(-1) == labels
        weights = action_weights(local_correct, edge_wrong, cost_1, cost_e)
        return stage_switching.rejector_loss(logits, *weights)

    return loss


def scored(of_score: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Loss, without costs, of the deferral score: logit REMOTE - logit LOCAL."""

    def loss(logits, local_logits, labels, edge_wrong, cost_1, cost_e):
        return of_score(logits[..., 1] - logits[..., 0], local_logits, labels, edge_wrong)

    return loss


SURROGATES = {
    "stage_switching": Surrogate(weighted(stage_switching.stage_switching)),
    "cost_sensitive": Surrogate(weighted(stage_switching.cost_sensitive)),
    "released": Surrogate(weighted(stage_switching.released), largest_cost_e=1),
    "mozannar_sontag": Surrogate(
        scored(deferral.mozannar_sontag), deferral.mozannar_sontag_edge_right
    ),
    "mozannar_sontag_centred": Surrogate(
        scored(deferral.mozannar_sontag_centred), deferral.mozannar_sontag_centred_edge_right
    ),
    "one_vs_all": Surrogate(scored(deferral.one_vs_all), deferral.one_vs_all_edge_right),
}
DEFAULT = "stage_switching"
KNOWING_COSTS = tuple(name for name, s in SURROGATES.items() if s.knows_costs)
COST_FREE = tuple(name for name, s in SURROGATES.items() if not s.knows_costs)


class StackedLoss:
    """The losses of R stacked rejectors on one batch, one evaluation per surrogate.

    surrogates: a name for each of the R rejectors; cost_1 and cost_e: its costs, None if its
    surrogate has none. KeyError for a name that SURROGATES lacks.
    """

    def __init__(
        self,
        surrogates: Sequence[str],
        cost_1: Sequence[float | None],
        cost_e: Sequence[float | None],
        device: torch.device | str,
    ):
        self.groups = []  # (loss, rows of its rejectors [r], their c_1 and c_e [r, 1])
        for name in dict.fromkeys(surrogates):
            rows = [r for r, surrogate in enumerate(surrogates) if surrogate == name]
            costs = [[cost_1[r] or 0.0, cost_e[r] or 0.0] for r in rows]
            pair = torch.tensor(costs, device=device).split(1, dim=1)
            self.groups.append((SURROGATES[name].loss, torch.tensor(rows, device=device), *pair))

    def __call__(
        self, logits: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor
    ) -> Tensor:
        """logits [R, B, 2], local_logits [B, K], labels [B], edge_wrong [R, B] to [R]."""
        losses = torch.empty(len(logits), device=logits.device)
        for loss, rows, cost_1, cost_e in self.groups:
            of_group = loss(logits[rows], local_logits, labels, edge_wrong[rows], cost_1, cost_e)
            losses = losses.index_put((rows,), of_group)
        return losses
