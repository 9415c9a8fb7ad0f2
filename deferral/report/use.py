"""The chosen rule as a policy, and how the page says to use it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deferral.catalogue import DOUBTS
from deferral.decide import Prepared, prepared, scored
from deferral.policy import Logistic, Policy
from deferral.predictions import Predictions
from deferral.report.choice import Option

FARTHEST = 1e308  # stands for an infinite threshold: JSON has no infinity
QUANTILES = 101
CODE = {
    "max_softmax": "doubt = 1 - p.max(1)",
    "margin": "top = np.sort(p, 1)\ndoubt = 1 - (top[:, -1] - top[:, -2])",
    "entropy": "doubt = -(p * np.log(np.maximum(p, 1e-300))).sum(1)",
}


def policy_of(
    runs: Sequence[Predictions],
    option: Option,
    choice: dict[str, Any],
    inputs: Mapping[str, str] | None = None,
) -> Policy | None:
    """The chosen option of the first run; None where new samples cannot be decided from a file.

    That is so for trained rejectors, whose scores a network gives, and for rules of several exits
    that go by estimates.
    """
    run, fit = runs[0], option.fit or prepared(runs[0])
    models = list(choice["models"])
    row = next(row for row in choice["rules"] if row["name"] == option.rule.name)
    settings = run.settings
    common: dict[str, Any] = {
        "rule": option.rule.name,
        "models": models,
        "pay": settings.get("pay", "cascade"),
        "about": option.rule.about,
        "forms": settings.get("forms", dict.fromkeys(models[:-1], "logits")),
        "doubts": settings.get("doubts", []),
        "costs": {"cost_1": option.cost[0], "cost_e": option.cost[1]},
        "expected": _expected(fit, option, row),
        "promise": option.promise,
        "made_from": dict(inputs or {}),
    }
    if not option.thresholds:
        names = {"always": models[-1], "never": models[-2]}
        alone = names.get(option.rule.name) or models[int(np.argmax(row["shares"]))]
        return Policy(kind="model", **(common | {"rule": alone}))
    thresholds: list[float] = np.clip(option.thresholds[0], -FARTHEST, FARTHEST).tolist()
    if option.rule.kind == "estimates":
        return _estimates(fit, option, common, thresholds)
    score = _score_name(option.rule.name, settings)
    if score is None:
        return None
    return Policy(kind="thresholds", score=score, thresholds=thresholds, **common)


def _score_name(name: str, settings: dict[str, Any]) -> str | None:
    """What the policy calls a rule's score; None for one that no file holds."""
    if name in DOUBTS or name in ("score", "score_gap"):
        return name
    files = [s["stem"] for s in settings["rejectors"] if s.get("any_cost")]
    plain = name.removesuffix(", fitted")
    return f"rejector {plain}" if plain in files else None


def _estimates(
    fit: Prepared, option: Option, common: dict[str, Any], thresholds: list[float]
) -> Policy | None:
    if option.rule.name != "post_hoc" or fit.stopping is None:
        return None
    model = fit.stopping.models[-1]
    query, error = fit.val_price(*option.cost)
    logistic = Logistic(
        model.center.tolist(),
        model.scale.tolist(),
        model.logistic.weights.tolist(),
        model.logistic.intercept.tolist(),
    )
    return Policy(
        kind="estimates",
        thresholds=thresholds,
        logistic=logistic,
        errors=[float(e) for e in error],
        ask=float(np.mean(query[-1] - query[-2])),
        **common,
    )


def _expected(fit: Prepared, option: Option, row: dict[str, Any]) -> dict[str, Any]:
    """What --check compares new samples with: shares of test, and the doubts' distribution."""
    expected = {"samples": len(option.test[0]), "shares": row["shares"], "quality": row["quality"]}
    decisions = scored(fit.decide(*option.cost))
    if option.thresholds and len(fit.correct_val) == 2 and option.rule.name in decisions:
        score = np.concatenate(
            [decisions[option.rule.name].score_val, decisions[option.rule.name].score]
        )
        quantiles = np.quantile(score, np.linspace(0, 1, QUANTILES), method="nearest")
        expected |= {"doubt": quantiles.tolist(), "doubt_samples": score.size}
    return expected


def how(policy: Policy | None, file: str) -> dict[str, str] | None:
    """What the page says of it: a sentence, the file, and numpy lines where those suffice."""
    if policy is None:
        return None
    text = "The policy decides for new samples; labels are not needed."
    code = ""
    if policy.kind == "thresholds" and policy.score in CODE and len(policy.models) == 2:
        cheap, dear = policy.models
        code = "\n".join(
            [
                "import numpy as np",
                f"# p [N, K]: class probabilities of {cheap}",
                CODE[policy.score],
                f"ask = doubt > {policy.thresholds[0]!r}  # {dear} answers these, {cheap} the rest",
            ]
        )
    return {"text": text, "file": file, "code": code}
