"""The text of a report: verdict, formats of numbers, definitions, and how it was made."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from deferral.predictions import Predictions
from deferral.report.numbers import Options

Row = dict[str, Any]


@dataclass(frozen=True)
class Nets:
    """How the page calls those who answer: alone in a table, and in a sentence.

    `local` stands for all stages but the last, `remote` for the last one, `stage` for one of them.
    """

    local: str
    remote: str
    the_local: str
    the_remote: str
    stage: str = "model"


LOCAL_AND_REMOTE = Nets("local", "remote", "the local model", "the remote model")
WITH_EXITS = Nets("device", "server", "the device", "the server", "exit")


def nets(report: dict[str, Any]) -> Nets:
    models = report["data"].get("models")
    if not models:
        return WITH_EXITS if report.get("exits") else LOCAL_AND_REMOTE
    last = models[-1]
    if len(models) == 2:
        return Nets(models[0], last, models[0], last)
    return Nets(f"before {last}", last, f"the models before {last}", last)


def number(value: float | None, digits: int = 3) -> str:
    """0.312 with a true minus sign, none before zero; a dash for None."""
    if value is None:
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{number(100 * value, digits)}\u00a0%"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference: +0.0021, −0.0040, 0.0000."""
    text = number(value, digits)
    return f"+{text}" if value is not None and round(value, digits) > 0 else text


def spread(row: Row, key: str, runs: int, digits: int = 3, scale: float = 1) -> str:
    """ "0.312 ± 0.004" over several runs, "0.312" of one."""
    value, std = row[key], row[f"{key}_std"]
    if value is None:
        return "–"
    text = number(scale * value, digits)
    return text if runs < 2 or std is None else f"{text} ± {number(scale * std, digits)}"


def between(row: Row, key: str, digits: int = 4) -> str:
    """The interval of a difference: "−0.0070 to −0.0010"."""
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    return "–" if low is None else f"{signed(low, digits)} to {signed(high, digits)}"


def thousands(count: float | None) -> str:
    """12 345 678, whole, with narrow spaces."""
    return "–" if count is None else f"{count:,.0f}".replace(",", "\u202f")


def lowest(rows: list[Row]) -> Row:
    """The rule of least risk that can be used: the oracle sees the labels and cannot."""
    usable = [row for row in rows if row["kind"] != "oracle" and row["risk"] is not None]
    return min(usable, key=lambda row: row["risk"])


PACKAGES = ("numpy", "scipy")
# {local}, {remote}: those who answer, as in `Nets`; {Local}: at the beginning of a sentence.
DEFINITIONS = [
    (
        "risk",
        "Mean cost of a test sample, in units of one error of {local}: an answer of {local} costs "
        "1 if it is wrong; one of {remote} costs cₑ, and c₁ more if it is wrong (Wu et al., "
        "Learning to Help in Multi-Class Settings, ICLR 2025).",
    ),
    ("sent %", "Reject rate: the share of test samples that {remote} answers."),
    (
        "right %",
        "Accuracy of both together under the rule; where answers have a quality, its mean.",
    ),
    (
        "±",
        "Standard deviation over runs (n − 1). Where there is one run there is none, and only the "
        "interval tells how far a number may be chance.",
    ),
    (
        "intervals",
        "Percentile bootstrap over test samples (over groups where the file has them), and over "
        "runs where there are several (Efron and Tibshirani, 1993). Every rule gets the same "
        "samples, so differences are paired. With few runs the spread between runs is understated. "
        "Training is not repeated.",
    ),
    (
        "verdict",
        "Better: the interval of the difference lies below zero. Worse: above. No difference: it "
        "holds zero, which does not show that two rules are equal. Not corrected for many "
        "comparisons: of 20 differences that are chance one is expected to be called real at "
        "95 %. The lowest risk of a table is printed bold; it was found on the same test samples, "
        "which flatters it.",
    ),
    (
        "best confidence rule",
        "Of the thresholds on a confidence or a score: the one of least risk on val at these "
        "costs.",
    ),
    (
        "risk if sent at random",
        "Expected risk of a rule that sends as many samples, whichever they are.",
    ),
    ("never, always", "{Local} answers everything; {remote} does."),
    ("oracle", "The cheaper of both answers, seen with the label. No rule can be lower."),
    (
        "area",
        "Area between accuracy against reject rate and the straight line of random sending, as a "
        "share of the oracle's: random 0, oracle 1. Costs play no part.",
    ),
    (
        "error area",
        "Error rate averaged over all reject rates: AURC and AUGRC of both together, which are one "
        "number, because what is sent is answered as well.",
    ),
    (
        "AURC alone",
        "Area under the risk-coverage curve of {local} alone, what is sent being dropped (Geifman, "
        "Uziel and El-Yaniv, ICLR 2019).",
    ),
    (
        "AUGRC alone",
        "The same with errors counted among all samples (Traub et al., NeurIPS 2024).",
    ),
    (
        "gap recovered",
        "(quality of the rule − that of {local} alone) / (quality of {remote} alone − that of "
        "{local} alone): {local} alone 0, {remote} alone 1 (PGR: Ong et al., RouteLLM, 2024).",
    ),
    (
        "mean gap recovered",
        "The gap recovered, averaged over all shares of calls to {remote} from 0 to 1 (APGR; a "
        "random router has 0.5), or over all mean costs between sending nothing and sending "
        "everything.",
    ),
    (
        "needed for 50 %, 80 %",
        "The least share of calls that recovers so much of the gap (CPT), and the least share of "
        "the difference in cost between sending nothing and sending everything.",
    ),
    (
        "at equal quality, at equal cost",
        "The least mean cost with at least the quality of {remote} alone, as a share of what "
        "{remote} alone costs; the highest quality at no more than that cost. Thresholds are "
        "moved along the test samples for this, so it is slightly flattering.",
    ),
    (
        "allowed, broken",
        "A promised reject rate, and the share of simulated splits in which the true rate is above "
        "it. The threshold is a one-sided tolerance bound (Clopper and Pearson, 1934; Wilks, "
        "1941). In the simulation the test rows are the population, and val is drawn from them.",
    ),
    (
        "calibration error",
        "Mean distance of estimated and observed shares over ten groups of equally many samples.",
    ),
    ("Brier score", "Mean squared distance of the estimate from 1 (right) or 0 (wrong)."),
]
GAP = {
    "gap recovered",
    "mean gap recovered",
    "needed for 50 %, 80 %",
    "at equal quality, at equal cost",
}

# Replacements of DEFINITIONS for several stages before the last; None leaves an entry out.
EXITS_DEFINITIONS: dict[str, tuple[str, str] | None] = {
    "risk": (
        "risk",
        "Mean cost of a test sample: what has been paid up to the {stage} where the sample stops, "
        "and 1 if that answer is wrong; one that is sent costs all before {remote}, cₑ for asking, "
        "and c₁ more if {remote} is wrong. In units of one error: the generalized risk of Wu et "
        "al. (Learning to Help in Multi-Class Settings, ICLR 2025) for a cascade.",
    ),
    "risk if sent at random": (
        "risk if sent at random",
        "Expected risk of a rule that stops at the same {stage}s and sends as many samples, "
        "whichever they are.",
    ),
    "never, always": (
        "never, exit 1 …, always",
        "The last {stage} before {remote} answers everything; another one does; {remote} does.",
    ),
    "oracle": (
        "oracle",
        "The cheapest stage of each sample, seen with the label. No rule can be lower.",
    ),
    "area": (
        "area",
        "Area between accuracy against reject rate and the straight line of random sending, as a "
        "share of the oracle's, all three with the {stage}s that the rule chooses: random 0, "
        "oracle 1. Costs play no part.",
    ),
    "error area": (
        "error area",
        "Error rate averaged over all reject rates, the {stage}s being those that the rule "
        "chooses.",
    ),
    "AURC alone": None,
    "AUGRC alone": None,
}
STOPPING = [
    (
        "optimum",
        "Backward induction over the {stage}s, last one first: going on is worth it where what it "
        "costs more than stopping, regressed on estimates of who is right (from this {stage}'s "
        "scores), is below zero. The costs are those that came about on val under the policy of "
        "the later {stage}s (Longstaff and Schwartz, 2001); all fits are cross-fitted.",
    ),
    (
        "rejectors, estimators",
        "They decide at the last {stage} before {remote}. Before that, thresholds on max softmax, "
        "of least risk on val with that decision given.",
    ),
]


# How a report's rules were fitted.
FITTED = {
    "thresholds": "Fitted on val, for each pair of costs: confidence rules get the threshold of "
    "least risk. Rejectors and estimates have 0 of their own accord.",
    "post-hoc estimates": "Two logistic regressions on the first model's scores, fitted on val.",
}
FITTED_EXITS = {
    "thresholds": "Fitted on val, for each pair of costs: confidence rules get the thresholds of "
    "least risk, one a stage. Rejectors and estimates have 0 of their own accord, and decide "
    "before the last stage.",
    "estimates": "Logistic regressions on each stage's scores, fitted on val: whether this stage, "
    "the next one and the last one are right.",
}


def terms(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Definitions of the page's numbers: (term, explanation)."""
    who, entries = nets(report), DEFINITIONS
    if report.get("exits"):
        replaced = [EXITS_DEFINITIONS.get(term, (term, text)) for term, text in DEFINITIONS]
        entries = [entry for entry in replaced if entry] + STOPPING
    if not report["routers"]:
        entries = [entry for entry in entries if entry[0] not in GAP]
    words = {"local": who.the_local, "remote": who.the_remote, "stage": who.stage}
    words["Local"] = who.the_local if report["data"]["models"] else capital(who.the_local)
    return [(term, text.format(**words)) for term, text in entries]


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def about_data(runs: Sequence[Predictions]) -> dict[str, Any]:
    """Data, nets and runs as the files describe them; None for what they lack."""
    settings = [run.settings for run in runs]

    def of_all(key: str) -> list[Any] | None:
        values = [one.get(key) for one in settings]
        return None if all(value is None for value in values) else values

    about = {
        "dataset": settings[0]["dataset"],
        "classes": len(settings[0]["classes"]),
        "runs": len(runs),
        "files": [run.source for run in runs],
        "seeds": of_all("seed"),
        "val_rows": [int((run.split == 0).sum()) for run in runs],
        "test_rows": int((runs[0].split == 1).sum()),
        "local": settings[0].get("local"),
        "edge": settings[0].get("edge"),
        "commit": of_all("commit"),
        "hardware": of_all("hardware"),
        "models": settings[0].get("models"),
        "pay": settings[0].get("pay"),
        "understood": settings[0].get("understood"),
        "split": settings[0].get("split"),
        "graded": not all(np.isin(run.correct, (0, 1)).all() for run in runs),
        "estimators": settings[0].get("estimators") or [],
    }
    if "multiply_adds" in settings[0]:
        about["multiply_adds"] = settings[0]["multiply_adds"]
        about["cost_flops"] = float(settings[0].get("cost_flops", 0))
        about["left_out"] = settings[0].get("joined", {}).get("left_out") or None
    return about


def about_run(report: dict[str, Any]) -> str:
    """The line below the title."""
    data, who = report["data"], nets(report)
    if data["models"]:
        named = [", then ".join(data["models"])]
    else:
        kinds = ((who.local, "local"), (who.remote, "edge"))
        named = [f"{kind} {data[key]}" for kind, key in kinds if data[key]]
    parts = [data["dataset"], ", ".join(named), f"{data['test_rows']:,} test samples"]
    if data["seeds"] or data["runs"] > 1:
        runs = f"{data['runs']} run{'s' * (data['runs'] > 1)}"
        if data["seeds"]:
            seeds = ", ".join(map(str, data["seeds"]))
            runs += f" (seed{'s' * (data['runs'] > 1)} {seeds})"
        parts.append(runs)
    return " · ".join(part for part in parts if part)


def facts(data: dict[str, Any], options: Options) -> list[dict[str, str]]:
    """How the report was made, as lines of `what` and `value`."""
    val_rows, adds = sorted(set(data["val_rows"])), data.get("multiply_adds") or []
    more = len(adds) > 1  # a device with exits
    several = more or len(data.get("models") or []) > 2
    classes = f"{data['classes']} classes, " if data["classes"] else ""
    lines = {
        "data": f"{data['dataset']}, {classes}"
        f"{' or '.join(f'{n:,}' for n in val_rows)} val and {data['test_rows']:,} test rows",
        "files": ", ".join(data["files"]),
        "device" if more else "local model": data["local"],
        "server" if more else "remote model": data["edge"],
        "cost of the device": adds
        and f"{data['cost_flops']:g} local errors a multiply-add, so "
        f"{data['cost_flops'] * adds[-1]:g} {'up to the last exit' if more else 'a sample'}",
        "left out": data.get("left_out"),
        "seeds": data["seeds"] and ", ".join(map(str, data["seeds"])),
        "split into val and test": data["split"],
        **(FITTED_EXITS if several else FITTED),
        "intervals": f"{100 * options.level:g} %, {options.draws:,} draws, seed {options.seed}",
        "made with": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "commit of the runs": data["commit"] and ", ".join(dict.fromkeys(map(str, data["commit"]))),
        "hardware of the runs": data["hardware"]
        and ", ".join(dict.fromkeys(map(str, data["hardware"]))),
    }
    for estimator in data["estimators"]:
        keys = ("parameters", "multiply_adds", "seconds", "fitted_on", "seed")
        details = [f"{k.replace('_', ' ')}: {estimator[k]}" for k in keys if k in estimator]
        lines[f"estimates “{estimator['name']}”"] = "; ".join([estimator["about"], *details])
    return [{"what": what, "value": str(value)} for what, value in lines.items() if value]
