"""A directory and a data set whose names hold the wildcards of file name patterns."""

import json
import shutil

import pytest

import data.partition
import early_exit.eval
import early_exit.infer
import early_exit.train
import experiment
import figures.early_exit
import figures.exits_and_server
import figures.risk
from deferral import join
from deferral.report import __main__ as report
from learning_to_help import estimators
from tests.early_exit.toy import TINY_FLAGS
from tests.made import make_npz, quiet

NAME = "od[d]*?"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / NAME
    folder.mkdir()
    return folder


def test_partition(run):
    npz = make_npz(run / f"{NAME}.npz", size=8)
    flags = ["--dataset", npz, "--out", run / "parts", "iid", "balance", "-"]
    quiet(data.partition.main, "--clients", 2, *flags)
    clients = [
        name for name in sorted(p.name for p in (run / "parts").iterdir()) if "client" in name
    ]
    assert clients == ["client-0000.npz", "client-0001.npz"]
    args = data.partition.parse_args(["--dataset", str(npz), "iid", "balance", "-"])
    assert data.partition.default_out(args).name == f"{NAME}-20-iid-balance-seed-0"


def test_from_exits_to_report(run):
    npz = make_npz(run / f"{NAME}.npz")
    common = ["--dataset", npz, "--save_dir", run / "exits"]
    quiet(early_exit.train.main, *common, *TINY_FLAGS, "--epochs", 1)
    quiet(early_exit.eval.main, *common)
    quiet(early_exit.infer.main, *common, "--seconds", 0.1)
    quiet(join.main, run / "exits", run / "exits", "--device_cost", 0.1, "--out", run / "joined")
    quiet(report.main, run / "joined", "--cost_1", 1, "--cost_e", 0.1, "--draws", 20)
    quiet(figures.exits_and_server.main, run / "joined", "--cost_1", 1, "--cost_e", 0.1)
    quiet(figures.early_exit.main, run / "exits")
    assert json.loads((run / "joined" / f"{NAME}-report.json").read_text())
    assert (run / "joined" / "figures" / f"{NAME}-exits_and_server.png").exists()
    assert list((run / "exits" / "figures").iterdir())


def test_a_figure(run, trained):
    shutil.copy(trained / "tiny-predictions.npz", run / f"{NAME}-predictions.npz")
    quiet(figures.risk.main, run)
    assert (run / "figures" / f"{NAME}-risk.png").exists()


def test_checkpoints_of_one_data_set(run):
    for name in (NAME, "odd12"):  # the second fits the first as a pattern
        checkpoint = {"kind": "amortized", "local_sha256": "1"}
        experiment.save_checkpoint(run / f"{name}-rejector-amortized.pth", checkpoint)
    assert list(estimators.read(run, NAME, {"local": "1"})) == [f"{NAME}-rejector-amortized"]
