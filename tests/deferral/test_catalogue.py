"""A rule is named and drawn alike everywhere, and a new one is a function and an entry."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.colors
import pytest

import eval_all
import eval_fprint
from deferral import estimates
from deferral.catalogue import SUMMARY
from deferral.predictions import load
from deferral.report import guarantee
from figures import exits_and_server, per_class, reject_rate, risk, style, summary_table
from tests.deferral.reports import run
from tests.deferral.test_report_exits import write as write_exits
from tests.figures.conftest import synthetic

ROOT = Path(__file__).parents[2]
FUNCTION = '''

def max_logit_doubt(logits):
    """The highest logit, negated, [..., K] to [...]."""
    return -np.asarray(logits, dtype=np.float64).max(-1)
'''
ENTRY = (
    'Rule("max_logit", "max logit", "confidence", "the highest logit, negated", '
    'Look("#8B4513", (3, 1), "X"), rules.max_logit_doubt),'
)
COLOR = "#8b4513"


def collect(folder: Path) -> dict:
    """Everything that shows rules, of the files of `inputs`: numbers, text, and how they look."""
    two, exits = folder / "two/cifar10-predictions.npz", folder / "exits"
    out, drawn = folder / "out", {}
    few = ["--draws", 20, "--cost_e", 0.2, "--overwrite"]

    def record(fig, _out, name):
        for ax in fig.axes:
            for line in ax.get_lines():
                color = matplotlib.colors.to_hex(line.get_color())
                drawn.setdefault(name, {})[line.get_label()] = color, line.get_linewidth()
        return []

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(estimates, "STRENGTHS", (3e-3,))
        patch.setattr(guarantee, "SPLITS", 20)
        patch.setattr(style, "save", record)
        run(two, *few, "--out", out / "two.html")
        run(exits, *few, "--grid", "1.25:0.2", "1:0.05", "--out", out / "exits.html")
        for figure in (risk, reject_rate, per_class, summary_table):
            figure.main([str(two.parent), "--out", str(out)])
        exits_and_server.main(
            [str(exits), *["--draws", "5", "--cost_e", "0.1", "0.2", "--out"], str(out)]
        )
    predictions = load(two)
    parts = [predictions.part(split) for split in ("val", "test")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        eval_fprint.print_risks(*((p.stage_logits[0], p.correct, p.scores[0]) for p in parts), 1, 0)
    with open(out / "cifar10-summary_table.csv") as file:
        table = list(csv.DictReader(file))
    return {
        "drawn": drawn,
        "pages": {name: (out / f"{name}.html").read_text() for name in ("two", "exits")},
        "reports": {
            name: json.loads((out / f"{name}.json").read_text()) for name in ("two", "exits")
        },
        "table": table,
        "heads": (out / "cifar10-summary_table.md").read_text(),
        "printed": printed.getvalue(),
        "layout": eval_all.release_layout(predictions),
    }


def keys(page: str) -> dict[str, tuple[str, float]]:
    """Colour and line width of every rule's key in a page, by the text behind it."""
    key = r'<g fill="(#\w+)"[^>]*><path [^>]*stroke-width="([\d.]+)".*?</svg>([^<]+)<'
    return {
        label.replace("\u00a0", " ").strip(): (color.lower(), float(width) - 0.4)
        for color, width, label in re.findall(key, page, re.S)
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    costs = {"cost_1": (1.25,), "cost_e": (0.0, 0.2), "async_freq": ()}
    synthetic(folder / "two/cifar10-predictions.npz", n=(90, 120), pictures=0, **costs)
    write_exits(folder / "exits")
    return folder


@pytest.fixture(scope="module")
def shown(inputs):
    return collect(inputs)


@pytest.fixture(scope="module")
def with_one_more(inputs, tmp_path_factory):
    """`collect` where deferral/ is a copy with one more confidence rule."""
    scratch = tmp_path_factory.mktemp("scratch")
    shutil.copytree(ROOT / "deferral", scratch / "deferral")
    with open(scratch / "deferral/rules.py", "a") as file:
        file.write(FUNCTION)
    catalogue = scratch / "deferral/catalogue.py"
    before = catalogue.read_text()
    start = "    for rule in (\n"
    assert start in before
    catalogue.write_text(before.replace(start, f"{start}        {ENTRY}\n", 1))
    program = (
        "import json, sys; from pathlib import Path\n"
        "from tests.deferral.test_catalogue import collect\n"
        "found = collect(Path(sys.argv[1]))\n"
        "Path('found.json').write_text(json.dumps(found))"
    )
    path = os.pathsep.join([str(scratch), str(ROOT)])
    copied = shutil.copytree(inputs, scratch / "inputs", ignore=shutil.ignore_patterns("out"))
    subprocess.run(
        [sys.executable, "-c", program, copied],
        cwd=scratch,
        env=os.environ | {"PYTHONPATH": path, "MPLBACKEND": "Agg"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads((scratch / "found.json").read_text())


def test_page_and_figures_draw_a_rule_alike(shown):
    of_page = {name: keys(page) for name, page in shown["pages"].items()}
    for figure, rejector in (("cifar10-risk", "rejector"), ("cifar10-reject_rate", "rejector")):
        lines = shown["drawn"][figure]
        for label in ("never", "always", "max softmax", "oracle"):
            of_rule = {"never": "only local", "always": "only remote"}.get(label, label)
            assert lines[label] == pytest.approx(of_page["two"][of_rule]), (figure, label)
        assert lines[rejector] == pytest.approx(of_page["two"]["stage switching"])
    lines = shown["drawn"]["tiny-exits_and_server"]
    for label in ("never", "always", "exits only", "optimum", "oracle", "amortized"):
        of_rule = {"never": "only exit 3", "always": "only server"}.get(label, label)
        assert lines[label] == pytest.approx(of_page["exits"][of_rule]), label


def test_charts_of_the_page_have_the_colours_of_their_legend(shown):
    for page in shown["pages"].values():
        charts = "".join(re.findall(r'<svg class="chart".*?</svg>', page, re.S)).lower()
        for label, (color, _) in keys(page).items():
            assert f"stroke: {color}" in charts, label


def test_tables_and_prints_take_their_labels_from_the_catalogue(shown):
    for rule in SUMMARY:
        assert f"risk {rule.label} |" in shown["heads"]
        assert f"\n  {rule.label}" in shown["printed"]


def test_one_more_rule_is_shown_everywhere_and_drawn_alike(with_one_more):
    found = with_one_more
    for page in found["pages"].values():
        color, width = keys(page)["max logit"]
        assert color == COLOR
    for figure in ("cifar10-risk", "cifar10-reject_rate", "cifar10-per_class"):
        assert found["drawn"][figure]["max logit"] == [COLOR, pytest.approx(width)]
    for report in found["reports"].values():
        for rows in (report["settings"][0]["rules"], report["curves"]["rules"]):
            assert "max_logit" in {row["name"] for row in rows}
    assert "risk max logit |" in found["heads"]
    assert all(float(row["risk_max_logit"]) >= 0 for row in found["table"])
    assert re.search(r"max logit +0\.\d+  sends", found["printed"])
    assert all("max_logit" in row["risk"] for row in found["layout"].values())


def test_one_more_rule_changes_no_other_numbers(shown, with_one_more):
    measured = ("risk", "reject_rate", "accuracy", "random_risk", "difference_verdict")
    for name, report in shown["reports"].items():
        more = with_one_more["reports"][name]
        tables = (report["settings"][0], more["settings"][0]), (report["grid"], more["grid"])
        for table, longer in tables:
            by_name = {row["name"]: row for row in longer["rules"]}
            assert set(by_name) - {row["name"] for row in table["rules"]} == {"max_logit"}
            for row in table["rules"]:
                other = by_name[row["name"]]
                assert [other.get(k) for k in measured] == [row.get(k) for k in measured]
                for end in ("risk_low", "risk_high"):  # float32 sums of other shapes
                    assert other[end] == pytest.approx(row[end], abs=1e-6)
        assert more["reliability"] == report["reliability"]
        curves = {row["name"]: row for row in more["curves"]["rules"]}
        for row in report["curves"]["rules"]:
            assert curves[row["name"]] == row
    for before, after in zip(shown["table"], with_one_more["table"], strict=True):
        del after["risk_max_logit"]
        assert after == before
    lines = with_one_more["printed"].splitlines()
    assert [line for line in lines if "max logit" not in line] == shown["printed"].splitlines()
    for stem, row in shown["layout"].items():
        assert with_one_more["layout"][stem]["risk"].items() > row["risk"].items()
