"""Every command, link and file name that README.md and the other pages show."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from active_learning.strategies import METHODS

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md")), *ROOT.glob("CONTRIBUTING.md")]
PAGES += [ROOT / "results" / "README.md"]


def commands():
    """(page, environment, words) of every command in a bash block."""
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                environment = {}
                while words and re.match(r"[A-Z_0-9]+=", words[0]):
                    name, _, value = words.pop(0).partition("=")
                    environment[name] = value
                if words:
                    yield page.name, environment, words


ALL = list(commands())


def test_the_readme_begins_with_two_commands():
    first = [words for page, _, words in ALL if page == "README.md"]
    assert first[:2] == [["bash", "quickstart.sh"], ["bash", "test.sh"]]


@pytest.mark.parametrize(("page", "environment", "words"), ALL, ids=lambda x: " ".join(x)[:60])
def test_command(page, environment, words, capsys):
    if words[0] == "bash":
        check_script(environment, words[1:])
    elif words[0] == "torchrun":
        check_torchrun(words[1:])
    else:
        assert words[0] == "python"
        name, argv = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
        check_program(name.removesuffix(".py"), argv, capsys)


def check_torchrun(words):
    """torchrun knows its flags, and the script those that follow."""
    args = get_args_parser().parse_args(words)
    name = args.training_script.removesuffix(".py")
    importlib.import_module(name).parse_args(args.training_script_args)


def check_script(environment, words):
    """It exists, parses and reads these variables; the flags in them are known."""
    script = ROOT / words[0]
    text = script.read_text()
    subprocess.run(["bash", "-n", script], check=True)
    net = "early_exit.train" if '  exits "$dataset"' in text else "train_edgenet_async"
    if "common.sh" in text:
        text += (ROOT / "runs" / "common.sh").read_text()
    assert set(environment) <= set(re.findall(r"^#   ([A-Z_]+)", text, re.M))
    of = {"EXTRA": net, "EXTRA_EXITS": "early_exit.train"}
    of |= {"EXTRA_LOCAL": "train_localnet", "EXTRA_EVAL": "eval_all"}
    if script.name == "iter_all.sh":
        assert words[1] == "cpu" or words[1].isdigit()
        assert int(words[2]) >= 2
        of = {"EXTRA": "active_learning.train_net", "CASCADE": "active_learning.test_multi_models"}
    assert len(words) <= (4 if script.name == "iter_all.sh" else 3 if "all.sh" in words[0] else 2)
    for name in of.keys() & environment.keys():
        importlib.import_module(of[name]).parse_args(shlex.split(environment[name]))
    assert set(shlex.split(environment.get("METHODS", ""))) <= set(METHODS)


def check_program(name, argv, capsys):
    """Its flags parse, or are named in its help where its main reads them."""
    package = (ROOT / name.replace(".", "/")).is_dir()
    module = importlib.import_module(f"{name}.__main__" if package else name)
    if hasattr(module, "parse_args"):
        module.parse_args(argv)
    else:
        with pytest.raises(SystemExit) as stop:
            module.main(["--help"])
        assert stop.value.code == 0
        known = re.findall(r"--\w+", capsys.readouterr().out)
        assert {x for x in argv if x.startswith("--")} <= set(known)


def test_every_script_is_named_in_a_page():
    text = "".join(page.read_text() for page in PAGES)
    scripts = [*ROOT.glob("*.sh"), *ROOT.glob("runs/*-*.sh"), *ROOT.glob("*.py")]
    assert [p.name for p in scripts if p.name not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    """Files, and headings of pages as GitHub names them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "log.md"], ids=lambda p: p.name)
def test_file_names_in_code_exist(page):
    """File names in backquotes; the log may name files that have left."""
    written = {"predictions.npz", "release.pth", "performances.json", "performances.txt"}
    written |= {"args.json", "metrics.jsonl", "models/NAME.py"}
    written |= {"NAME-report.json", "NAME-policy.json"}
    names = re.findall(r"`([\w./-]+\.(?:py|sh|md|cff|jsonl?|txt|ya?ml))`", page.read_text())
    for name in names:
        there = (ROOT / name).exists() or (page.parent / name).exists()
        published = ROOT / "results" / "published"
        assert name in written or there or any(published.rglob(name)), name


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 180
