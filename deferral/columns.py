"""What the columns of a file of answers are, by their names; deferral/external.py lists them.

Case does not matter, and a model's name is spelt as it was met first.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deferral.classes import as_words
from deferral.table import Columns

# A sample's own columns, and what else they may be called.
SINGLE = {
    "label": ("label", "labels", "y", "y_true", "target", "targets", "truth", "gold"),
    "split": ("split",),
    "group": ("group", "groups"),
    "id": ("id",),
    "text": ("text", "prompt"),
    "image": ("image", "images"),
    "cost_e": ("cost_e",),
}
# What a model's column may hold, and what that may be called: score_NAME or NAME_score.
OF_MODEL = {
    "answer": ("answer", "prediction", "pred"),
    "correct": ("correct",),
    "quality": ("quality",),
    "score": ("score", "confidence"),
    "cost": ("cost",),
    "logits": ("logits",),  # [N, K] in an npz
    "scores": ("scores", "probabilities", "probs"),
}
# Words that name a model even where only its class scores are in the file; cheap ones first.
ROLES = ("local", "device", "small", "weak", "cheap", "remote", "server", "big", "strong", "dear")


@dataclass
class Roles:
    """Names of columns, by what they are."""

    single: dict[str, str] = field(default_factory=dict)  # kind to column
    rejectors: dict[str, str] = field(default_factory=dict)  # rule to column
    models: dict[str, dict[str, str]] = field(default_factory=dict)  # model to kind to column
    classes: dict[str, dict[str, str]] = field(default_factory=dict)  # model to class to column
    unused: list[str] = field(default_factory=list)

    def keep(self, names: Sequence[str]) -> list[str]:
        """Leave out all models but these; the others. ValueError for one that is not there."""
        wanted = {name.lower() for name in names}
        known = {model.lower() for model in self.models}
        if unknown := [name for name in names if name.lower() not in known]:
            raise ValueError(f"has no model {unknown[0]}; there are {', '.join(self.models)}")
        others = [model for model in self.models if model.lower() not in wanted]
        for model in others:
            del self.models[model]
            self.classes.pop(model, None)
        return others

    def model(self, name: str) -> str:
        """The spelling under which a model was met first."""
        spelt = next((m for m in self.models if m.lower() == name.lower()), name)
        self.models.setdefault(spelt, {})
        return spelt


def find_roles(columns: Columns, models: Sequence[str] = ()) -> Roles:
    """Sort the names. ValueError where two columns are the same thing, or classes have gaps.

    models: names that are known beforehand. Columns NAME_NUMBER with gaps are class scores only of
    a NAME that other columns or ROLES have too; others, such as latency_95, are unused.
    """
    roles, rest = Roles(models={model: {} for model in models}), []
    for name in columns:
        key = name.lower()
        kind = next((kind for kind, names in SINGLE.items() if key in names), None)
        if kind:
            _place(roles.single, kind, name, kind)
        elif key == "rejector" or key.startswith("rejector_"):
            roles.rejectors[name[len("rejector_") :] or "rejector"] = name
        elif of_model := _of_model(name):
            kind, model = of_model
            model = roles.model(model)
            _place(roles.models[model], kind, name, f"{kind} of {model}")
        else:
            rest.append(name)
    for name in rest:
        if class_column := _class_column(name, columns[name], roles):
            model, label = class_column
            _place(roles.classes.setdefault(roles.model(model), {}), label, name, name)
        else:
            roles.unused.append(name)
    words = set()
    if label_name := roles.single.get("label"):
        words = {word.lower() for word in as_words(columns[label_name]).unique}
    for model, by_class in list(roles.classes.items()):
        judged = bool(roles.models[model].keys() & {"answer", "correct", "quality"})
        roles.unused += _no_classes(by_class, words, judged)
        known = roles.models[model] or model.lower() in (*ROLES, *(m.lower() for m in models))
        if by_class and not known and not _without_gaps(by_class):
            roles.unused += by_class.values()
            by_class = {}
        if by_class:
            roles.classes[model] = _in_order(model, by_class)
        else:
            del roles.classes[model]
    first: dict[str, int] = {}  # where a model's first column is
    for place, name in enumerate(columns):
        for model in roles.models:
            if name in {*roles.models[model].values(), *roles.classes.get(model, {}).values()}:
                first.setdefault(model, place)
    roles.models = {m: roles.models[m] for m in sorted(first, key=lambda m: first[m])}
    return roles


def _no_classes(by_class: dict[str, str], words: set[str], judged: bool) -> list[str]:
    """Take out columns NAME_WORD that are no class scores, such as NAME_seconds; their names.

    So are words beside numbers; and words that are no label, of a model whose answers are known
    without class scores.
    """
    named = [label for label in by_class if not label.isdecimal()]
    other = len(named) < len(by_class) or (judged and not words & {w.lower() for w in named})
    return [by_class.pop(label) for label in named] if other else []


def _place(where: dict[str, str], kind: str, name: str, what: str) -> None:
    if kind in where:
        raise ValueError(f"columns {where[kind]} and {name} are both the {what}; one must go")
    where[kind] = name


def _of_model(name: str) -> tuple[str, str] | None:
    """("cost", "gpt") of cost_gpt and of gpt_cost."""
    first, _, after = name.partition("_")
    before, _, last = name.rpartition("_")
    for word, model in ((first, after), (last, before)):
        for kind, words in OF_MODEL.items():
            if word.lower() in words and model:
                return kind, model
    return None


def _class_column(name: str, column: np.ndarray, roles: Roles) -> tuple[str, str] | None:
    """("local", "3") of local_3, and ("local", "cat") of local_cat where local is a model."""
    if column.dtype.kind not in "fiu" or column.ndim != 1:
        return None
    known = [m for m in (*roles.models, *ROLES) if name.lower().startswith(f"{m.lower()}_")]
    if known:
        model = max(known, key=len)
        return name[: len(model)], name[len(model) + 1 :]
    model, _, label = name.rpartition("_")
    return (model, label) if model and label.isdecimal() else None


def _in_order(model: str, by_class: dict[str, str]) -> dict[str, str]:
    """Numbered classes in the order of their numbers, from 0 or 1 without gaps; others as found."""
    if not all(label.isdecimal() for label in by_class):
        return by_class
    numbered = {int(label): column for label, column in by_class.items()}
    if not _without_gaps(by_class):
        raise ValueError(
            f"class scores {', '.join(by_class.values())} must be {model}_0 to "
            f"{model}_{{K-1}}, or {model}_1 to {model}_{{K}}, without gaps"
        )
    return {str(number): numbered[number] for number in sorted(numbered)}


def _without_gaps(by_class: dict[str, str]) -> bool:
    """Whether numbered classes are 0 to K - 1 or 1 to K."""
    numbers = sorted(int(label) for label in by_class)
    return numbers[0] <= 1 and numbers == [*range(numbers[0], numbers[0] + len(numbers))]


def hint(name: str, roles: Roles) -> str:
    """The name, with the nearest one that would be understood, if one is near."""
    kinds = [word for words in OF_MODEL.values() for word in words]
    known = [n for names in SINGLE.values() for n in names]
    known += [f"{kind}_{model}" for kind in kinds for model in roles.models]
    near = difflib.get_close_matches(name.lower(), [k.lower() for k in known], 1, 0.75)
    return f"{name} (is it {near[0]}?)" if near and near[0] != name.lower() else name
