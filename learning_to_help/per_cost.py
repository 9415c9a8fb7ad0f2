"""One linear rejector a cost on what an amortized rejector's combiner sees: the rival to it.

The same images, the same student, the same numbers in; only the last step differs. Here each cost
pair gets its own weights by a surrogate of the risk, there two estimates serve all costs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.surrogates import StackedLoss

DECAY = 1e-3  # of squared weights on standardised inputs; the surrogates are convex in them


def fit_per_cost(
    described: Tensor,
    local_logits: Tensor,
    edge_logits: Tensor,
    labels: Tensor,
    surrogates: Sequence[str],
    costs: Sequence[tuple[float, float]],
) -> tuple[Tensor, Tensor]:
    """Weights [R, F] and biases [R] of r(x) = w d(x) + b, one for each surrogate and cost pair.

    described [N, F] of images that neither net was trained on, logits [N, K], labels [N]; R runs
    over surrogates, then costs. REMOTE iff r(x) > 0. L-BFGS on all at once; it is convex.
    """
    pairs = [(name, *cost) for name in surrogates for cost in costs]
    loss = StackedLoss(*zip(*pairs, strict=True), described.device)
    mean, std = described.mean(0), described.std(0, correction=min(1, len(described) - 1))
    std = torch.where(std < 1e-3, 1.0, std)
    x = (described - mean) / std
    wrong = (edge_logits.argmax(-1) != labels).expand(len(pairs), -1)
    weight = torch.zeros(len(pairs), x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(len(pairs), device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        score = weight @ x.T + bias[:, None]  # [R, N]
        logits = torch.stack([torch.zeros_like(score), score], -1)
        total = loss(logits, local_logits, labels, wrong).sum() + DECAY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    weight = weight.detach() / std
    return weight, bias.detach() - weight @ mean
