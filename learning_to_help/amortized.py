"""Fitting one rejector for all costs (models/amortized.py): distil its student, fit the rest."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import experiment
from data import Batches
from models.amortized import AmortizedRejector

# Candidates of the combiner's L2 strength (scikit-learn's C), chosen by log loss over FOLDS folds.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
FOLDS = 5


@torch.no_grad()
def local_answers(local, batches: Batches) -> tuple[Tensor, Tensor]:
    """The local net's logits [N, K] and features [N, D] on all batches."""
    pairs = [local.with_features(images) for _, images, _ in batches]
    logits, features = zip(*pairs, strict=True)
    return torch.cat(logits), torch.cat(features)


def student_loss(guess: Tensor, edge_logits: Tensor, right: Tensor) -> Tensor:
    """Cross-entropy to the edge's probabilities, and logistic loss on m's and e's being right.

    guess [B, K + 2], edge_logits [B, K], right [B, 2] of 0 and 1; the mean over the batch.
    """
    classes = edge_logits.shape[1]
    distilled = F.cross_entropy(guess[:, :classes], edge_logits.softmax(-1))
    return distilled + F.binary_cross_entropy_with_logits(guess[:, classes:], right)


def train_student(
    net: AmortizedRejector, batches: Batches, local, edge_logits, features, right, *, epochs, lr
):
    """AdamW with a cosine schedule on the nets' training images; yields the mean loss an epoch.

    edge_logits [N, K], features [N, D] and right [N, 2] are of the images as they are. Where the
    batches are augmented, the local net's features are taken from the augmented image.
    """
    weights = [p for name, p in net.named_parameters() if not name.startswith("combiner")]
    optimizer = torch.optim.AdamW(weights, lr, weight_decay=0.01)
    if net.input != "image":
        net.mean.copy_(features.mean(0))
        # A unit that never fires has none, nor has a single image.
        net.std.copy_(features.std(0, correction=min(1, len(features) - 1)) + 1e-3)
    steps = epochs * len(batches)
    for epoch in range(1, epochs + 1):
        net.train()
        total = torch.zeros((), device=right.device)
        chunks = experiment.progress(_rows(batches, net, epoch), len(batches), f"epoch {epoch}")
        for i, (rows, images) in enumerate(chunks):
            done = ((epoch - 1) * len(batches) + i) / steps
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * done)) / 2
            own = features[rows]
            if batches.augment is not None and net.input != "image":
                with torch.no_grad():
                    own = local.with_features(images)[1]
            loss = student_loss(net.student(images, own), edge_logits[rows], right[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        yield total.item() / len(batches)


def _rows(batches: Batches, net: AmortizedRejector, epoch: int):
    """(rows, images) of an epoch; without images where nothing looks at them."""
    if net.input == "features" and batches.augment is None:
        yield from ((rows, None) for rows in batches.rows(epoch))
    else:
        yield from ((rows, images) for rows, images, _ in batches.epoch(epoch))


def fit_combiner(net: AmortizedRejector, described: Tensor, right: Tensor) -> None:
    """Logistic regressions of `right` [N, 2] on `described` [N, F], put into net.combiner.

    On images that neither net was trained on. The L2 strength is chosen by cross-validation. A net
    that is right, or wrong, on fewer than FOLDS images gets the constant (n + 1) / (N + 2) in
    logits, n of N right: not every fold could hold both kinds, and so few show no dependence.
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
            model = _logistic(x, y[:, k], best_strength(x, y[:, k]))
            weight, bias = model.coef_[0] / std, model.intercept_[0]
        net.combiner.weight.data[k] = torch.from_numpy(weight).float()
        net.combiner.bias.data[k] = float(bias - (weight * mean).sum())


def _logistic(x: np.ndarray, y: np.ndarray, strength: float = 1.0):
    """scikit-learn's logistic regression of y [N], 0 or 1, on x [N, F]; strength is its C."""
    # Here, because it takes a second to import, and eval_all.py fits none.
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000).fit(x, y)


def best_strength(x: np.ndarray, y: np.ndarray) -> float:
    """The C of STRENGTHS with the least log loss over FOLDS folds; x [N, F], y [N] of 0 and 1.

    Folds are stratified: with FOLDS or more of each kind, as y must have, every fit sees both.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, y))
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for rest, held in folds:
            log_p = _logistic(x[rest], y[rest], strength).predict_log_proba(x[held])
            total -= log_p[np.arange(len(held)), y[held]].sum()
        losses.append(total)
    return STRENGTHS[int(np.argmin(losses))]


def calibrate(net: AmortizedRejector, logits: Tensor, right: Tensor) -> None:
    """Platt's (1999) scaling of both estimates on val, folded into net.combiner.

    logits [N, 2] of the net on val, right [N, 2]. Two numbers an estimate. An estimate stays as it
    is where val has fewer than FOLDS right or wrong answers, where it is constant on val, or where
    a fit would reverse its order.
    """
    for k in range(2):
        x, y = logits[:, k : k + 1].cpu().double().numpy(), right[:, k].cpu().numpy().astype(int)
        if min(y.sum(), len(y) - y.sum()) < FOLDS or x.std() < 1e-6:
            continue
        model = _logistic(x, y)
        scale, shift = float(model.coef_[0, 0]), float(model.intercept_[0])
        if scale <= 0:  # it would turn the order round: more a sign of too little val than of use
            continue
        net.combiner.weight.data[k] *= scale
        net.combiner.bias.data[k] = net.combiner.bias.data[k] * scale + shift


@torch.no_grad()
def describe_all(net: AmortizedRejector, local, batches: Batches) -> Tensor:
    """What the combiner sees of every image: [N, F]."""
    net.eval()
    found = []
    for _, images, _ in batches:
        logits, features = local.with_features(images)
        found.append(net.describe(net.student(images, features), logits))
    return torch.cat(found)


@torch.no_grad()
def estimate_all(net: AmortizedRejector, local, batches: Batches) -> Tensor:
    """P(m right | x) and P(e right | x) of every image: [2, N]."""
    net.eval()
    found = []
    for _, images, _ in batches:
        logits, features = local.with_features(images)
        found.append(net(images, logits, features))
    return torch.cat(found).sigmoid().T


def both_right(local_logits: Tensor, edge_logits: Tensor, labels: Tensor) -> Tensor:
    """1{m = y} and 1{e = y}: float [N, 2]."""
    found = [logits.argmax(-1) == labels for logits in (local_logits, edge_logits)]
    return torch.stack(found, 1).float()
