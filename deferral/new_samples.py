"""New samples of the models of a policy: how sure each model is, read as in the policy's file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deferral import cells
from deferral.classes import as_words
from deferral.columns import Roles, find_roles
from deferral.external import is_native
from deferral.file_models import scores_of
from deferral.predictions import load as load_native
from deferral.table import Columns, read


@dataclass(frozen=True, eq=False)
class Scores:
    """What a file of N samples says of how sure its models are: nobody says who is right."""

    samples: int
    logits: dict[str, np.ndarray]  # by model, [N, K]; 0 where it gave no scores
    score: dict[str, np.ndarray]  # by model, [N], higher is surer
    rejectors: dict[str, np.ndarray]  # by rule, [N]
    ids: list[str] = field(default_factory=list)  # the column id, or row numbers from 0
    groups: int = 0  # how many groups of samples there are; N where the file has none


@dataclass(frozen=True)
class Reads:
    """How the columns of new samples are read, as those of the file that a policy was made from.

    forms: by model, what its class scores are (one of `scores.FORMS`); models without one have no
    class scores to read. classes: by model, the CLASS of each column NAME_CLASS, in order. negated:
    models whose column score_NAME is higher where they are less sure.
    """

    models: Sequence[str]
    forms: dict[str, str] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    negated: Sequence[str] = ()


def load_scores(path: str | Path, reads: Reads) -> Scores:
    """Class scores and scores of some models, and all rejectors; errors as `load`.

    Of a predictions.npz of this project: the logits of its stages.
    """
    if is_native(path):
        stages = load_native(path)
        if len(stages.stage_logits) != len(reads.models):
            raise ValueError(f"{path}: has {len(stages.stage_logits)} stages, not those of a policy"
                             f" of {', '.join(reads.models)}")  # fmt: skip
        logits = dict(zip(reads.models, stages.stage_logits, strict=True))
        n = len(stages.labels)
        return Scores(n, logits, {}, {}, [str(row) for row in range(n)], n)
    columns, _ = read(path)
    try:
        return _scores(columns, find_roles(columns, reads.models), reads)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None


def _scores(columns: Columns, roles: Roles, reads: Reads) -> Scores:
    names = {name.lower(): name for name in reads.models}
    logits, score = {}, {}
    for spelt in roles.models:
        model = names.get(spelt.lower())
        if model in reads.forms:
            if spelt in roles.classes and model in reads.classes:
                by_class = {label.lower(): name for label, name in roles.classes[spelt].items()}
                order = reads.classes[model]
                if absent := [label for label in order if label.lower() not in by_class]:
                    raise ValueError(f"has no column {model}_{absent[0]}")
                roles.classes[spelt] = {label: by_class[label.lower()] for label in order}
            if found := scores_of(spelt, columns, roles, reads.forms[model]):
                logits[model] = np.where(np.isnan(found[0]), found[0].dtype.type(0), found[0])
        if model is not None and "score" in roles.models[spelt]:
            values = cells.numbers(columns, roles.models[spelt]["score"])
            score[model] = -values if model in reads.negated else values
    rejectors = cells.rejectors(columns, roles)
    lengths = {len(values) for of in (logits, score, rejectors) for values in of.values()}
    apart = [roles.single.get(kind) for kind in ("classes", "rejector_names")]
    n = lengths.pop() if lengths else max(len(c) for k, c in columns.items() if k not in apart)
    if lengths:
        raise ValueError(f"its columns have {n} and {lengths.pop()} rows")
    ids, group = roles.single.get("id"), roles.single.get("group")
    return Scores(
        samples=n,
        logits=logits,
        score=score,
        rejectors=rejectors,
        ids=cells.texts(columns[ids]) if ids else [str(row) for row in range(n)],
        groups=len(as_words(columns[group]).unique) if group else n,
    )
