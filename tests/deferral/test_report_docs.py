"""The files shown in docs/report.md run with the commands shown below them."""

import re
import shlex

import pytest

import experiment
from deferral import apply
from deferral.report import __main__ as report

pytestmark = pytest.mark.usefixtures("quick", "no_page")
PAGE = (experiment.ROOT / "docs" / "report.md").read_text()
EXAMPLE = re.compile(r"```(?:csv|tsv|jsonl)\n(.*?)```\s+```bash\n(python -m .*?)\n```", re.S)
EXAMPLES = EXAMPLE.findall(PAGE)


@pytest.mark.parametrize(("content", "command"), EXAMPLES, ids=[c for _, c in EXAMPLES])
def test_an_example_of_the_page_runs(content, command, tmp_path):
    module, name, *flags = shlex.split(command)[2:]
    assert module == "deferral.report"
    path = tmp_path / name
    path.write_text(content)
    report.main([str(path), *flags, "--draws", "20"])
    policy = path.with_name(f"{path.stem}-policy.json")
    assert apply.main([str(policy), str(path), "--out", str(tmp_path / "decisions.csv")]) == 0
    samples = content.count("\n") - (path.suffix != ".jsonl")
    assert len((tmp_path / "decisions.csv").read_text().splitlines()) == 1 + samples


def test_there_is_an_example_of_each_form():
    assert len(EXAMPLES) == len(re.findall(r"```(?:csv|tsv|jsonl)\n", PAGE)) == 8
