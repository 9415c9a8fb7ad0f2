"""Rejectors on what a fixed local net has computed, fitted on pictures that it never saw.

`fit` fits them on answers of the two stages, and `decided` gives the `Predictions` from which
`deferral.compare` decides: thresholds and post-hoc estimates are fitted on the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy

import experiment
from data import Batches
from data.parts import Part
from deferral.compare import compare
from deferral.npz_checks import read_npz
from deferral.predictions import Predictions
from deferral.risk import PAPER_COSTS
from learning_to_help import amortized
from losses.surrogates import SURROGATES
from models.amortized import AmortizedRejector
from results.halved_test import half_rows
from results.rule_tables import DRAWS, means

TRAINED = 0.5  # of the pictures train the student; the linear layers are fitted on the others
PER_COST = "stage_switching"
COST_FREE = ("mozannar_sontag", "one_vs_all")  # centred or not is one: see `tensors`


class Answers(NamedTuple):
    """Of N pictures: class, row in the test set, logits of both stages, the local net's features.

    labels and row [N] int64; local and remote [N, K]; features [N, D], float32.
    """

    labels: np.ndarray
    row: np.ndarray
    local: np.ndarray
    remote: np.ndarray
    features: np.ndarray

    def part(self, rows: np.ndarray) -> Answers:
        return Answers(*(array[rows] for array in self))


class Fitted(NamedTuple):
    """An amortized rejector, and linear rejectors on its description of a picture.

    by_cost: weights [R, F] and biases [R] of PER_COST, R pairs of costs; cost_free: of COST_FREE.
    temperature: that calibrates the local net's probabilities.
    """

    net: AmortizedRejector
    by_cost: tuple[Tensor, Tensor]
    cost_free: tuple[Tensor, Tensor]
    temperature: float


def read(path: Path) -> Answers:
    """A file of `results.pair_answers`; ValueError or OSError where it is none."""
    names = ("labels", "index", "resnet20", "resnet56", "features")
    arrays = read_npz(path, names)
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; results.pair_answers writes it")
    return Answers(*(arrays[name] for name in names))


def halves(answers: Answers) -> tuple[Answers, Answers]:
    """Answers on all test pictures, in their order, as those to fit on and those to measure on."""
    fitting, test = half_rows(len(answers.labels))
    return answers.part(fitting), answers.part(test)


def logits_of(answers: np.ndarray, classes: int) -> np.ndarray:
    """Answers [N] of people as logits [N, K] of a network that is certain."""
    return 20 * np.eye(classes, dtype=np.float32)[answers]


def tensors(answers: Answers) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Labels, and log-probabilities of both stages, and features.

    Mozannar-Sontag's score is relative to the logsumexp of the local logits, which a linear layer
    on probabilities cannot know; of log-probabilities it is 0.
    """
    labels, local, remote, features = (
        torch.from_numpy(array)
        for array in (answers.labels, answers.local, answers.remote, answers.features)
    )
    return labels, local.log_softmax(-1), remote.log_softmax(-1), features


def fit(answers: Answers, seed: int) -> Fitted:
    """All rejectors, as train_rejector.py fits them on features; the seed draws TRAINED too."""
    order = np.random.default_rng(seed).permutation(len(answers.labels))
    cut = round(TRAINED * len(order))
    labels, local, remote, features = tensors(answers.part(order[:cut]))
    pixels = torch.zeros(cut, 1, 1, 1, dtype=torch.uint8)  # no rejector on features reads them
    batches = Batches(Part(pixels, labels, torch.arange(cut)), 64, "cpu", shuffle=True, seed=seed)
    torch.manual_seed(seed)
    net = AmortizedRejector("features", local.shape[1], features.shape[1])
    recipe, right = amortized.LENET_RECIPE, amortized.both_right(local, remote, labels)
    losses = amortized.train_student(
        net, batches, None, remote, features, right,  # type: ignore[arg-type]  # asked of no picture
        epochs=recipe.epochs, lr=recipe.lr,
    )  # fmt: skip
    for _ in losses:
        pass
    labels, local, remote, features = tensors(answers.part(order[cut:]))
    seen = described(net, local, features)
    amortized.fit_combiner(net, seen, amortized.both_right(local, remote, labels))
    known = seen, local, remote, labels
    return Fitted(
        net,
        amortized.fit_per_cost(*known, [PER_COST], PAPER_COSTS),
        amortized.fit_per_cost(*known, COST_FREE, [(1.0, 0.0)]),  # their losses hold no costs
        best_temperature(local, labels),
    )


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature of least cross-entropy (Guo et al., ICML 2017), 0.1 to 10."""

    def loss(log_t: float) -> float:
        return float(cross_entropy(logits / float(np.exp(log_t)), labels))

    edge = np.log(10)
    return float(np.exp(minimize_scalar(loss, bounds=(-edge, edge), method="bounded").x))


@torch.no_grad()
def described(net: AmortizedRejector, local: Tensor, features: Tensor) -> Tensor:
    """What the linear layers see: [N, F]."""
    return net.eval().describe(net.student(None, features), local)


@torch.no_grad()
def outputs(fitted: Fitted, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Scores [R, N] of the rejectors by cost, and estimates [1 + 2 len(COST_FREE), 2, N]."""
    _, local, _, features = tensors(answers)
    seen = described(fitted.net, local, features)
    scores, free = (
        (seen @ weight.T + bias).T for weight, bias in (fitted.by_cost, fitted.cost_free)
    )
    estimates = [fitted.net.combiner(seen).sigmoid().T]
    for name, score in zip(COST_FREE, free, strict=True):
        edge_right = SURROGATES[name].edge_right
        assert edge_right is not None
        for temperature in (1.0, fitted.temperature):
            own = (local / temperature).softmax(-1).amax(-1)
            estimates.append(torch.stack([own, edge_right(score, local)]))
    return scores.numpy(), torch.stack(estimates).numpy()


def settings() -> dict[str, Any]:
    """Of the rejectors and estimators in the order of `outputs`."""
    about = {"amortized, features": "one rejector for all costs, on features"}
    for name in COST_FREE:
        about[name] = f"{name} on features; P(m right) is m's max softmax"
        about[f"{name}, calibrated"] = f"{about[name]} with a temperature fitted"
    one = {"surrogate": f"{PER_COST}, features", "async_freq": 1, "stem": "features"}
    return {
        "estimators": [{"name": name, "about": text} for name, text in about.items()],
        "rejectors": [one | {"cost_1": c_1, "cost_e": c_e} for c_1, c_e in PAPER_COSTS],
    }


def decided(fitted: Fitted, fitting: Answers, test: Answers) -> Predictions:
    """The two sets of answers as val and test, with what the rejectors say of them."""
    parts = [(answers, *outputs(fitted, answers)) for answers in (fitting, test)]
    of_stages = [np.stack([answers.local, answers.remote]) for answers, _, _ in parts]
    return Predictions(
        labels=np.concatenate([answers.labels for answers, _, _ in parts]),
        stage_logits=np.concatenate(of_stages, 1),
        split=np.repeat([0, 1], [len(fitting.labels), len(test.labels)]),
        index=np.concatenate([answers.row for answers, _, _ in parts]),
        scores=np.concatenate([scores for _, scores, _ in parts], -1),
        estimates=np.concatenate([estimates for _, _, estimates in parts], -1),
        settings=settings(),
    )


def summary(runs: list[Predictions]) -> dict[str, Any]:
    """For JSON: each run's accuracies of both stages on test, and `rule_tables.means`."""
    alone = [run.part("test").correct.mean(1, dtype=np.float64).tolist() for run in runs]
    comparison = compare(runs, PAPER_COSTS, DRAWS)
    return {"alone": alone, "samples": comparison.samples, "rows": means(comparison)}


def add_seeds(parser: experiment.Parser) -> None:
    parser.add_argument(
        "--seeds", type=experiment.number(int, 0), nargs="+", default=[0, 1, 2], help="of the runs"
    )


def write_study(out: Path, seeds: list[int], study: Callable[[], dict[str, Any]]) -> None:
    """Write what `study` returns, with commit, hardware and seeds. ValueError if `out` exists."""
    if out.exists():
        raise ValueError(f"{out}: exists; delete it first")
    commit, dirty = experiment.commit()  # at the start
    hardware = experiment.hardware(torch.device("cpu"))
    record = {"commit": commit, "dirty": dirty, "hardware": hardware, "seeds": seeds}
    torch.set_num_threads(1)
    experiment.write_json(out, study() | record)
