"""Anybody's file of answers: who was right, how sure each model was, and what each costs.

A row a sample. Columns, NAME being any word for a model (case does not matter):

  label              true class or answer, a number or text (or: labels, y, y_true, target, gold)
  NAME_0 ... NAME_{K-1} or NAME_CLASS   class scores: logits, probabilities, percentages, sigmoids;
                     in an npz, Parquet or JSON one array NAME_logits or NAME_scores [N, K]
  answer_NAME        what the model answered (or: NAME_prediction)
  correct_NAME       whether it was right: 0 and 1, true and false
  quality_NAME       how good its answer is: 0..1, or any scale with Reading.quality_scale
  score_NAME         its confidence, or a router's score for it; higher is surer (or: confidence)
  cost_NAME          what asking it for this sample costs, in any unit
  rejector, rejector_RULE   scores of rules that decide whether to ask on: send iff > 0
  cost_e             what asking the last model costs for this sample, in units of one local error
  split              val (thresholds are fitted there) or test; a random half is val without it
  group              samples that belong together, such as one prompt asked twice
  id, text, images   shown with examples (images in an npz: uint8 [N, C, H, W] or [N, H, W, C])

Two models or more. Each needs class scores, answers, correctness or quality; class scores and
answers need labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deferral import cells
from deferral.classes import Classes, as_words, find_classes
from deferral.columns import Roles, find_roles, hint
from deferral.file_models import Model, Reading, class_scores, in_order, read_model
from deferral.npz_checks import read_npz
from deferral.table import Columns, read

LEAST = 2  # rows of val, and of test
SHOWN = 200  # characters of a sample's text


@dataclass(frozen=True, eq=False)
class Answers:
    """E >= 2 models, in the order in which they are asked, on N samples of one file."""

    models: tuple[Model, ...]
    split: np.ndarray  # int64 [N], 0 val and 1 test
    rows: np.ndarray  # int64 [N], rows of the file
    labels: np.ndarray | None = None  # int64 [N], indices into classes
    classes: tuple[str, ...] = ()
    group: np.ndarray | None = None  # int64 [N]
    query_cost: np.ndarray | None = None  # [N], the column cost_e
    rejectors: dict[str, np.ndarray] = field(default_factory=dict)  # [N] each
    text: np.ndarray | None = None  # [N] of str, their first SHOWN characters
    images: np.ndarray | None = None  # [N, C, H, W]
    forms: dict[str, str] = field(default_factory=dict)  # model to the form of its class scores
    class_columns: dict[str, tuple[str, ...]] = field(default_factory=dict)  # NAME to CLASS, ...
    doubts: tuple[str, ...] = ()  # models whose score column was read as a doubt
    understood: tuple[tuple[str, str], ...] = ()  # what was read, and how: for people
    source: str = "answers"


def is_native(path: str | Path) -> bool:
    """Whether a file is a predictions.npz of this project, to judge by its settings."""
    return Path(path).suffix.lower() == ".npz" and bool(read_npz(Path(path), ("settings",)))


def load(path: str | Path, reading: Reading | None = None) -> Answers:
    """Read one file. FileNotFoundError, and ValueError, one line that names the file."""
    columns, form = read(path)
    try:
        return _answers(columns, reading or Reading(), form, str(path))
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None


def _answers(columns: Columns, reading: Reading, form: str, source: str) -> Answers:
    roles = find_roles(columns)
    left_out = roles.keep(reading.models) if reading.models else []
    n = _count_rows(columns, roles)
    notes = [("file", f"{form}, {n} rows")]
    logits, forms = class_scores(columns, roles, reading.scores)
    doubts = _check_reading(roles, reading)
    labels, classes, note = _labels(columns, roles, logits)
    if note:
        notes.append(("labels", note))
    models = []
    for name, kinds in roles.models.items():
        model, note = read_model(name, kinds, columns, logits.get(name), labels, classes, reading)
        models.append(model)
        notes.append((name, ", ".join(filter(None, (forms.get(name), note)))))
    models, note = in_order(models, reading)
    notes.append(("order", note))
    group, note_group = cells.groups(columns, roles, list(logits.values()), n)
    split, note = cells.split_rows(columns, roles, group, n, reading.split_seed)
    notes.append(("split", note))
    rejectors = cells.rejectors(columns, roles)
    if rejectors:
        notes.append(("rejectors", ", ".join(rejectors)))
    if group is not None:
        notes.append(("groups", note_group))
    if left_out:
        notes.append(("left out", ", ".join(left_out)))
    if roles.unused:
        notes.append(("not used", ", ".join(hint(name, roles) for name in roles.unused[:8])))
    keep = np.ones(n, dtype=bool)
    absent = sum(int(model.missing.sum()) for model in models)
    if absent and reading.missing == "drop":
        keep = ~np.any([model.missing for model in models], axis=0)
        notes.append(("missing answers", f"{absent}; {n - keep.sum()} samples are left out"))
    elif absent:
        notes.append(("missing answers", f"{absent}, counted as wrong"))
    cost_e = None
    if column := roles.single.get("cost_e"):
        cost_e = cells.numbers(columns, column, low=0.0)
        notes.append((column, f"of asking {models[-1].name}, {cost_e.mean():.4g} a sample"))
    for name, number in (("val", 0), ("test", 1)):
        if (count := int((split[keep] == number).sum())) < LEAST:
            raise ValueError(
                f"has {count or 'no'} {name} row{'s' * (count != 1)}; thresholds are fitted on val "
                f"and measured on test, which need {LEAST} rows each"
            )
    text = roles.single.get("text", roles.single.get("id"))
    if text:
        notes.append(("samples", f"{text}, shown with examples"))
    answers = Answers(
        models=tuple(models),
        split=split,
        rows=np.arange(n),
        labels=labels,
        classes=classes.shown,
        group=group,
        query_cost=cost_e,
        rejectors=rejectors,
        text=_beginnings(cells.texts(columns[text])) if text else None,
        images=cells.images(columns, roles, n),
        forms={model: form.split(" (")[0] for model, form in forms.items()},
        class_columns={model: tuple(by_class) for model, by_class in roles.classes.items()},
        doubts=doubts,
        understood=tuple(notes),
        source=source,
    )
    return answers if keep.all() else _take(answers, keep)


def _check_reading(roles: Roles, reading: Reading) -> tuple[str, ...]:
    """Names of the models in `reading.doubts`. ValueError for what has no effect on this file."""
    scored = {model.lower(): model for model, kinds in roles.models.items() if "score" in kinds}
    if unknown := [name for name in reading.doubts if name.lower() not in scored]:
        raise ValueError(f"--doubts {unknown[0]}: has no column score_{unknown[0]}")
    if reading.quality_scale and not any("quality" in kinds for kinds in roles.models.values()):
        raise ValueError("--quality_scale: has no column quality_NAME")
    if reading.scores != "auto" and not any(
        model in roles.classes or "scores" in kinds for model, kinds in roles.models.items()
    ):
        raise ValueError("--scores: has no class scores whose form is open")
    return tuple(scored[name.lower()] for name in reading.doubts)


def _beginnings(texts: Sequence[str]) -> np.ndarray:
    """What is shown of texts, [N] of str; not padded to the longest, as numpy's strings are."""
    found = np.empty(len(texts), dtype=object)
    found[:] = [text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…" for text in texts]
    return found


def _count_rows(columns: Columns, roles: Roles) -> int:
    """N. ValueError where there are not two models, or columns differ in length."""
    answering = ("answer", "correct", "quality", "logits", "scores")
    complete = [
        m for m, kinds in roles.models.items() if m in roles.classes or kinds.keys() & answering
    ]
    for model in roles.models:
        if model not in complete:
            kinds = ", ".join(roles.models[model].values())
            raise ValueError(
                f"does not say when {model} is right (it has only {kinds}): needs answer_{model}, "
                f"correct_{model}, quality_{model} or class scores {model}_0, ...; a router's "
                f"score, high where the next model should be asked, is rejector_{model}"
            )
    if len(complete) < 2:
        models = f"only the model {complete[0]}" if complete else "no model"
        raise ValueError(
            f"has {models}: two or more are needed, each with class scores NAME_0, NAME_1, ..., "
            f"answer_NAME, correct_NAME or quality_NAME; its columns are "
            f"{', '.join(hint(name, roles) for name in list(columns)[:6])}"
        )
    used = [*roles.single.values(), *(c for kinds in roles.models.values() for c in kinds.values())]
    used += [c for by_class in roles.classes.values() for c in by_class.values()]
    used += roles.rejectors.values()
    n = len(columns[used[0]])
    for name in used:
        if not columns[name].ndim or len(columns[name]) != n:
            shape = columns[name].shape
            raise ValueError(f"{used[0]} has {n} rows, but {name} is {shape}")
    return n


def _labels(
    columns: Columns, roles: Roles, logits: dict[str, np.ndarray]
) -> tuple[np.ndarray | None, Classes, str]:
    """Class of each sample [N], all classes, and what must be said of how labels were read."""
    judged = {m for m, kinds in roles.models.items() if kinds.keys() & {"correct", "quality"}}
    name = roles.single.get("label")
    if name is None:
        if wanting := [model for model in roles.models if model not in judged]:
            raise ValueError(
                f"has no column of labels; without one nobody knows whether {wanting[0]} is right"
            )
        return None, Classes((), {}), ""
    words = as_words(columns[name])
    if (row := words.first("")) is not None:
        raise ValueError(f"{name} is empty in row {row} (from 0)")
    if not logits:
        shown = words.unique
        classes, note = Classes(tuple(shown), {word: k for k, word in enumerate(shown)}), name
    else:
        model, scores = next(iter(logits.items()))
        keys = list(roles.classes.get(model, ())) or [str(k) for k in range(scores.shape[1])]
        if len(keys) != scores.shape[1]:  # one column, the probability of class 1
            keys = ["0", "1"]
        classes, note = find_classes(words, keys, scores.argmax(1), model, name)
    return classes.number(words), classes, note


def _take(answers: Answers, keep: np.ndarray) -> Answers:
    """The samples where `keep` [N] is true."""

    def some(value: Any) -> Any:
        return value[keep] if isinstance(value, np.ndarray) else value

    def of(item: Any) -> dict[str, Any]:
        return {f.name: some(getattr(item, f.name)) for f in fields(item)}

    models = tuple(Model(**of(model)) for model in answers.models)
    rejectors = {name: score[keep] for name, score in answers.rejectors.items()}
    return Answers(**(of(answers) | {"models": models, "rejectors": rejectors}))
