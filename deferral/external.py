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

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deferral.classes import Classes, as_words, find_classes
from deferral.columns import ROLES, Roles, find_roles, hint
from deferral.scores import as_logits
from deferral.table import Columns, read

SPLIT_WORDS = dict.fromkeys(("0", "val", "valid", "validation", "dev", "cal", "calibration"), 0)
SPLIT_WORDS |= dict.fromkeys(("1", "test", "eval"), 1)
COPIES = 0.02  # a share of repeated rows above this is no coincidence


@dataclass(frozen=True)
class Reading:
    """What a file does not say itself.

    models: the order in which they are asked; empty: by mean cost, else as the file names them.
    doubts: models whose score is higher where they are less sure. scores: the form of all class
    scores (`scores.FORMS`), or "auto". missing: an answer that is not there (empty, nan, -1) is
    "wrong", or its sample is left out ("drop").
    """

    models: tuple[str, ...] = ()
    quality_scale: tuple[float, float] = (0.0, 1.0)
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
    text: np.ndarray | None = None  # [N]
    images: np.ndarray | None = None  # [N, C, H, W]
    understood: tuple[tuple[str, str], ...] = ()  # what was read, and how: for people
    source: str = "answers"


def load(path: str | Path, reading: Reading | None = None) -> Answers:
    """Read one file. FileNotFoundError, and ValueError, one line that names the file."""
    columns, form = read(path)
    try:
        return _answers(columns, reading or Reading(), form, str(path))
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None


def _answers(columns: Columns, reading: Reading, form: str, source: str) -> Answers:
    roles = find_roles(columns)
    n = _count_rows(columns, roles)
    notes = [("file", f"{form}, {n} rows")]
    logits, forms = _class_scores(columns, roles, reading)
    labels, classes, note = _labels(columns, roles, logits)
    if note:
        notes.append(("labels", note))
    models = []
    for name, kinds in roles.models.items():
        model, note = _model(name, kinds, columns, logits.get(name), labels, classes, reading)
        models.append(model)
        notes.append((name, ", ".join(filter(None, (forms.get(name), note)))))
    models, note = _ordered(models, reading)
    notes.append(("order", note))
    group, note_group = _group(columns, roles, models, n)
    split, note = _split(columns, roles, group, n, reading.split_seed)
    notes.append(("split", note))
    rejectors = _rejectors(columns, roles)
    if rejectors:
        notes.append(("rejectors", ", ".join(rejectors)))
    if group is not None:
        notes.append(("groups", note_group))
    if roles.unused:
        notes.append(("not used", ", ".join(hint(name, roles) for name in roles.unused[:8])))
    keep = np.ones(n, dtype=bool)
    absent = sum(int(model.missing.sum()) for model in models)
    if absent and reading.missing == "drop":
        keep = ~np.any([model.missing for model in models], axis=0)
        notes.append(("missing answers", f"{absent}; {n - keep.sum()} samples are left out"))
    elif absent:
        notes.append(("missing answers", f"{absent}, counted as wrong"))
    for name, number in (("val", 0), ("test", 1)):
        if not (split[keep] == number).any():
            raise ValueError(f"has no {name} rows; thresholds are fitted on val, measured on test")
    cost_e = None
    if column := roles.single.get("cost_e"):
        cost_e = _numbers(columns, column, low=0.0)
        notes.append((column, f"of asking {models[-1].name}, {cost_e.mean():.4g} a sample"))
    text = roles.single.get("text", roles.single.get("id"))
    answers = Answers(
        models=tuple(models),
        split=split,
        rows=np.arange(n),
        labels=labels,
        classes=classes.shown,
        group=group,
        query_cost=cost_e,
        rejectors=rejectors,
        text=np.array(_texts(columns[text])) if text else None,
        images=_images(columns, roles, n),
        understood=tuple(notes),
        source=source,
    )
    return answers if keep.all() else _take(answers, keep)


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
    used = [
        name
        for name in used
        if name not in (roles.single.get("classes"), roles.single.get("rejector_names"))
    ]
    n = len(columns[used[0]])
    for name in used:
        if not columns[name].ndim or len(columns[name]) != n:
            shape = columns[name].shape
            raise ValueError(f"{used[0]} has {n} rows, but {name} is {shape}")
    return n


def _class_scores(
    columns: Columns, roles: Roles, reading: Reading
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Logits [N, K] by model, and what they were in the file; rows of nan where none are there."""
    logits, forms = {}, {}
    for model, kinds in roles.models.items():
        matrices = [kinds[kind] for kind in ("logits", "scores") if kind in kinds]
        if len(matrices) + (model in roles.classes) > 1:
            raise ValueError(f"has the class scores of {model} twice ({', '.join(matrices)})")
        if matrices:
            name, values = matrices[0], columns[matrices[0]]
            form = "named" if "logits" in kinds else reading.scores
        elif model in roles.classes:
            name, form = f"{model}'s class scores", reading.scores
            values = _stack(roles.classes[model], columns)
            if values.shape[1] == 1:
                values = _two_classes(
                    model, next(iter(roles.classes[model].values())), values[:, 0]
                )
        else:
            continue
        logits[model], forms[model] = as_logits(values, name, form)
        if np.isin(values, (0, 1)).all():
            forms[model] = "one class chosen, without a confidence"
    sizes = {model: values.shape[1] for model, values in logits.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"models score different numbers of classes: {sizes}")
    return logits, forms


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
        given = roles.single.get("classes")
        shown = _texts(np.atleast_1d(columns[given])) if given else keys
        classes, note = find_classes(words, keys, shown, scores.argmax(1), model, name)
    return classes.number(words), classes, note


def _model(
    name: str,
    kinds: dict[str, str],
    columns: Columns,
    logits: np.ndarray | None,
    labels: np.ndarray | None,
    classes: Classes,
    reading: Reading,
) -> tuple[Model, str]:
    """One model's columns, checked; and what they are, in words."""
    judging = [kinds[kind] for kind in ("quality", "correct", "answer") if kind in kinds]
    if len(judging) > 1:
        raise ValueError(f"says in {' and '.join(judging)} whether {name} is right")
    answer, notes = None, [*judging]
    if "quality" in kinds:
        quality = _quality(columns, kinds["quality"], *reading.quality_scale)
    elif "correct" in kinds:
        quality = _quality(columns, kinds["correct"], 0, 1)
        if not np.isin(quality[~np.isnan(quality)], (0, 1)).all():
            raise ValueError(f"{kinds['correct']} must be 0 and 1; for others use quality_{name}")
    else:
        if "answer" in kinds:
            answer, missing, note = classes.answers(as_words(columns[kinds["answer"]]))
            notes.append(note)
        elif logits is not None:
            missing = np.isnan(logits).all(1)
            answer = np.where(missing, -1, np.where(np.isnan(logits), -np.inf, logits).argmax(1))
        else:
            raise ValueError(f"says nothing about who was right for {name}")
        quality = np.where(missing, np.nan, answer == labels)
    missing = np.isnan(quality)
    if logits is not None:
        if np.isnan(logits[~missing]).any():
            raise ValueError(f"class scores of {name} are missing where it answers")
        logits = np.where(np.isnan(logits), logits.dtype.type(0), logits)
    score = _numbers(columns, kinds["score"]) if "score" in kinds else None
    if score is not None:
        doubt = name in reading.doubts
        score = -score if doubt else score
        notes.append(f"{kinds['score']}: higher is {'less sure' if doubt else 'surer'}")
    cost = _numbers(columns, kinds["cost"], low=0.0) if "cost" in kinds else None
    if cost is not None:
        notes.append(f"{kinds['cost']}: {cost.mean():.6g} a sample")
    quality = np.where(missing, 0, quality).astype(np.float32)
    right = "right" if np.isin(quality, (0, 1)).all() else "quality"
    notes.append(f"{right} {quality.mean():.1%}")
    return Model(name, quality, missing, logits, answer, score, cost), ", ".join(
        filter(None, notes)
    )


def _quality(columns: Columns, name: str, low: float, high: float) -> np.ndarray:
    """A column as quality in 0..1, [N]; nan where it is missing."""
    values = _numbers(columns, name, nan=True)
    bad = np.flatnonzero((values < low) | (values > high))
    if bad.size:
        raise ValueError(
            f"{name} is {values[bad[0]]:g} in row {bad[0]} (from 0), not {low:g} to {high:g}"
            f"{'; --quality_scale gives another range' * (low != 0 or high != 1 or 'qual' in name)}"
        )
    return (values - low) / (high - low)


def _ordered(models: list[Model], reading: Reading) -> tuple[list[Model], str]:
    """The models in the order in which they are asked, and why in that one."""
    names = [model.name for model in models]
    lower = [name.lower() for name in names]
    if reading.models:
        wanted = [name.lower() for name in reading.models]
        if unknown := [name for name in reading.models if name.lower() not in lower]:
            raise ValueError(f"has no model {unknown[0]}; there are {', '.join(names)}")
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


def _split(
    columns: Columns, roles: Roles, group: np.ndarray | None, n: int, seed: int
) -> tuple[np.ndarray, str]:
    """[N] of 0 (val) and 1 (test), and where they come from, in words."""
    if "split" not in roles.single:
        members = np.arange(n) if group is None else np.unique(group)
        chosen = np.random.default_rng(seed).permutation(members)[: len(members) // 2]
        split = (~np.isin(np.arange(n) if group is None else group, chosen)).astype(np.int64)
        unit = "rows" if group is None else "groups"
        return split, f"not in the file: a random half of the {unit} is val (seed {seed})"
    words = as_words(columns[roles.single["split"]])
    if strange := [word for word in words.unique if word.lower() not in SPLIT_WORDS]:
        raise ValueError(f"split holds {strange[0]!r}; it must be 0 or val, 1 or test")
    numbers = np.array([SPLIT_WORDS[word.lower()] for word in words.unique], dtype=np.int64)
    return numbers[words.code], "as in the file"


def _rejectors(columns: Columns, roles: Roles) -> dict[str, np.ndarray]:
    """Scores of the file's rules, [N] each; an npz may hold several as one array [R, N]."""
    found: dict[str, np.ndarray] = {}
    for rule, name in roles.rejectors.items():
        array = columns[name]
        if array.ndim == 2:
            names = roles.single.get("rejector_names")
            rules = _texts(columns[names]) if names else []
            rules = rules or [f"rejector {k + 1}" for k in range(len(array))]
            if len(rules) != len(array) or len(set(rules)) < len(rules):
                raise ValueError(f"rejector_names are not {len(array)} different names")
            found |= {r: _numbers({r: row}, r) for r, row in zip(rules, array, strict=True)}
        else:
            names = roles.single.get("rejector_names")
            rule = str(np.atleast_1d(columns[names])[0]) if names else rule
            found[rule] = _numbers(columns, name)
    return found


def _group(
    columns: Columns, roles: Roles, models: list[Model], n: int
) -> tuple[np.ndarray | None, str]:
    """Which samples belong together, int64 [N]: the file's groups, or copies of one sample."""
    if name := roles.single.get("group"):
        words = as_words(columns[name])
        return words.code, f"{name}, {len(words.unique)} groups of {n} rows"
    scores = [model.logits for model in models if model.logits is not None]
    if not scores or all(len(np.unique(rows[:1000])) <= 2 for rows in scores):
        return None, ""  # few values: equal rows are no sign of a copy
    values = np.concatenate([rows.astype(np.float32) for rows in scores], axis=1)
    key = _row_hash(values)
    different = len(np.unique(key))
    if n - different <= COPIES * n:
        return None, ""
    return np.unique(key, return_inverse=True)[1].astype(np.int64), (
        f"{n - different} of {n} rows repeat an earlier one: equal rows are taken as one group"
    )


def _row_hash(rows: np.ndarray) -> np.ndarray:
    """uint64 [N], equal for equal rows of float32 [N, F], different for others but by accident."""
    bits = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    odd = np.random.default_rng(0).integers(2**63, size=bits.shape[1], dtype=np.uint64) * 2 + 1
    mixed = bits @ odd
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)


def _texts(values: np.ndarray) -> list[str]:
    words = as_words(values)
    return [words.unique[code] for code in words.code]


def _numbers(columns: Columns, name: str, low: float = -np.inf, nan: bool = False) -> np.ndarray:
    """A column as float64 [N]; ValueError that says where there is no number >= `low`."""
    column = columns[name]
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise ValueError(f"{name} is {column.shape}, but must be [N]")
    if column.dtype.kind not in "fiub":
        words = _texts(column)
        row = next((i for i, word in enumerate(words) if not _is_number(word)), 0)
        raise ValueError(f"{name} is {words[row]!r} in row {row} (from 0): no number")
    values = column.astype(np.float64)
    bad = np.flatnonzero(np.isinf(values) | (values < low) | (np.isnan(values) & (not nan)))
    if bad.size:
        least = f" of at least {low:g}" if np.isfinite(low) else ""
        raise ValueError(
            f"{name} is {values[bad[0]]:g} in row {bad[0]} (from 0); it must be a number{least}"
        )
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _images(columns: Columns, roles: Roles, n: int) -> np.ndarray | None:
    """uint8 [N, C, H, W]; nothing where the column holds paths."""
    if "image" not in roles.single or columns[roles.single["image"]].ndim < 3:
        return None
    name = roles.single["image"]
    images = columns[name]
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"{name} are {columns[name].dtype} {columns[name].shape}, but must be uint8 "
            f"[{n}, C, H, W] or [{n}, H, W, C], C being 1 or 3"
        )
    return images


def _take(answers: Answers, keep: np.ndarray) -> Answers:
    """The samples where `keep` [N] is true."""

    def some(value: Any) -> Any:
        return value[keep] if isinstance(value, np.ndarray) else value

    def of(item: Any) -> dict[str, Any]:
        return {f.name: some(getattr(item, f.name)) for f in fields(item)}

    models = tuple(Model(**of(model)) for model in answers.models)
    rejectors = {name: score[keep] for name, score in answers.rejectors.items()}
    return Answers(**(of(answers) | {"models": models, "rejectors": rejectors}))
