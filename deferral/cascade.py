"""A file of answers as the `Predictions` that rules, risks, figures and the report take.

Stages are the file's models in the order in which they are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deferral import estimates
from deferral.catalogue import DOUBTS
from deferral.external import Answers
from deferral.file_models import Model
from deferral.predictions import SPLITS, Own, Predictions

REJECTOR = "rejector "  # of a column rejector_RULE, before its name
SOFTMAX = "class scores"  # a signal: what `estimates.signals` says of a model's class scores
EXAMPLES = 256  # test pictures that are kept, evenly over the rows
MOST_FOR_CEILING = 200_000  # rows; the class scores of more are not held twice
MOST_CLASSES = 100  # of answers without class scores: more make no table, and large arrays
PAY = ("cascade", "router")


@dataclass(frozen=True, eq=False)
class Scores:
    """What a file of N samples says of how sure its models are: nobody says who is right."""

    samples: int
    logits: dict[str, np.ndarray]  # by model, [N, K]; 0 where it gave no scores
    score: dict[str, np.ndarray]  # by model, [N], higher is surer
    rejectors: dict[str, np.ndarray]  # by rule, [N]
    ids: list[str] = field(default_factory=list)  # the column id, or row numbers from 0
    groups: int = 0  # how many groups of samples there are; N where the file has none


def as_predictions(
    answers: Answers, pay: str = "cascade", most_classes: int = MOST_CLASSES
) -> Predictions:
    """The answers of E models as E stages.

    With two models the file's rejectors stand as they are for any costs, send iff > 0, and their
    scores have thresholds fitted on val too, as a confidence has. pay: whether a
    sample pays for every model that it asked ("cascade"), or for the one that answers ("router").
    most_classes: where no model has class scores and there are more classes, as where answers are
    free text, stage_logits have K = 0.
    """
    names, logits = [model.name for model in answers.models], _logits(answers, most_classes)
    scores = _scores(answers)
    kinds, seen = _doubt_kinds(answers, pay), _signal_kinds(answers)
    doubts = {
        rule: np.stack([doubt_of(kind, names[k], names[-1], scores) for k, kind in enumerate(of)])
        for rule, of in kinds.items()
    }
    own = Own(
        quality=np.stack([model.quality for model in answers.models]),
        doubts=doubts,
        signals=[signals_of(names[k], of, scores) for k, of in enumerate(seen)],
        paid=paid(answers, pay),
        group=answers.group,
        text=answers.text,
        class_scores=_both_class_scores(answers),
    )
    rejectors = answers.rejectors if len(answers.models) == 2 else {}
    always = np.array(list(rejectors.values())).reshape(len(rejectors), len(answers.rows))
    return Predictions(
        labels=np.zeros(len(answers.rows), np.int64) if answers.labels is None else answers.labels,
        stage_logits=logits,
        split=answers.split,
        index=answers.rows,
        scores=always,
        settings={
            "dataset": _name(answers.source),
            "classes": list(answers.classes) if logits.shape[-1] else [],
            "models": names,
            "doubt_kinds": kinds,
            "signal_kinds": seen,
            "class_columns": {name: list(of) for name, of in answers.class_columns.items()},
            "pay": pay,
            "forms": answers.forms,
            "doubts": list(answers.doubts),
            "cost_unit": _cost_unit(answers),
            "understood": [list(note) for note in (*answers.understood, *_unused(answers, pay))],
            "split": dict(answers.understood)["split"],
            "rejectors": [
                {"stem": name, "surrogate": name, "async_freq": 1, "any_cost": True}
                | {"about": "the file's rejector; sends iff its score is > 0"}
                for name in rejectors
            ],
        },
        own=own,
        source=answers.source,
        **_examples(answers),
    )


def _both_class_scores(answers: Answers) -> np.ndarray | None:
    """Logits of both of two models, [2, N, K]; None where a call's cost differs between rows."""
    scores = [m.logits for m in answers.models if m.logits is not None and _informative(m)]
    same_cost = answers.query_cost is None and all(m.cost is None for m in answers.models)
    large = len(answers.rows) > MOST_FOR_CEILING
    if len(answers.models) != 2 or len(scores) != 2 or not same_cost or large:
        return None
    return np.stack(scores) if scores[0].shape == scores[1].shape else None


def exits_alone(predictions: Predictions) -> Predictions:
    """Exits of a network without a server: the last exit is the last model.

    A sample pays the multiply-adds up to the exit that answers it.
    """
    p, count = predictions, len(predictions.stage_logits)
    adds = np.array(p.settings["multiply_adds"], dtype=np.float64)
    names = [f"exit {k + 1}" for k in range(count)]
    own = Own(
        quality=p.correct.astype(np.float32),
        doubts={
            rule: np.stack([doubt(logits) for logits in p.stage_logits[:-1]])
            for rule, doubt in DOUBTS.items()
        },
        signals=[estimates.signals(logits) for logits in p.stage_logits[:-1]],
        paid=np.repeat(adds[:, None], len(p.labels), axis=1),
    )
    settings = {k: v for k, v in p.settings.items() if k not in ("multiply_adds", "estimators")}
    settings |= {"models": names, "pay": "cascade", "cost_unit": "file", "doubts": []}
    settings |= {"exits": True, "unit_name": "multiply-adds", "rejectors": [], "class_columns": {}}
    settings |= {"forms": dict.fromkeys(names, "logits")}
    settings |= {"doubt_kinds": {rule: [rule] * (count - 1) for rule in DOUBTS}}
    settings |= {"signal_kinds": [[SOFTMAX]] * (count - 1)}
    scores = np.zeros((0, len(p.labels)))
    return replace(p, scores=scores, settings=settings, own=own, estimates=None)


def paid(answers: Answers, pay: str) -> np.ndarray | None:
    """What a sample costs if model e answers it, [E, N], in the file's unit; None: 0, and 1.

    From cost_NAME, or cost_e. Where there is neither, each model after the first costs 1 more.
    """
    own = [model.cost for model in answers.models if model.cost is not None]
    if len(own) == len(answers.models):
        return np.cumsum(own, axis=0) if pay == "cascade" else np.stack(own)
    if own:
        bare = next(model.name for model in answers.models if model.cost is None)
        raise ValueError(f"{answers.source}: has no cost_{bare}; every model's cost is needed")
    size, n = len(answers.models), len(answers.rows)
    if answers.query_cost is not None:
        return np.concatenate([np.zeros((size - 1, n)), answers.query_cost[None]])
    if size == 2:
        return None
    steps = np.arange(size) if pay == "cascade" else (np.arange(size) > 0)
    return np.repeat(steps[:, None].astype(np.float64), n, axis=1)


def _cost_unit(answers: Answers) -> str:
    """What costs are in: "file" (cost_NAME), "errors" (cost_e), or "calls"."""
    if all(model.cost is not None for model in answers.models):
        return "file"
    return "calls" if answers.query_cost is None else "errors"


def doubt_of(kind: str, model: str, last: str, scores: Scores) -> np.ndarray:
    """How unsure a model is of each sample, [N]: what a threshold is on.

    kind: a confidence rule of deferral/catalogue.py, of its class scores; "score": minus its
    column; "score of last": the last model's column; "score_gap": the last model's minus its own;
    "rejector RULE": that column; "none": the same of all samples. ValueError where it is not there.
    """
    if kind in DOUBTS:
        return np.asarray(DOUBTS[kind](_class_scores(model, scores)))
    if kind.startswith(REJECTOR):
        name = kind.removeprefix(REJECTOR)
        if name not in scores.rejectors:
            raise ValueError(f"has no column rejector_{name}")
        return scores.rejectors[name]
    if kind == "none":
        return np.zeros(scores.samples)
    if kind == "score":
        return -_own_score(model, scores)
    asked = _own_score(last, scores)
    return asked - _own_score(model, scores) if kind == "score_gap" else asked


def signals_of(model: str, kinds: Sequence[str], scores: Scores) -> np.ndarray:
    """What a fitted rule sees of a model, [N, F]: its class scores, score, and rejectors' scores.

    ValueError where one of `kinds` is not there.
    """
    columns = []
    for kind in kinds:
        if kind == SOFTMAX:
            columns.append(estimates.signals(_class_scores(model, scores)))
        elif kind == "score":
            columns.append(_own_score(model, scores)[:, None])
        else:
            columns.append(doubt_of(kind, model, model, scores)[:, None])
    return np.concatenate(columns, axis=1)


def _class_scores(model: str, scores: Scores) -> np.ndarray:
    if model not in scores.logits:
        raise ValueError(f"has no class scores of {model}: {model}_0, {model}_1, ...")
    return scores.logits[model]


def _own_score(model: str, scores: Scores) -> np.ndarray:
    if model not in scores.score:
        raise ValueError(f"has no column score_{model}")
    return scores.score[model]


def _scores(answers: Answers) -> Scores:
    """What a file of new samples has too."""
    return Scores(
        samples=len(answers.rows),
        logits={m.name: m.logits for m in answers.models if m.logits is not None},
        score={m.name: m.score for m in answers.models if m.score is not None},
        rejectors=answers.rejectors,
    )


def _informative(model: Model) -> bool:
    """Whether class scores tell more than which class was chosen."""
    return model.logits is not None and len(np.unique(model.logits[:1000])) > 2


def _unused(answers: Answers, pay: str) -> list[tuple[str, str]]:
    """What must be said of a score that no rule of a cascade can go by."""
    last = answers.models[-1]
    if pay == "router" or last.score is None:
        return []
    about = f"not used: in a cascade it is known only once {last.name} was asked; --pay router and "
    return [(f"score of {last.name}", f"{about}columns rejector_RULE are for what is known before")]


def _doubt_kinds(answers: Answers, pay: str) -> dict[str, list[str]]:
    """By rule, the kind of doubt (`doubt_of`) of each model but the last."""
    first, last = answers.models[:-1], answers.models[-1]
    kinds: dict[str, list[str]] = {}
    if all(_informative(model) for model in first):
        kinds |= {name: [name] * len(first) for name in DOUBTS}
    if any(model.score is not None for model in first):
        kinds["score"] = [
            "score" if m.score is not None else "max_softmax" if _informative(m) else "none"
            for m in first
        ]
    if pay == "router" and last.score is not None:
        # In a cascade nobody knows it before the last model is asked.
        kinds[f"score of {last.name}"] = ["score of last"] * len(first)
        if all(model.score is not None for model in first):
            kinds["score_gap"] = ["score_gap"] * len(first)
    if len(answers.models) == 2:
        kinds |= {f"{name}, fitted": [f"{REJECTOR}{name}"] for name in answers.rejectors}
    return kinds


def _signal_kinds(answers: Answers) -> list[list[str]]:
    """What fitted rules may look at after each model but the last; empty for no fitted rule.

    Never who was right: so nothing where a model says no more than that, and where all labels are
    one class, whose score tells who was right.
    """
    if answers.labels is not None and len(np.unique(answers.labels)) < 2:
        return []
    kinds = []
    for model in answers.models[:-1]:
        known = model.logits is not None and (answers.labels is not None or _informative(model))
        of_model = [SOFTMAX] * known + ["score"] * (model.score is not None)
        of_model += [f"{REJECTOR}{name}" for name in answers.rejectors]
        if not of_model:
            return []
        kinds.append(of_model)
    return kinds


def _logits(answers: Answers, most_classes: int) -> np.ndarray:
    """Class scores [E, N, K] float32 for tables of classes; K = 0 where an answer is not known.

    And where `as_predictions` says so.
    """
    shape = (len(answers.models), len(answers.rows), len(answers.classes))
    known = [model.logits is not None or model.answer is not None for model in answers.models]
    scored = any(model.logits is not None for model in answers.models)
    many = not scored and shape[-1] > most_classes
    if answers.labels is None or not all(known) or many:
        return np.zeros((*shape[:2], 0), np.float32)
    logits = np.zeros(shape, np.float32)
    for of_model, model in zip(logits, answers.models, strict=True):
        if model.answer is None and model.logits is not None:
            of_model[:] = model.logits
        elif model.answer is not None:
            rows = np.flatnonzero(model.answer >= 0)
            of_model[rows, model.answer[rows]] = 1
    return logits


def _examples(answers: Answers) -> dict[str, np.ndarray]:
    """example_index and example_images of at most EXAMPLES test rows; nothing without images."""
    if answers.images is None:
        return {}
    rows = np.flatnonzero(answers.split == SPLITS["test"])
    rows = evenly(rows, EXAMPLES)
    return {"example_index": rows, "example_images": np.ascontiguousarray(answers.images[rows])}


def evenly(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of values [N], evenly spread over them."""
    places = np.linspace(0, len(values) - 1, min(most, len(values)))
    return values[np.unique(places.astype(int))]


def _name(source: str) -> str:
    name = Path(source).name
    for ending in (".gz", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".npz"):
        name = name.removesuffix(ending)
    return name.removesuffix("-predictions")
