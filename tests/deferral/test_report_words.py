"""What a report says in words has to follow from its numbers."""

import pytest

from deferral.catalogue import looks
from deferral.report.words import number, percent, signed, spread, verdict

KINDS = {
    "never": "limit",
    "always": "limit",
    "oracle": "oracle",
    "max_softmax": "confidence",
    "post_hoc": "estimates",
    "mine": "rejector",
}
RISKS = {"never": 0.4, "always": 0.5, "oracle": 0.2, "max_softmax": 0.35, "post_hoc": 0.36}


def told(level=0.95, half=0.01, grid=None, **risks):
    """The verdict where every difference has an interval of +- half."""

    def rows(risks):
        found = []
        for name, risk in (RISKS | {"mine": 0.37} | risks).items():
            row = {"name": name, "label": f"<{name}>", "kind": KINDS[name], "risk": risk}
            row |= {"reject_rate": 0.3, "accuracy": 0.8}
            base = RISKS | risks
            for key, other in (("difference", "max_softmax"), ("from_never", "never")):
                d = risk - base[other]
                low, high = d - half, d + half
                word = "better" if high < 0 else "worse" if low > 0 else "no difference"
                row |= {key: d, f"{key}_low": low, f"{key}_high": high, f"{key}_verdict": word}
            found.append(row)
        return found

    main = {"cost_1": 1.25, "cost_e": 0.25, "best_confidence": "max_softmax", "rules": rows(risks)}
    costs = [{}] * 42 if grid else [{}]
    over = {"costs": costs, "best_confidence": "max_softmax", "rules": rows(grid or {})}
    return verdict({"settings": [main], "grid": over, "options": {"level": level}})


def test_a_rejector_that_is_better():
    lead, text, *_ = told(mine=0.33)
    assert lead == "At c₁ = 1.25 and cₑ = 0.25, the lowest risk is 0.330, by <mine>."
    assert "0.0700 below never asking (95\u00a0% interval 0.0600 to 0.0800: better)" in text
    assert "0.0200 below the best confidence rule, <max_softmax>" in text
    assert "interval 0.0100 to 0.0300: better" in text
    assert "not shown" not in text
    # (0.4 - 0.33) / (0.4 - 0.2)
    assert "So 35\u00a0% of what there is to save beyond the better" in text


def test_a_rejector_that_is_lower_by_chance():
    text = told(mine=0.345)[1]
    assert "interval −0.0050 to 0.0150: no difference" in text
    assert "So it is not shown to beat a threshold that needs no training." in text


def test_a_confidence_rule_is_lowest():
    lead, text, *_ = told()
    assert "the lowest risk is 0.350, by <max_softmax>." in lead
    assert (
        "No rejector and no estimate is lower: the best of them, <post_hoc>, is 0.0100 above"
        in (text)
    )


def test_nothing_beats_never_asking():
    lead, text, *_ = told(max_softmax=0.41, post_hoc=0.42, mine=0.43)
    assert "the lowest risk is 0.400, by never asking." in lead
    assert "No rule that asks is worth its price here." in text
    assert "to save" not in text


def test_what_may_be_chance_against_never_asking_is_said_to_be():
    said = "But nothing is shown to beat never asking: its risk is 0.400"
    assert said in told(max_softmax=0.41, post_hoc=0.41, mine=0.395)[1]
    assert said not in told(mine=0.33)[1]


def test_the_grid_is_told_where_there_is_one():
    assert len(told()) == 3
    words = told(grid={"mine": 0.30})[-1]
    assert words.startswith(
        "On the mean over 42 pairs of costs the lowest risk is 0.300, by <mine>: "
    )
    assert "0.0500 below the best confidence rule there, <max_softmax>" in words
    assert told(grid={"mine": 0.36})[-1].endswith("a confidence rule, which needs no training.")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (number(-0.0001), "0.000"),
        (number(-0.25, 2), "−0.25"),
        (number(None), "–"),
        (signed(0.0021), "+0.0021"),
        (signed(0.00001), "0.0000"),
        (signed(-0.004), "−0.0040"),
        (percent(0.123), "12.3\u00a0%"),
        (spread({"risk": 0.3, "risk_std": 0.01}, "risk", 3), "0.300 ± 0.010"),
        (spread({"risk": 0.3, "risk_std": None}, "risk", 1), "0.300"),
        (spread({"risk": None, "risk_std": None}, "risk", 3), "–"),
    ],
)
def test_numbers_as_they_are_written(text, wanted):
    assert text == wanted


def test_no_two_rules_look_the_same():
    kinds = {f"r{i}": "rejector" for i in range(24)} | {f"e{i}": "estimates" for i in range(12)}
    found = looks(kinds | {"never": "limit", "max_softmax": "confidence", "random": "limit"})
    assert len(set(found.values())) == len(found) == 39
    assert found["r0"].color == "#0072B2"
    assert found["r0"].width == max(look.width for look in found.values())


def test_a_rejector_of_the_file_may_bear_the_name_of_a_rule():
    by_name = looks({"a": "rejector", "rejector": "rejector", "guaranteed": "rejector"})
    assert len(set(by_name.values())) == 3
