"""The models of a file of answers: how sure, how right and how dear each is, from its columns."""

from dataclasses import dataclass

import numpy as np

from deferral import cells
from deferral.classes import Classes, as_words
from deferral.columns import ROLES, Roles
from deferral.scores import as_logits
from deferral.table import Columns


@dataclass(frozen=True)
class Reading:
    """What a file does not say itself.

    models: the order in which they are asked, others are left out; empty: by mean cost, else as
    the file names them. quality_scale: range of the columns quality_NAME; None: 0 to 1. doubts:
    models whose score is higher where they are less sure. scores: the form of all class scores
    (`scores.FORMS`), or "auto". missing: an answer that is not there (empty, nan, -1) is "wrong",
    or its sample is left out ("drop").
    """

    models: tuple[str, ...] = ()
    quality_scale: tuple[float, float] | None = None
    doubts: tuple[str, ...] = ()
    scores: str = "auto"
    missing: str = "wrong"
    split_seed: int = 0


@dataclass(frozen=True, eq=False)
class Model:
    """What one model did with N samples."""

    name: str
    quality: np.ndarray  # float32 [N], 0..1; where it is right or wrong 1 or 0
    missing: np.ndarray  # bool [N]: it gave no answer; its quality is 0 there
    logits: np.ndarray | None = None  # [N, K]; no nan
    answer: np.ndarray | None = None  # int64 [N], index into classes, -1 for none of them
    score: np.ndarray | None = None  # [N], higher is surer
    cost: np.ndarray | None = None  # [N], of asking it alone


def class_scores(
    columns: Columns, roles: Roles, scores: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Logits [N, K] by model, rows of nan where none are there; and what they were in the file."""
    logits, forms = {}, {}
    for model in roles.models:
        found = scores_of(model, columns, roles, scores)
        if found is None:
            continue
        logits[model], forms[model] = found
    sizes = {model: values.shape[1] for model, values in logits.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"models score different numbers of classes: {sizes}")
    return logits, forms


def scores_of(
    model: str, columns: Columns, roles: Roles, scores: str
) -> tuple[np.ndarray, str] | None:
    """One model's logits [N, K] and their form; None where it has no class scores."""
    kinds, by_class = roles.models[model], roles.classes.get(model)
    matrices = [kinds[kind] for kind in ("logits", "scores") if kind in kinds]
    if len(matrices) + bool(by_class) > 1:
        raise ValueError(f"has the class scores of {model} twice ({', '.join(matrices)})")
    if matrices:
        name, values = matrices[0], columns[matrices[0]]
        form = "named" if "logits" in kinds else scores
    elif by_class:
        name, form, values = f"{model}'s class scores", scores, _stack(by_class, columns)
        if values.shape[1] == 1:
            values = _two_classes(model, next(iter(by_class.values())), values[:, 0])
    else:
        return None
    logits, form = as_logits(values, name, form)
    if np.isin(values[:1000], (0, 1)).all() and np.isin(values, (0, 1)).all():
        form = "one class chosen, without a confidence"
    return logits, form


def _stack(by_class: dict[str, str], columns: Columns) -> np.ndarray:
    dtype = np.float32 if len(by_class) > 20 else np.float64
    return np.stack([columns[name] for name in by_class.values()], axis=1).astype(dtype, copy=False)


def _two_classes(model: str, name: str, p: np.ndarray) -> np.ndarray:
    """[N, 2] of one column, the probability of class 1 of two."""
    if name.rpartition("_")[2] != "1" or p.min() < 0 or p.max() > 1:
        raise ValueError(
            f"{name} is the only class score of {model}: write a column a class, or name it "
            f"{model}_1 if it is the probability of class 1 of two"
        )
    return np.stack([1 - p, p], axis=1)


def read_model(
    name: str,
    kinds: dict[str, str],
    columns: Columns,
    logits: np.ndarray | None,
    labels: np.ndarray | None,
    classes: Classes,
    reading: Reading,
) -> tuple[Model, str]:
    """One model's columns, checked; and what they are, in words.

    Of several that say how good an answer is, quality goes before correct, and that before answer.
    """
    judging = [kinds[kind] for kind in ("quality", "correct", "answer") if kind in kinds]
    answer, notes = None, judging[:1]
    if len(judging) > 1:
        notes = [f"{judging[0]} says what is right, not {' or '.join(judging[1:])}"]
    if "quality" in kinds:
        quality = cells.quality(columns, kinds["quality"], *(reading.quality_scale or (0, 1)))
    elif "correct" in kinds:
        quality = cells.quality(columns, kinds["correct"], 0, 1)
        if not np.isin(quality[~np.isnan(quality)], (0, 1)).all():
            raise ValueError(f"{kinds['correct']} must be 0 and 1; for others use quality_{name}")
    else:
        if "answer" in kinds:
            answer, missing, note = classes.answers(as_words(columns[kinds["answer"]]))
            notes.append(note)
        else:
            assert logits is not None
            missing = np.isnan(logits).all(1)
            answer = np.where(missing, -1, np.where(np.isnan(logits), -np.inf, logits).argmax(1))
        quality = np.where(missing, np.nan, answer == labels)
    missing = np.isnan(quality)
    if logits is not None:
        if np.isnan(logits[~missing]).any():
            raise ValueError(f"class scores of {name} are missing where it answers")
        logits = np.where(np.isnan(logits), logits.dtype.type(0), logits)
    score = cells.numbers(columns, kinds["score"]) if "score" in kinds else None
    if score is not None:
        doubt = name.lower() in map(str.lower, reading.doubts)
        score = -score if doubt else score
        notes.append(f"{kinds['score']}: higher is {'less sure' if doubt else 'surer'}")
    cost = cells.numbers(columns, kinds["cost"], low=0.0) if "cost" in kinds else None
    if cost is not None:
        notes.append(f"{kinds['cost']}: {cost.mean():.6g} a sample")
    quality = np.where(missing, 0, quality).astype(np.float32)
    right = "right" if np.isin(quality, (0, 1)).all() else "quality"
    notes.append(f"{right} {quality.mean():.1%}")
    return Model(name, quality, missing, logits, answer, score, cost), ", ".join(
        filter(None, notes)
    )


def in_order(models: list[Model], reading: Reading) -> tuple[list[Model], str]:
    """The models in the order in which they are asked, and why in that one."""
    names = [model.name for model in models]
    lower = [name.lower() for name in names]
    if reading.models:
        wanted = [name.lower() for name in reading.models]
        if len(set(wanted)) < len(wanted) or len(wanted) < 2:
            raise ValueError("needs two different models or more, the cheapest first")
        order, why = [lower.index(name) for name in wanted], "as asked for"
    elif all(model.cost is not None for model in models):
        means = [model.cost.mean() for model in models if model.cost is not None]
        order = np.argsort(means, kind="stable").tolist()
        why = "by mean cost"
    elif all(name in ROLES for name in lower):
        order = np.argsort([ROLES.index(name) for name in lower], kind="stable").tolist()
        why = "cheap to dear, by their names"
    else:
        order, why = list(range(len(names))), "as in the file (--models changes it)"
    chosen = [models[k] for k in order]
    return chosen, f"{', '.join(model.name for model in chosen)}: {why}"
