"""The one list of decision rules: name, label, kind, what each does, and how it is drawn.

The report, the figures, eval_fprint.py, eval_all.py and the summary tables read RULES. A new
confidence rule is a function of logits in deferral/rules.py and an entry of kind "confidence" here.

Colours are Okabe and Ito's (2008), or shades between them, and can be told apart with any colour
vision; markers and dashes differ too. Rejectors are blue, estimates red, confidence rules orange.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deferral import rules

Doubt = Callable[[np.ndarray], np.ndarray]

# In the order of a table. "bound": ways to hold a rejector to a reject rate.
KINDS = ("limit", "oracle", "confidence", "estimates", "rejector", "bound")


@dataclass(frozen=True)
class Look:
    """Colour, dashes, marker and width of a rule in every chart, legend and figure."""

    color: str
    dash: tuple[float, ...] = ()  # lengths on and off, in line widths; empty for a solid line
    marker: str = ""  # one of matplotlib's o s ^ D v P X
    width: float = 1.1  # points

    def line(self, **change: Any) -> dict[str, Any]:
        """Keywords of matplotlib's `Axes.plot`; `change` replaces some of them."""
        return {
            "color": self.color,
            "linestyle": (0, self.dash) if self.dash else "-",
            "marker": self.marker,
            "linewidth": self.width,
            "markersize": 3 + self.width / 2,
            "markeredgecolor": "white",
            "markeredgewidth": 0.4,
        } | change


@dataclass(frozen=True)
class Rule:
    """A decision rule; rejectors and estimators of a file get theirs from the file's settings.

    about: what it does, on one line; `with_exits` replaces it on a device with exits. doubt: of a
    confidence rule, logits [..., K] to a score [...] that is higher where asking is worth more.
    summarised: whether the tables and figures of a run show it (the report shows every rule).
    column: its name in risk_* columns and in *-eval_all.json, where that is not `name`.
    """

    name: str
    label: str
    kind: str
    about: str
    look: Look = Look("#444444", (1, 1), "X")
    doubt: Doubt | None = None
    with_exits: str = ""
    summarised: bool = True
    column: str = ""

    @property
    def key(self) -> str:
        return self.column or self.name


REJECTOR = Look("#0072B2", (), "o", 2.0)
ESTIMATE = Look("#D55E00", (), "v", 1.6)

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("rejector", "rejector", "rejector", "sends iff the rejector's score > 0", REJECTOR),
        Rule(
            "never", "never", "limit", "the local net answers everything",
            Look("#777777", (1, 1.4), "", 1.4), with_exits="the last exit answers everything",
        ),
        Rule(
            "always", "always", "limit", "the edge answers everything",
            Look("#222222", (5, 2), "", 1.2), with_exits="the server answers everything",
        ),
        Rule(
            "random", "random", "limit", "sends any samples, at the rejector's reject rate",
            Look("#CC79A7", (), "^"),
        ),
        Rule(
            "max_softmax", "max softmax", "confidence", "1 - highest probability",
            Look("#E69F00", (), "s", 1.6), rules.max_softmax_doubt, column="confidence",
        ),
        Rule(
            "margin", "margin", "confidence", "1 - (highest - second probability)",
            Look("#B98300", (4, 1.5)), rules.margin_doubt, summarised=False,
        ),
        Rule(
            "entropy", "entropy", "confidence", "entropy of the class probabilities",
            Look("#F0C15A", (2, 1)), rules.entropy_doubt, summarised=False,
        ),
        Rule(
            "score", "own score", "confidence", "the model's score in the file, negated",
            Look("#7F5F00", (6, 1.5), "D"), summarised=False,
        ),
        Rule(
            "score_gap", "difference of scores", "confidence",
            "the dear model's score in the file minus the cheap one's",
            Look("#D9A441", (1, 1), "P"), summarised=False,
        ),
        Rule(
            "oracle", "oracle", "oracle", "the cheaper answer of each sample; sees labels",
            Look("#009E73", (), "D"), with_exits="the cheapest stage of each sample; sees labels",
        ),
        Rule(
            "ceiling", "ceiling (sees the remote's scores)", "oracle",
            "a bound: estimates of who is right from both nets' logits, fitted on val; Bayes rule",
            Look("#66BFA0", (2, 1.2)), summarised=False,
        ),
        Rule(
            "exits only", "exits only", "confidence",
            "the server is never asked; 1 - highest probability; the thresholds of least risk on "
            "val, one an exit",
            Look("#8C6D1F", (6, 1.5), "s"), summarised=False,
        ),
        Rule(
            "post_hoc", "post-hoc estimates", "estimates",
            "logistic regressions of both nets' being right on m's logits, fitted on val; Bayes "
            "rule",
            ESTIMATE, summarised=False,
        ),
        Rule(
            "optimum", "optimum", "estimates",
            "dynamic programming on val, with estimates from each exit's logits of who is right",
            ESTIMATE, summarised=False,
        ),
        Rule(
            "guaranteed", "guaranteed threshold", "bound",
            "threshold on the score; keeps the rate with probability 1 - delta",
            Look("#003B5C", (), "o", 1.8), summarised=False,
        ),
        Rule(
            "empirical", "threshold from val, no margin", "bound",
            "threshold on the score that has the rate on val",
            Look("#5E8FC0", (4, 1.5)), summarised=False,
        ),
        Rule(
            "bernoulli", "Bernoulli rule (Wu et al.)", "bound",
            "decisions dropped or added at random",
            Look("#56B4E9", (), "v"), summarised=False,
        ),
        Rule(
            "sliding_window", "sliding window (Wu et al.)", "bound",
            "decisions dropped within 1 / rate samples of the last one sent",
            Look("#D55E00", (), "P"), summarised=False,
        ),
    )
}  # fmt: skip

# Looks of the second and later rejectors of a file, and of its estimators, in order of the file;
# where these run out they repeat with the dashes of AGAIN.
MORE_REJECTORS = [
    Look("#003B5C", (), "s"),
    Look("#5E8FC0", (6, 1.5), "o"),
    Look("#7A6FC0", (3, 1.5), "^"),
    Look("#332288", (5, 1, 1, 1), "X"),
    Look("#2A9D9D", (), "v"),
    Look("#8FA8B8", (6, 1.5), "D"),
    Look("#4B6FA5", (2, 1), "P"),
]
ESTIMATORS = [
    Look("#AA3377", (), "P", 1.8),
    Look("#56B4E9", (), "^", 1.4),
    Look("#882255", (6, 1.5), "D"),
    Look("#44AA99", (3, 1.5), "X"),
]
AGAIN = [(8, 2), (4, 1, 1, 1), (1, 1)]

# Rules that need no training: thresholds on a doubt of the logits.
DOUBTS: dict[str, Doubt] = {name: r.doubt for name, r in RULES.items() if r.doubt is not None}
CONFIDENCE: dict[str, Rule] = {name: RULES[name] for name in DOUBTS}
SUMMARY: list[Rule] = [rule for rule in RULES.values() if rule.summarised]


def looks(kinds: Mapping[str, str]) -> dict[str, Look]:
    """A look for every rule of a file; `kinds` maps their names to their kinds, in order.

    Single exits get none: only tables show them.
    """
    by_name: dict[str, Look] = {}
    count = {"rejector": 0, "estimates": 0}
    for name, kind in kinds.items():
        rule = RULES.get(name)
        # A rejector or estimator of the file may have the name of a rule of the catalogue.
        if rule and kind != "rejector" and (rule.kind == kind or kind == "limit"):
            by_name[name] = rule.look
        elif kind in count:
            palette = [REJECTOR, *MORE_REJECTORS] if kind == "rejector" else ESTIMATORS
            turn, number = divmod(count[kind], len(palette))
            count[kind] += 1
            look = palette[number]
            # Repeated looks get the default width, so that none of them stands out.
            dash = AGAIN[(turn - 1) % len(AGAIN)]
            by_name[name] = look if turn == 0 else Look(look.color, dash, look.marker)
    return by_name
