"""The losses of many rejectors at once, each with its own surrogate and costs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.deferral import mozannar_sontag, one_vs_all
from losses.stage_switching import rejector_loss


class StackedLoss:
    """The loss of every rejector of a stack on one batch, evaluated surrogate by surrogate.

    surrogates: a name of losses.stage_switching.SURROGATES or losses.deferral.COST_FREE for each of
    the R rejectors; cost_1 and cost_e: its costs, None where the surrogate does not know them.
    """

    def __init__(
        self,
        surrogates: Sequence[str],
        cost_1: Sequence[float | None],
        cost_e: Sequence[float | None],
        device: torch.device | str,
    ):
        self.groups = []  # (surrogate, its rejectors' rows [r], their c_1 and c_e [r, 1])
        for surrogate in dict.fromkeys(surrogates):
            rows = [r for r, name in enumerate(surrogates) if name == surrogate]
            costs = [[cost_1[r] or 0.0, cost_e[r] or 0.0] for r in rows]
            pair = torch.tensor(costs, device=device).split(1, dim=1)
            self.groups.append((surrogate, torch.tensor(rows, device=device), *pair))

    def __call__(
        self, logits: Tensor, local_logits: Tensor, labels: Tensor, edge_wrong: Tensor
    ) -> Tensor:
        """logits [R, B, 2], local_logits [B, K], labels [B], edge_wrong [R, B] to [R]."""
        local_correct = local_logits.argmax(-1) == labels
        found = torch.empty(len(logits), device=logits.device)
        for surrogate, rows, cost_1, cost_e in self.groups:
            own, wrong = logits[rows], edge_wrong[rows]
            if surrogate == "mozannar_sontag":
                loss = mozannar_sontag(own[..., 1] - own[..., 0], local_logits, labels, wrong)
            elif surrogate == "one_vs_all":
                loss = one_vs_all(own[..., 1] - own[..., 0], wrong)
            else:
                loss = rejector_loss(own, local_correct, wrong, cost_1, cost_e, surrogate)
            found = found.index_put((rows,), loss)
        return found
