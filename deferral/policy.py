"""policy.json: one rule with its thresholds, so that it decides for new samples anywhere.

A policy is one of three kinds.

  model       one model answers everything
  thresholds  a sample stops at the first model whose doubt is <= its threshold, else the last one
              answers. `doubts` says what the doubt of each model but the last is:
              `cascade.doubt_of`
  estimates   thresholds too, on what going on is expected to save. At the last model but one:
                  errors[0] (1 - p[0]) - ask - errors[1] (1 - p[1]),
              p = 1 / (1 + exp(-(weights z + intercept))), z = (x - center) / scale, x being the
              signals of the model (`cascade.signals_of`, of the kinds that `signals` lists). At
              those before: -(weights p + intercept) of `going_on`

Numbers are written in full: what is read back decides the same.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deferral.cascade import Scores, doubt_of, signals_of
from deferral.estimates import Linear, Logistic
from deferral.stages import leave

VERSION = 1
BINS = 20
KINDS = ("model", "thresholds", "estimates")


@dataclass(frozen=True)
class Policy:
    """What policy.json holds. `expected`: of the test rows it was measured on, for --check.

    Columns of new samples are read as those of the file that the policy was made from. forms: by
    model, what its class scores are (one of `scores.FORMS`); models without one have no class
    scores to read. classes: by model, the CLASS of each column NAME_CLASS, in order. negated:
    models whose column score_NAME is higher where they are less sure.
    """

    kind: str
    rule: str
    models: list[str]
    pay: str = "cascade"
    about: str = ""
    thresholds: list[float] = field(default_factory=list)  # [E - 1]
    threshold_intervals: list[list[float]] = field(default_factory=list)  # were val drawn anew
    doubts: list[str] = field(default_factory=list)  # [E - 1]
    signals: list[list[str]] = field(default_factory=list)  # [E - 1]
    logistic: list[Logistic] = field(default_factory=list)  # [E - 1]
    going_on: list[Linear] = field(default_factory=list)  # [E - 2]
    errors: list[float] = field(default_factory=list)  # of the last model but one, and the last
    ask: float = 0.0
    forms: dict[str, str] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    negated: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    promise: dict[str, float] | None = None
    made_from: dict[str, str] = field(default_factory=dict)  # file to SHA-256
    policy: int = VERSION

    def to_json(self) -> str:
        values = asdict(self)
        text = json.dumps(
            values, indent=1, ensure_ascii=False, allow_nan=False, default=np.ndarray.tolist
        )
        return text + "\n"


def load(path: str | Path) -> Policy:
    """Read a policy. FileNotFoundError, and ValueError, one line that names the file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (OSError, ValueError) as e:
        raise ValueError(f"{path}: is no policy.json ({str(e).splitlines()[0]})") from None
    try:
        if values["policy"] != VERSION:
            raise ValueError(f"is of version {values['policy']}; this program reads {VERSION}")
        for key, kind in (("logistic", Logistic), ("going_on", Linear)):
            values[key] = [
                kind(**{name: np.asarray(value) for name, value in one.items()})
                for one in values.get(key, [])
            ]
        policy = Policy(**values)
        _check(policy)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: is no policy of deferral.report") from None
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None
    return policy


def _check(policy: Policy) -> None:
    count = len(policy.models)
    if policy.kind not in KINDS or count < 2:
        raise ValueError(f"kind {policy.kind!r} of {count} models is unknown")
    if policy.kind == "model" and policy.rule not in policy.models:
        raise ValueError(f"model {policy.rule!r} is not among {', '.join(policy.models)}")
    if policy.kind != "model" and len(policy.thresholds) != count - 1:
        raise ValueError(f"has {len(policy.thresholds)} thresholds for {count} models")
    stages = count - 1
    if policy.kind == "thresholds" and len(policy.doubts) != stages:
        raise ValueError(f"says what {len(policy.doubts)} doubts are, not {stages}")
    sizes = len(policy.logistic), len(policy.signals), len(policy.going_on), len(policy.errors)
    if policy.kind == "estimates" and sizes != (stages, stages, stages - 1, 2):
        raise ValueError("lacks coefficients or costs of errors")


def decide(policy: Policy, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """The model that answers each sample, [N] in 0..E - 1, and the doubts it went by, [E - 1, N].

    ValueError where the scores lack what the policy reads.
    """
    if policy.kind == "model":
        stage = policy.models.index(policy.rule)
        return np.full(scores.samples, stage), np.zeros((0, scores.samples))
    if policy.kind == "estimates":
        asked = enumerate(zip(policy.models[:-1], policy.signals, strict=True))
        doubt = np.stack([saving(policy, signals_of(m, of, scores), k) for k, (m, of) in asked])
    else:
        last, by_model = policy.models[-1], zip(policy.models[:-1], policy.doubts, strict=True)
        doubt = np.stack([doubt_of(kind, model, last, scores) for model, kind in by_model])
    return leave(doubt, policy.thresholds), doubt


def saving(policy: Policy, x: np.ndarray, k: int) -> np.ndarray:
    """What going on from model k is expected to save, [N], in errors; x [N, F], its signals."""
    p = policy.logistic[k](x)
    if k < len(policy.going_on):
        return -policy.going_on[k](p)
    return policy.errors[0] * (1 - p[0]) - policy.ask - policy.errors[1] * (1 - p[1])


def doubt_bins(doubt: np.ndarray) -> list[dict[str, list[float]]]:
    """How doubts [E - 1, N] are distributed, a dict a model.

    edges: of at most BINS bins that hold about equally many; counts: how many are in each.
    """
    bins = []
    for row in doubt:
        edges = np.unique(np.quantile(row, np.arange(1, BINS) / BINS, method="nearest"))
        bins.append({"edges": edges.tolist(), "counts": counted(row, edges).tolist()})
    return bins


def counted(doubt: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many doubts [N] are in each bin: up to the first edge, the next, ..., above the last."""
    return np.bincount(np.searchsorted(edges, doubt, side="left"), minlength=len(edges) + 1)
