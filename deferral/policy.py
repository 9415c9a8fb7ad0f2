"""policy.json: one rule with its thresholds, so that it decides for new samples anywhere.

A policy is one of three kinds.

  model       one model answers everything
  thresholds  a sample stops at the first model whose doubt is <= its threshold, else the last one
              answers. `score` is what the doubt is: a confidence rule of deferral/catalogue.py on
              the model's class scores; "score", minus its score_NAME; "score_gap"; or
              "rejector RULE", a column
  estimates   of two models the second answers iff
                  errors[0] (1 - p[0]) - ask - errors[1] (1 - p[1]) > threshold,
              p = 1 / (1 + exp(-(weights z + intercept))), z = (x - center) / scale, x being the
              signals of the first model's columns (`signals_of`)

Numbers are written in full: what is read back decides the same.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deferral import estimates
from deferral.catalogue import DOUBTS
from deferral.external import Scores

VERSION = 1
KINDS = ("model", "thresholds", "estimates")


@dataclass(frozen=True)
class Logistic:
    """P(model e is right), e = 0 and 1, from F signals of a sample."""

    center: list[float]  # [F]
    scale: list[float]  # [F]
    weights: list[list[float]]  # [2, F]
    intercept: list[float]  # [2]


@dataclass(frozen=True)
class Policy:
    """What policy.json holds. `expected`: of the test rows it was measured on, for --check."""

    kind: str
    rule: str
    models: list[str]
    pay: str = "cascade"
    about: str = ""
    score: str = ""
    thresholds: list[float] = field(default_factory=list)  # [E - 1]
    logistic: Logistic | None = None
    errors: list[float] = field(default_factory=list)
    ask: float = 0.0
    forms: dict[str, str] = field(default_factory=dict)  # model to the form of its class scores
    doubts: list[str] = field(default_factory=list)  # models whose score column is a doubt
    costs: dict[str, float] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    promise: dict[str, float] | None = None
    made_from: dict[str, str] = field(default_factory=dict)  # file to SHA-256
    policy: int = VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


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
        fitted = values.get("logistic")
        policy = Policy(**(values | {"logistic": Logistic(**fitted) if fitted else None}))
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
    if policy.kind == "estimates" and (policy.logistic is None or len(policy.errors) != 2):
        raise ValueError("has no coefficients or costs of errors")


def decide(policy: Policy, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """The model that answers each sample, [N] in 0..E - 1, and the doubts it went by, [E - 1, N].

    ValueError where the scores lack what the policy reads.
    """
    if policy.kind == "model":
        stage = policy.models.index(policy.rule)
        return np.full(scores.samples, stage), np.zeros((0, scores.samples))
    doubt = (
        saving(policy, scores)[None]
        if policy.kind == "estimates"
        else np.stack([_doubt(policy, scores, model) for model in policy.models[:-1]])
    )
    limits = np.array(policy.thresholds)
    stops = np.concatenate([doubt <= limits[:, None], np.ones((1, scores.samples), dtype=bool)])
    return stops.argmax(0), doubt


def saving(policy: Policy, scores: Scores) -> np.ndarray:
    """What asking the second model is expected to save, [N], in errors."""
    if policy.logistic is None:
        raise ValueError("the policy has no coefficients")
    fit = policy.logistic
    x = signals_of(policy.models[0], scores)
    if x.shape[1] != len(fit.center):
        raise ValueError(f"has {x.shape[1]} signals of {policy.models[0]}, not {len(fit.center)}")
    z = (x - np.array(fit.center)) / np.array(fit.scale)
    p = estimates.Logistic(np.array(fit.weights), np.array(fit.intercept))(z)
    return policy.errors[0] * (1 - p[0]) - policy.ask - policy.errors[1] * (1 - p[1])


def signals_of(model: str, scores: Scores) -> np.ndarray:
    """What a fitted rule sees of a model, [N, F], in the order of `cascade.as_predictions`."""
    columns = [estimates.signals(scores.logits[model])] if model in scores.logits else []
    if model in scores.score:
        columns.append(scores.score[model][:, None])
    columns += [score[:, None] for score in scores.rejectors.values()]
    if not columns:
        raise ValueError(f"has neither class scores nor score_{model}")
    return np.concatenate(columns, axis=1)


def _doubt(policy: Policy, scores: Scores, model: str) -> np.ndarray:
    if policy.score in DOUBTS:
        if model not in scores.logits:
            raise ValueError(f"has no class scores of {model}, which {policy.score} is of")
        return DOUBTS[policy.score](scores.logits[model])
    if policy.score.startswith("rejector "):
        name = policy.score.removeprefix("rejector ")
        if name not in scores.rejectors:
            raise ValueError(f"has no column rejector_{name}")
        return scores.rejectors[name]
    last = policy.models[-1]
    if policy.score == "score_gap" or (model not in scores.score and policy.pay == "router"):
        if last not in scores.score:
            raise ValueError(f"has no column score_{last}")
        own = scores.score[model] if policy.score == "score_gap" else 0.0
        return scores.score[last] - own
    if model in scores.score:
        return -scores.score[model]
    if model in scores.logits:
        return DOUBTS["max_softmax"](scores.logits[model])
    raise ValueError(f"has no column score_{model}")
