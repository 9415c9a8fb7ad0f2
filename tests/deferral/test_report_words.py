"""How a report writes numbers, and that its rules can be told apart."""

from deferral.catalogue import looks
from deferral.report.words import number, percent, signed, spread


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
