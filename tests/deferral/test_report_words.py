"""The text of a report has to follow from its numbers."""

import pytest

from deferral.catalogue import looks
from deferral.report.words import number, percent, signed, spread, verdict

KINDS = {"oracle": "oracle", "max_softmax": "confidence", "post_hoc": "estimates"}
KINDS |= {"optimum": "estimates", "mine": "rejector"}
TWO = {"never": 0.4, "always": 0.5, "oracle": 0.2, "max_softmax": 0.35, "post_hoc": 0.36}
TWO |= {"mine": 0.37}
EXITS = {"never": 0.4, "always": 0.5, "exit 1": 0.6, "oracle": 0.2, "max_softmax": 0.35}
EXITS |= {"optimum": 0.36}


def rows(risks, half=0.01):
    """A report's rules of these risks, where every difference has an interval of +- half."""
    found = []
    for name, risk in risks.items():
        row = {"name": name, "label": name, "kind": KINDS.get(name, "limit"), "risk": risk}
        row |= {"reject_rate": 0.3 * (name in KINDS), "accuracy": 0.8}
        for key, other in (("difference", "max_softmax"), ("from_never", "never")):
            d = risk - risks[other]
            low, high = d - half, d + half
            word = "better" if high < 0 else "worse" if low > 0 else "no difference"
            row |= {key: d, f"{key}_low": low, f"{key}_high": high, f"{key}_verdict": word}
        found.append(row)
    return found


def text_of(risks=TWO, grid=None, **changes):
    main = {"cost_1": 1.25, "cost_e": 0.25, "best_confidence": "max_softmax"}
    main["rules"] = rows(risks | changes)
    over = {"costs": [{}] * 42 if grid else [{}], "best_confidence": "max_softmax"}
    report = {"settings": [main], "grid": over | {"rules": rows(TWO | (grid or {}))}}
    report |= {"options": {"level": 0.95}, "exits": {"rules": []} if "exit 1" in risks else {}}
    return "\n".join(verdict(report)).replace("\u00a0", " ")


NOT_SHOWN = "So it is not shown to beat a threshold that needs no training."
CHANCE = "But nothing is shown to beat never asking: its risk is 0.400"


@pytest.mark.parametrize(
    ("risks", "changes", "present", "absent"),
    [
        (
            TWO,
            {"mine": 0.33},
            [
                "At c₁ = 1.25 and cₑ = 0.25, the lowest risk is 0.330, by mine.",
                "0.0700 below never asking (95 % interval 0.0600 to 0.0800: better)",
                "0.0200 below the best confidence rule, max_softmax",
                "interval 0.0100 to 0.0300: better",
                "So 35 % of what there is to save beyond the better",  # (0.4 - 0.33) / (0.4 - 0.2)
            ],
            [NOT_SHOWN, CHANCE],
        ),
        (TWO, {"mine": 0.345}, ["interval −0.0050 to 0.0150: no difference", NOT_SHOWN], []),
        (
            TWO,
            {},
            [
                "the lowest risk is 0.350, by max_softmax.",
                "No rejector and no estimate is lower: the best of them, post_hoc, is 0.0100 above",
            ],
            [],
        ),
        (
            TWO,
            {"max_softmax": 0.41, "post_hoc": 0.42, "mine": 0.43},
            ["risk is 0.400, by never asking.", "No rule that asks is worth its price here."],
            ["to save"],
        ),
        (TWO, {"max_softmax": 0.41, "post_hoc": 0.41, "mine": 0.395}, [CHANCE], []),
        (
            EXITS,
            {"exit 1": 0.3},
            [
                "the lowest risk is 0.300, by exit 1 alone.",
                "No rule that asks is worth its price here. That is 0.1000 below the last exit",
                "always asking 0.500, exit 1 alone 0.300; a rule that saw",
            ],
            ["to save"],
        ),
        (
            EXITS,
            {"exit 1": 0.38},
            [
                "The last exit alone costs 0.400, always asking 0.500, exit 1 alone 0.380;",
                "So 17 % of what there is to save beyond the best of the stages alone",
            ],
            [],
        ),
    ],
)
def test_the_verdict_follows_from_the_intervals(risks, changes, present, absent):
    text = text_of(risks, **changes)
    for sentence in present:
        assert sentence in text
    for sentence in absent:
        assert sentence not in text


def test_the_verdict_on_the_grid():
    assert "On the mean over" not in text_of()
    text = text_of(grid={"mine": 0.30})
    assert "On the mean over 42 pairs of costs the lowest risk is 0.300, by mine: 0.0500" in text
    assert text_of(grid={"mine": 0.36}).endswith("a confidence rule, which needs no training.")


def test_formats_of_numbers():
    assert [number(-0.0001), number(-0.25, 2), number(None)] == ["0.000", "−0.25", "–"]
    assert [signed(x) for x in (0.0021, 0.00001, -0.004)] == ["+0.0021", "0.0000", "−0.0040"]
    assert percent(0.123) == "12.3\u00a0%"
    risk = {"risk": 0.3, "risk_std": 0.01}
    assert spread(risk, "risk", 3) == "0.300 ± 0.010"
    assert spread(risk | {"risk_std": None}, "risk", 1) == "0.300"
    assert spread({"risk": None, "risk_std": None}, "risk", 3) == "–"


def test_no_two_rules_look_the_same():
    kinds = {f"r{i}": "rejector" for i in range(24)} | {f"e{i}": "estimates" for i in range(12)}
    kinds |= {"rejector": "rejector", "guaranteed": "rejector"}  # named like rules of the catalogue
    found = looks(kinds | {"never": "limit", "max_softmax": "confidence", "random": "limit"})
    assert len(set(found.values())) == len(found) == 41
    assert found["r0"].width == max(look.width for look in found.values())
