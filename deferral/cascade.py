"""A file of answers as the `Predictions` that rules, risks, figures and the report take.

Stages are the file's models in the order in which they are asked.
"""

from pathlib import Path

import numpy as np

from deferral import estimates
from deferral.catalogue import DOUBTS
from deferral.external import Answers, Model
from deferral.predictions import SPLITS, Own, Predictions

EXAMPLES = 256  # test pictures that are kept, evenly over the rows
PAY = ("cascade", "router")


def as_predictions(answers: Answers, pay: str = "cascade") -> Predictions:
    """The answers of E models as E stages.

    With two models the file's rejectors stand as they are for any costs, send iff > 0, and their
    scores have thresholds fitted on val too, as a confidence has. pay: whether a
    sample pays for every model that it asked ("cascade"), or for the one that answers ("router").
    """
    own = Own(
        quality=np.stack([model.quality for model in answers.models]),
        doubts=_doubts(answers, pay),
        signals=_signals(answers),
        paid=paid(answers, pay),
        group=answers.group,
    )
    rejectors = answers.rejectors if len(answers.models) == 2 else {}
    scores = np.array(list(rejectors.values())).reshape(len(rejectors), len(answers.rows))
    return Predictions(
        labels=np.zeros(len(answers.rows), np.int64) if answers.labels is None else answers.labels,
        stage_logits=_logits(answers),
        split=answers.split,
        index=answers.rows,
        scores=scores,
        settings={
            "dataset": _name(answers.source),
            "classes": list(answers.classes) if answers.labels is not None else [],
            "models": [model.name for model in answers.models],
            "pay": pay,
            "forms": answers.forms,
            "doubts": list(answers.doubts),
            "cost_unit": _cost_unit(answers),
            "understood": [list(note) for note in answers.understood],
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


def _informative(model: Model) -> bool:
    """Whether class scores tell more than which class was chosen."""
    return model.logits is not None and len(np.unique(model.logits[:1000])) > 2


def _doubts(answers: Answers, pay: str) -> dict[str, np.ndarray]:
    """By rule, how unsure each model but the last is: [E - 1, N]."""
    first, last = answers.models[:-1], answers.models[-1]
    doubts: dict[str, np.ndarray] = {}
    if all(_informative(model) for model in first):
        for name, doubt in DOUBTS.items():
            doubts[name] = np.stack([doubt(m.logits) for m in first if m.logits is not None])
    if any(model.score is not None for model in first):
        doubts["score"] = np.stack([_unsure(model) for model in first])
    elif pay == "router" and last.score is not None:
        doubts["score"] = np.repeat(last.score[None], len(first), axis=0)
    if pay == "router" and last.score is not None and all(m.score is not None for m in first):
        doubts["score_gap"] = last.score - np.stack([m.score for m in first if m.score is not None])
    if len(answers.models) == 2:
        for name, score in answers.rejectors.items():
            doubts[f"{name}, fitted"] = score[None]
    return doubts


def _unsure(model: Model) -> np.ndarray:
    """Minus its score; without one what its class scores tell, or the same for all samples."""
    if model.score is not None:
        return -model.score
    if _informative(model) and model.logits is not None:
        return DOUBTS["max_softmax"](model.logits)
    return np.zeros(len(model.quality))


def _signals(answers: Answers) -> list[np.ndarray]:
    """What fitted rules may look at after each model but the last, [N, F].

    Never who was right: so nothing where a model says no more than that, and where all labels are
    one class, whose score tells who was right.
    """
    if answers.labels is not None and len(np.unique(answers.labels)) < 2:
        return []
    signals = []
    for model in answers.models[:-1]:
        columns = [estimates.signals(model.logits)] if model.logits is not None else []
        if model.score is not None:
            columns.append(model.score[:, None])
        columns += [score[:, None] for score in answers.rejectors.values()]
        if not columns:
            return []
        signals.append(np.concatenate(columns, axis=1))
    return signals


def _logits(answers: Answers) -> np.ndarray:
    """Class scores [E, N, K] float32 for tables of classes; K = 0 where an answer is not known."""
    shape = (len(answers.models), len(answers.rows), len(answers.classes))
    known = [model.logits is not None or model.answer is not None for model in answers.models]
    if answers.labels is None or not all(known):
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
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).astype(int))]
    return {"example_index": rows, "example_images": np.ascontiguousarray(answers.images[rows])}


def _name(source: str) -> str:
    name = Path(source).name
    for ending in (".gz", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".npz"):
        name = name.removesuffix(ending)
    return name.removesuffix("-predictions")
