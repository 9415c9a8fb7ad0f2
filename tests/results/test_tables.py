"""Tables of the pages come from results/published, and change with it."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import experiment
from deferral import predictions
from results import claims, rule_tables, tables

ROOT = experiment.ROOT
PUBLISHED = ROOT / "results" / "published"


@pytest.fixture
def repository(tmp_path):
    """A copy of the pages, with links to the studies that are published."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "results" / "published").mkdir(parents=True)
    for study in PUBLISHED.iterdir():
        (tmp_path / "results" / "published" / study.name).symlink_to(study)
    for name in ("README.md", "results/README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(published, file, *keys, by=1):
    """Add to one number of a JSON file, in a copy of its study."""
    study, path = published / Path(file).parts[0], published / file
    original = study.resolve()
    study.unlink()
    shutil.copytree(original, study)
    content = json.loads(path.read_text())
    at = content
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] += by
    path.write_text(json.dumps(content, indent=1))


def test_the_pages_show_what_is_published(repository, capsys):
    pages = {path: path.read_bytes() for path in tables.pages(repository)}
    tables.main(["--root", str(repository)])
    assert capsys.readouterr().out == ""
    assert {path: path.read_bytes() for path in pages} == pages


def test_every_table_has_a_place():
    """One of a study that is not yet published cannot be shown."""
    studies = (path.stem for path in ROOT.glob("results/studies/*.sh"))
    pending = tuple(study for study in studies if not (PUBLISHED / study).exists())
    text = "".join(page.read_text() for page in tables.pages(ROOT))
    missing = [name for name in tables.TABLES if f"<!-- table: {name} -->" not in text]
    assert [name for name in missing if not name.startswith(pending)] == []


def test_the_costs_of_the_tables_are_those_that_a_command_line_gives():
    """Otherwise a rejector trained with --cost_e 0.075 would be missing from them."""
    trained = {(c_1, float(f"{25 * k / 1000:.3f}")) for c_1 in (1.0, 1.25) for k in range(21)}
    assert set(rule_tables.PAPER_COSTS) == trained


@pytest.mark.parametrize(
    ("low", "high", "lower", "holds"),
    [
        (-0.2, -0.1, True, "yes"),
        (0.1, 0.2, True, "**no**"),
        (-0.1, 0.2, True, "not shown"),
        (0.0, 0.2, True, "not shown"),
        (0.1, 0.2, False, "yes"),
        (-0.2, -0.1, False, "**no**"),
    ],
)
def test_a_claim_holds_where_its_whole_interval_is_on_its_side(low, high, lower, holds):
    assert claims.verdict(low, high, lower) == holds


@pytest.mark.parametrize(
    ("file", "keys", "names"),
    [
        ("benchmarks/sweep-cpu.json", ("rows", 0, "plain_ms"), ["sweep"]),
        (
            "mnist-active/mnist10k-4-methods.json",
            ("methods", "DIAM", "versus_random", "top1", "high"),
            ["claims", "mnist-active"],
        ),
    ],
)
def test_a_changed_number_changes_its_tables(file, keys, names, repository, capsys):
    """--check names them with status 1 and writes nothing; then they are written."""
    change(repository / "results" / "published", file, *keys)
    pages = {path: path.read_bytes() for path in tables.pages(repository)}
    with pytest.raises(SystemExit) as stop:
        tables.main(["--check", "--root", str(repository)])
    assert stop.value.code == 1
    differing = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    # A rule's mean is not in the README unless the README shows that rule.
    assert set(differing) <= set(names)
    assert names[-1] in differing
    assert {path: path.read_bytes() for path in pages} == pages
    tables.main(["--root", str(repository)])
    tables.main(["--check", "--root", str(repository)])


def test_claims_on_exits_are_paired_by_seed_and_wait_for_three(tmp_path):
    def write(method, seed, area, first, last):
        path = tmp_path / "cifar10-msdnet" / "exits" / method / f"seed-{seed}" / "cifar10-eval.json"
        path.parent.mkdir(parents=True)
        anytime = [{"accuracy": first}, {"accuracy": last}]
        path.write_text(json.dumps({"seed": seed, "area": area, "anytime": anytime}))

    assert {row[5] for row in claims._exits(tmp_path)} == {"not measured"}
    for seed in range(3):
        write("base", seed, 0.5 + seed / 10, 0.4, 0.6)
        write("l2w", seed, 0.51 + seed / 10 + seed / 1e5, 0.4, 0.6)
    for seed in (0, 1):
        write("boosted", seed, 0.5, 0.5, 0.5)
    l2w, *boosted = claims._exits(tmp_path)
    assert l2w[3:6] == ["+1.00 (+1.00 to +1.00)", "3", "yes"]
    assert [row[5] for row in boosted] == ["not measured"] * 2
    write("boosted", 2, 0.5, 0.5 + 1e-6, 0.5)
    assert [row[4:6] for row in claims._exits(tmp_path)[1:]] == [["3", "yes"], ["3", "**no**"]]


def test_a_student_may_take_the_local_nets_place():
    """Never asking it has the risk of its errors, and a row among the rules."""
    folder = PUBLISHED / "cifar10-lite0"
    runs = [predictions.load(path).part("test") for path in predictions.find(folder)]
    wrong = np.mean([(run.student_logits[0].argmax(-1) != run.labels).mean() for run in runs])
    shown = tables.TABLES["cifar10-lite0"](PUBLISHED)
    assert f"| amortized, image: its student as the local net, never | {wrong:.4f} ± " in shown


def test_a_gain_is_the_risk_saved_and_its_share_of_the_way_to_the_oracle():
    def rule(name, risk, low=None, high=None):
        return {
            "rule": name, "reference": "margin", "risk": risk, "accuracy": 0.5, "low": low,
            "high": high, "difference": None if risk is None else risk - 0.3,
        }  # fmt: skip

    rows = [rule("never", 0.4), rule("always", 0.5), rule("margin", 0.3), rule("oracle", 0.1)]
    rows += [rule("good", 0.25, -0.06, -0.04), rule("at some costs", None)]
    shown = {"good": "Good", "at some costs": "Some", "missing": "None"}
    line = rule_tables.gains({"here": rows}, "setting", shown).splitlines()[2]
    gain = "+0.0500 (+0.0400 to +0.0600), 25 %"
    assert line == f"| here | 50.0 | 50.0 | 0.3000 | {gain} | – | – |"


@pytest.mark.parametrize(
    "text",
    ["<!-- table: nothing -->\n<!-- end -->", "<!-- table: sweep -->\n", "<!-- end -->\n"],
)
def test_a_place_without_a_table_is_refused(text, repository, refused):
    page = repository / "docs" / "speed.md"
    page.write_text(page.read_text() + text)
    refused(tables.main, "--root", repository, telling="speed.md")


def test_published_files_say_nothing_about_the_machine():
    """No absolute path, no page beside the JSON that makes it, at most 8 MB a study."""
    for path in (path for path in PUBLISHED.rglob("*") if path.is_file()):
        text = path.read_text() if path.suffix in (".json", ".csv") else ""
        if path.suffix == ".gz":
            text = gzip.decompress(path.read_bytes()).decode()
        if path.suffix == ".npz":
            text = json.dumps(predictions.load(path).settings)
        assert not re.search(r'["\s=:,]/\w', text), path
        assert path.suffix in (".json", ".csv", ".gz", ".npz", ".png"), path
    for study in PUBLISHED.iterdir():
        assert sum(path.stat().st_size for path in study.rglob("*")) <= 8e6
