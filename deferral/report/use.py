"""The chosen rule as a policy, and how the page says to use it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from deferral import estimates
from deferral.cascade import REJECTOR
from deferral.catalogue import DOUBTS
from deferral.decide import Prepared, prepared
from deferral.policy import Policy, doubt_bins, saving
from deferral.predictions import Predictions
from deferral.report.tradeoff import Option

# From e [N, K], class probabilities divided by the highest of each row.
CODE = {
    "max_softmax": "rest / (1 + rest)",
    "margin": "(rest + e[:, -2]) / (1 + rest)",
    "entropy": "np.log1p(rest) - (e * np.log(np.maximum(e, 1e-300))).sum(1) / (1 + rest)",
}
HIGHEST = {
    "logits": "np.exp({0} - {0}.max(1, keepdims=True))",
    "probabilities": "{0} / {0}.max(1, keepdims=True)",
    "percentages": "{0} / {0}.max(1, keepdims=True)",
    "sigmoids": "{0} / (1 - {0}); e /= e.max(1, keepdims=True)",
}


def policy_of(
    runs: Sequence[Predictions],
    option: Option,
    choice: dict[str, Any],
    inputs: Mapping[str, str] | None = None,
) -> Policy | None:
    """The chosen option of the first run; None where new samples cannot be decided from a file.

    That is so for trained rejectors and estimators, whose scores a network gives, and for rules of
    a device with exits that go by them.
    """
    run, settings = runs[0], runs[0].settings
    fit = option.fit or prepared(run)
    models = list(choice["models"])
    row = next(row for row in choice["rules"] if row["name"] == option.rule.name)
    common: dict[str, Any] = {
        "rule": option.rule.name,
        "models": models,
        "pay": settings.get("pay", "cascade"),
        "about": option.rule.about,
        "costs": {"cost_1": option.cost[0], "cost_e": option.cost[1]},
        "expected": _expected(run, option),
        "promise": option.promise,
        "made_from": dict(inputs or {}),
    }
    if not option.thresholds:
        alone = models[int(np.argmax(row["shares"]))]
        return Policy(kind="model", **(common | {"rule": alone}))
    if run.own is None:
        common["forms"] = dict.fromkeys(models[:-1], "logits")
    else:
        forms = {m: form for m, form in settings["forms"].items() if m in models[:-1]}
        common["forms"] = {m: "auto" if f not in HIGHEST else f for m, f in forms.items()}
        common["classes"] = {m: of for m, of in settings["class_columns"].items() if m in forms}
        common["negated"] = settings["doubts"]
    common["threshold_intervals"] = choice["threshold_intervals"]
    policy = _thresholds(run, fit, option, common) or _estimates(run, fit, option, common)
    if policy is not None:
        policy.expected["bins"] = doubt_bins(_doubts(policy, run, prepared(run)))
    return policy


def _expected(run: Predictions, option: Option) -> dict[str, Any]:
    """Of the first run's test rows: samples, groups, the share that each model answers, quality."""
    stage, test = option.test[0], run.part("test")
    counts = np.bincount(stage, minlength=len(test.correct))
    group = None if test.own is None else test.own.group
    return {
        "samples": len(stage),
        "groups": len(stage) if group is None else len(np.unique(group)),
        "shares": (counts / len(stage)).tolist(),
        "quality": float(test.correct[stage, np.arange(len(stage))].mean(dtype=np.float64)),
    }


def _doubts(policy: Policy, run: Predictions, fit: Prepared) -> np.ndarray:
    """The doubts of the test rows that the policy goes by, [E - 1, N]."""
    if policy.kind == "thresholds":
        if policy.rule in fit.doubts:
            return fit.doubts[policy.rule][1]
        return next(score for s, _, score in fit.rejectors if s["stem"] == policy.rule)[None]
    test, stages = run.part("test"), range(len(policy.models) - 1)
    if test.own is None:
        signals = [estimates.signals(test.stage_logits[k]) for k in stages]
    else:
        signals = test.own.signals
    return np.stack([saving(policy, signals[k], k) for k in stages])


def _thresholds(
    run: Predictions, fit: Prepared, option: Option, common: dict[str, Any]
) -> Policy | None:
    """A rule of one doubt a model."""
    name, stages = option.rule.name, len(fit.correct_val) - 1
    kinds: list[str] | None = run.settings.get("doubt_kinds", {}).get(name)
    if run.own is None and name in DOUBTS:
        kinds = [name] * stages
    elif any(s["stem"] == name and s.get("any_cost") for s in run.settings["rejectors"]):
        kinds = [f"{REJECTOR}{name}"]
    if kinds is None:
        return None
    return Policy(kind="thresholds", doubts=kinds, thresholds=option.limits, **common)


def _estimates(
    run: Predictions, fit: Prepared, option: Option, common: dict[str, Any]
) -> Policy | None:
    """The rule of `stopping.Stopping`: post_hoc of two models, optimum of more."""
    if option.rule.name not in ("post_hoc", "optimum") or fit.stopping is None:
        return None
    query, error = fit.val_price(*option.cost)
    _, stops = fit.stopping.decide(query, error)
    stages = len(fit.correct_val) - 1
    return Policy(
        kind="estimates",
        thresholds=[0.0] * (stages - 1) + option.limits,
        signals=run.settings.get("signal_kinds", [["class scores"]] * stages),
        logistic=fit.stopping.models,
        going_on=list(stops.going_on),
        errors=[float(e) for e in error[-2:]],
        ask=float(np.mean(query[-1] - query[-2])),
        **common,
    )


def how(policy: Policy | None, file: str) -> dict[str, Any] | None:
    """What the page says of it: a sentence, the file, numpy lines where those suffice, and fits.

    coefficients: by model, those of the chances that answers are right, to full precision.
    """
    if policy is None:
        return None
    text = "The policy decides for new samples; labels are not needed."
    fits = zip(policy.models, policy.logistic, strict=False)
    coefficients = {
        model: {name: values.tolist() for name, values in asdict(fit).items()}
        for model, fit in fits
    }
    return {
        "text": text,
        "file": file,
        "code": "\n".join(code(policy)),
        "coefficients": coefficients,
    }


def code(policy: Policy) -> list[str]:
    """Lines of numpy that decide as the policy does: `answers` [N] are indices of its models.

    They read scores [M], the class scores [N, K] of each model but the last, in the file's form;
    score [E], the columns score_NAME; and rejector, the policy's column. Empty for fitted
    estimates, whose coefficients are in the policy.
    """
    if policy.kind != "thresholds" or "none" in policy.doubts:
        return []
    names = ", ".join(f"{k} {model}" for k, model in enumerate(policy.models))
    lines = ["import numpy as np", f"# models: {names}"]
    for k, (kind, t) in enumerate(zip(policy.doubts, policy.thresholds, strict=True)):
        model = policy.models[k]
        if kind in CODE:
            form = policy.forms.get(model, "logits")
            x, what = f"scores[{k}]", f"{'logits' if form == 'auto' else form} [N, K]"
            lines += [
                f"# scores[{k}]: {what} of {model}",
                f"e = {HIGHEST.get(form, HIGHEST['logits']).format(x)}",
                "e = np.sort(e, axis=1)",
                "rest = e[:, :-1].sum(1)",
            ]
            doubt = CODE[kind]
        elif kind.startswith(REJECTOR):
            doubt = f"rejector  # column rejector_{kind.removeprefix(REJECTOR)}"
        else:
            sign = {m: "-" if m in policy.negated else "" for m in policy.models}
            own, last = f"{sign[model]}score[{k}]", f"{sign[policy.models[-1]]}score[-1]"
            doubt = {"score": f"-({own})", "score of last": last}.get(kind, f"{last} - ({own})")
            doubt += f"  # score[{k}]: column score_{model}, score[-1]: score_{policy.models[-1]}"
        lines += [f"doubt = {doubt}", f"stop_{k} = doubt <= {t!r}"]
    stops = ", ".join(f"stop_{k}" for k in range(len(policy.doubts)))
    everything = "np.ones(len(doubt), dtype=bool)"
    return [*lines, f"answers = np.stack([{stops}, {everything}]).argmax(0)"]
