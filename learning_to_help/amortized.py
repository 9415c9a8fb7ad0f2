"""Fitting one rejector for all costs (models/amortized.py), or one for each cost pair.

Both distil the edge into a student and then fit a linear layer on what the student and the local
net say of an image: `fit_combiner` fits two estimates that serve all costs, `fit_per_cost` weights
for each cost pair and surrogate, for comparison.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import experiment
from data import ImageBatches
from losses.surrogates import StackedLoss
from models.amortized import STUDENTS, AmortizedRejector
from models.localnet import LocalNet

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

# Candidates for the combiner's L2 strength (scikit-learn's C), chosen by log loss over FOLDS folds.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
FOLDS = 5
RISE = 0.25  # share of training in which the learning rate of one cycle rises
TEMPERATURE = 2.0  # that a net of STUDENTS is distilled at; the others at 1
PER_COST_DECAY = 1e-3  # of squared weights on standardised inputs


class Recipe(NamedTuple):
    """What a student is trained with where flags do not say otherwise."""

    epochs: int
    lr: float  # the highest of the schedule
    augment: str


LENET_RECIPE = Recipe(14, 2e-3, "none")  # AdamW, cosine schedule; students on features too
STUDENT_RECIPE = Recipe(60, 0.2, "flip_crop")  # SGD, one cycle


@torch.no_grad()
def both_answers(
    local: LocalNet, edge: nn.Module, batches: ImageBatches
) -> tuple[Tensor, Tensor, Tensor]:
    """On all batches: the local net's logits [N, K] and features [N, D], the edge's logits [N, K].

    The edge is in eval mode afterwards.
    """
    edge.eval()
    answers = [(*local.with_features(images), edge(images)) for _, images, _ in batches]
    logits, features, edge_logits = map(torch.cat, zip(*answers, strict=True))
    return logits, features, edge_logits


def student_loss(
    guess: Tensor, edge_logits: Tensor, right: Tensor, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy to the edge's probabilities, plus logistic loss on whether m and e are right.

    guess [B, K + 2], edge_logits [B, K], right [B, 2] of 0 and 1; the mean over the batch. Both
    sides of the cross-entropy are taken at the temperature, and it is multiplied by its square, so
    that gradients keep their size (Hinton et al., 2015, section 2).
    """
    classes = edge_logits.shape[1]
    soft = (edge_logits / temperature).softmax(-1)
    distilled = temperature**2 * F.cross_entropy(guess[:, :classes] / temperature, soft)
    return distilled + F.binary_cross_entropy_with_logits(guess[:, classes:], right)


def train_student(
    net: AmortizedRejector,
    batches: ImageBatches,
    local: LocalNet,
    edge_logits: Tensor,
    features: Tensor,
    right: Tensor,
    *,
    epochs: int,
    lr: float,
) -> Iterator[float]:
    """Train on the nets' training images; yields each epoch's mean loss.

    AdamW with a cosine schedule; for a net of STUDENTS SGD with one cycle (Smith and Topin, 2017).
    edge_logits [N, K], features [N, D] and right [N, 2] are of the images without augmentation.
    Where the batches are augmented, the local net computes features of the augmented images. The
    edge does not: with `convnet` asked anew an epoch of `small` took 7 times as long (75 against
    11 s), for no lower risk (0.3549 against 0.3545; 10,000 images of CIFAR-10, 8 epochs, 1 seed).
    """
    weights = [p for name, p in net.named_parameters() if not name.startswith("combiner")]
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(weights, lr, weight_decay=0.01)
    schedule, temperature = _cosine, 1.0
    if net.net in STUDENTS:
        optimizer = torch.optim.SGD(weights, lr, 0.9, weight_decay=2e-4, nesterov=True)
        schedule, temperature = _one_cycle, TEMPERATURE
    if not net.on_image:
        net.mean.copy_(features.mean(0))
        # The deviation is 0 for a unit that never fires and for a single image.
        net.std.copy_(features.std(0, correction=min(1, len(features) - 1)) + 1e-3)
    steps = epochs * len(batches)
    for epoch in range(1, epochs + 1):
        net.train()
        total = torch.zeros((), device=right.device)
        chunks = experiment.progress(_rows(batches, net, epoch), len(batches), f"epoch {epoch}")
        for i, (rows, images) in enumerate(chunks):
            done = ((epoch - 1) * len(batches) + i) / steps
            optimizer.param_groups[0]["lr"] = lr * schedule(done)
            batch_features = features[rows]
            if images is not None and batches.augment is not None and not net.on_image:
                with torch.no_grad():
                    batch_features = local.with_features(images)[1]
            guess = net.student(images, batch_features)
            loss = student_loss(guess, edge_logits[rows], right[rows], temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        yield total.item() / len(batches)


def _cosine(done: float) -> float:
    """Share of the highest learning rate after a share `done` of training: half a cosine."""
    return (1 + math.cos(math.pi * done)) / 2


def _one_cycle(done: float) -> float:
    """The same of one cycle: linear up to RISE of training, then half a cosine."""
    return done / RISE if done < RISE else _cosine((done - RISE) / (1 - RISE))


def _rows(
    batches: ImageBatches, net: AmortizedRejector, epoch: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(rows, images) of an epoch's batches; None in place of images that nothing reads."""
    if net.input == "features" and batches.augment is None:
        yield from ((rows, None) for rows in batches.rows(epoch))
    else:
        yield from ((rows, images) for rows, images, _ in batches.epoch(epoch))


def fit_combiner(net: AmortizedRejector, described: Tensor, right: Tensor) -> None:
    """Set net.combiner to logistic regressions of `right` [N, 2] on `described` [N, F].

    Of images that neither net was trained on. The L2 strength is chosen by cross-validation. For a
    net that is right, or wrong, on fewer than FOLDS images, folds with both classes do not exist,
    so its estimate is the constant (n + 1) / (N + 2), with n of N images right.
    """
    x, y = described.cpu().double().numpy(), right.cpu().numpy().astype(int)
    mean, std = x.mean(0), x.std(0)
    std[std < 1e-3] = 1.0  # constant columns; tiny ones would need weights that cancel
    x = (x - mean) / std
    for k in range(2):
        count = int(y[:, k].sum())
        if min(count, len(y) - count) < FOLDS:
            weight, bias = np.zeros(x.shape[1]), math.log((count + 1) / (len(y) - count + 1))
        else:
            model = _logistic(best_strength(x, y[:, k])).fit(x, y[:, k])
            weight, bias = model.coef_[0] / std, model.intercept_[0]
        net.combiner.weight.data[k] = torch.from_numpy(weight).float()
        net.combiner.bias.data[k] = float(bias - (weight * mean).sum())


def _logistic(strength: float = 1.0) -> "LogisticRegression":
    """scikit-learn's logistic regression, not fitted yet; strength is its C."""
    # Imported here because that takes a second, and eval_all.py fits none.
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000)


def best_strength(x: np.ndarray, y: np.ndarray) -> float:
    """The C of STRENGTHS with the least log loss over FOLDS folds; x [N, F], y [N] of 0 and 1.

    Folds are stratified, and y must hold FOLDS or more of each class, so every fit sees both.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = [
        cross_val_score(_logistic(strength), x, y, scoring="neg_log_loss", cv=folds).mean()
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmax(scores))]


def calibrate(net: AmortizedRejector, logits: Tensor, right: Tensor) -> None:
    """Platt's (1999) scaling of both estimates on val, merged into net.combiner.

    logits [N, 2] of the net on val, right [N, 2]. Fits a scale and a shift for each estimate. An
    estimate stays unchanged if val has fewer than FOLDS right or wrong answers, if it is constant
    on val, or if the fit would reverse its order.
    """
    for k in range(2):
        x, y = logits[:, k : k + 1].cpu().double().numpy(), right[:, k].cpu().numpy().astype(int)
        if min(y.sum(), len(y) - y.sum()) < FOLDS or x.std() < 1e-6:
            continue
        model = _logistic().fit(x, y)
        scale, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
        if scale <= 0:  # reverses the order: val is too small to trust such a fit
            continue
        net.combiner.weight.data[k] *= scale
        net.combiner.bias.data[k] = net.combiner.bias.data[k] * scale + shift


@torch.no_grad()
def describe_all(net: AmortizedRejector, local: LocalNet, batches: ImageBatches) -> Tensor:
    """The combiner's input for every image: [N, F]."""
    net.eval()
    described = []
    for _, images, _ in batches:
        logits, features = local.with_features(images)
        described.append(net.describe(net.student(images, features), logits))
    return torch.cat(described)


@torch.no_grad()
def estimate_all(net: AmortizedRejector, local: LocalNet, batches: ImageBatches) -> Tensor:
    """P(m right | x) and P(e right | x) of every image: [2, N].

    The combiner of `describe_all` on all images at once gives other last bits than on each batch.
    """
    net.eval()
    estimates = []
    for _, images, _ in batches:
        logits, features = local.with_features(images)
        estimates.append(net(images, logits, features))
    return torch.cat(estimates).sigmoid().T


@torch.no_grad()
def student_logits(net: AmortizedRejector, parts: Sequence[ImageBatches]) -> Tensor:
    """What the student of a net that is `on_image` answers by itself, on all parts: [N, K]."""
    net.eval()
    guesses = [net.student(images, None) for part in parts for _, images, _ in part]
    return torch.cat(guesses)[:, : net.num_classes]


def both_right(local_logits: Tensor, edge_logits: Tensor, labels: Tensor) -> Tensor:
    """1{m = y} and 1{e = y}: float [N, 2]."""
    right = [logits.argmax(-1) == labels for logits in (local_logits, edge_logits)]
    return torch.stack(right, 1).float()


def fit_per_cost(
    described: Tensor,
    local_logits: Tensor,
    edge_logits: Tensor,
    labels: Tensor,
    surrogates: Sequence[str],
    costs: Sequence[tuple[float, float]],
) -> tuple[Tensor, Tensor]:
    """Weights [R, F] and biases [R] of r(x) = w d(x) + b, one for each surrogate and cost pair.

    described [N, F] of images that neither net was trained on, logits [N, K], labels [N]; R counts
    surrogates, then costs (c_1, c_e). REMOTE iff r(x) > 0. L-BFGS minimises all losses at once,
    each convex.
    """
    count = len(surrogates) * len(costs)
    loss = StackedLoss(
        [name for name in surrogates for _ in costs],
        [cost_1 for cost_1, _ in costs] * len(surrogates),
        [cost_e for _, cost_e in costs] * len(surrogates),
        described.device,
    )
    mean, std = described.mean(0), described.std(0, correction=min(1, len(described) - 1))
    std = torch.where(std < 1e-3, 1.0, std)
    x = (described - mean) / std
    wrong = (edge_logits.argmax(-1) != labels).expand(count, -1)
    weight = torch.zeros(count, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(count, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        score = weight @ x.T + bias[:, None]  # [R, N]
        logits = torch.stack([torch.zeros_like(score), score], -1)
        total = (
            loss(logits, local_logits, labels, wrong).sum() + PER_COST_DECAY * weight.square().sum()
        )
        total.backward()
        return total

    optimizer.step(closure)
    weight = weight.detach() / std
    return weight, bias.detach() - weight @ mean
