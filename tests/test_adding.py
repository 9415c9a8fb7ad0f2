"""What docs/adding.md says to add, applied to a copy of the packages as it stands on the page.

tests/deferral/test_catalogue.py adds a decision rule.
"""

import bz2
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import experiment
from deferral import predictions as saved
from tests.made import make_npz
from tests.shell import ROOT

PACKAGES = ("data", "deferral", "experiment", "figures", "learning_to_help", "losses", "models")
RUN = """
import sys
import eval_all, train_edgenet_async, train_localnet
from deferral.report.__main__ import main as report
from figures import risk

npz, run = sys.argv[1:]
small = ["--val_size", "0.9", "--epochs", "1", "--batch_size", "64"]
common = ["--dataset", "digits", "--save_dir", run, "--device", "cpu"]
train_localnet.main([*common, *small])
edge = ["--edge_net", "tinynet", "--surrogate", "capped", "--costs", "1:0.1", "1.25:0.25"]
train_edgenet_async.main([*common, *small, *edge, "--extra_surrogates", "stage_switching"])
eval_all.main(common)
risk.main([run])
report([run, "--cost_1", "1.25", "--cost_e", "0.25", "--draws", "20"])
for dataset in (npz, "usps"):
    common = ["--dataset", dataset, "--data_root", run + "/data", "--save_dir", run + "/sets"]
    train_localnet.main([*common, "--epochs", "1"])
"""


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "adding.md").read_text(), re.S)


def add_line(path, registry: str, line: str) -> None:
    """Insert a line at the start of the dict `registry` of a module."""
    text, head = path.read_text(), f"\n{registry} = {{\n"
    assert text.count(head) == 1
    path.write_text(text.replace(head, head + line))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The packages with the page's surrogate, edge net and data set."""
    folder = tmp_path_factory.mktemp("copy")
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    surrogate, surrogate_line, network, _, _, dataset_line = blocks()
    with open(folder / "losses" / "stage_switching.py", "a") as file:
        file.write("\n\n" + surrogate)
    add_line(folder / "losses" / "surrogates.py", "SURROGATES", surrogate_line)
    new_file, registry = network.split("# models/edgenet.py\n")
    (folder / "models" / "tinynet.py").write_text(new_file)
    imports, entries = registry.split("EDGE_NETS = {\n    ...,\n")
    edgenet = folder / "models" / "edgenet.py"
    add_line(edgenet, "EDGE_NETS", entries.removesuffix("}\n"))
    before, after = edgenet.read_text().split("from models.localnet", 1)
    edgenet.write_text(f"{before}{imports.strip()}\nfrom models.localnet{after}")
    add_line(folder / "data" / "sources.py", "_TORCHVISION", dataset_line)
    return folder


def write_usps(folder) -> None:
    """Both files of torchvision's USPS, which it reads without downloading: 16 x 16, -1 to 1."""
    rng = np.random.default_rng(0)
    for name in ("usps.bz2", "usps.t.bz2"):
        with bz2.open(folder / name, "wt") as file:
            for k in range(40):
                pixels = " ".join(f"{i}:{v:.2f}" for i, v in enumerate(rng.uniform(-1, 1, 256), 1))
                file.write(f"{k % 10 + 1} {pixels}\n")


def test_what_is_added_works_everywhere(copy, tmp_path):
    """Trained, evaluated, drawn and reported by one process in the copy."""
    npz, run = make_npz(tmp_path / "named.npz", size=8), tmp_path / "run"
    (run / "data").mkdir(parents=True)
    write_usps(run / "data")
    done = subprocess.run(
        [sys.executable, "-c", RUN, npz, run], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    predictions = saved.load(run / "digits-predictions.npz")
    assert predictions.settings["edge"] == "tinynet"
    rejectors = predictions.settings["rejectors"]
    assert [r["surrogate"] for r in rejectors].count("capped") == 2
    assert len(rejectors) == 4
    result = json.loads((run / "digits-eval_all.json").read_text())
    settings = result["digits-edgenet-async-1-cost_1-1.25-cost_e-0.25"]["settings"]
    assert settings["surrogate"] == "capped"
    assert (run / "figures" / "digits-risk.png").stat().st_size > 0
    report = json.loads((run / "digits-report.json").read_text())
    names = {rule["name"] for rule in report["settings"][0]["rules"]}
    assert {"capped", "stage_switching"} <= names
    assert "capped" in (run / "digits-report.html").read_text()
    for name, classes in (("named", 4), ("usps", 10)):
        checkpoint = experiment.load_checkpoint(run / "sets" / f"{name}-localnet.pth")
        assert (checkpoint["dataset"], checkpoint["num_classes"]) == (name, classes)
