"""Two rounds of a small study, made once: digits, two tiny targets and an unseen one."""

import json
from pathlib import Path

import pytest

from active_learning import al_select, test_multi_models, train_net
from active_learning.strategies import METHODS
from tests.made import quiet

TARGETS = ["lenet5", {"net": "convnet", "size": 16}, {"net": "convnet", "size": 8, "name": "small"}]
# A network of the once-for-all space that is quick to build.
TINY = {
    "name": "tiny@1ms",
    "depths": [1, 2, 1, 1, 1],
    "kernels": [3, 5, 3, 7, 3, 5],
    "expansions": [3, 4, 6, 3, 1, 3],
    "widths": [8, 8, 8, 8, 16, 16, 8, 16, 24],
    "size": 32,
}
TRAIN = ["--epochs", 4, "--batch_size", 10, "--lr", 0.05, "--crop_scale", 0.6, 1]
INITIAL, BATCH = 60, 20
COSTS = ["--cost_1", 1, "--cost_e", 0.1]
TRAINED = ("random", "DIAM")  # in round 1; all methods have chosen its labels


def sizes(round_):
    """Of the labels, for al_select."""
    return ["--initial_size", INITIAL] if round_ == 0 else ["--batch_size", BATCH]


@pytest.fixture(scope="session")
def targets(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("targets") / "targets.json"
    path.write_text(json.dumps(TARGETS))
    return path


@pytest.fixture(scope="session")
def common(targets):
    """Flags of every step: common(run, round, *methods)."""

    def flags(run, round_, *methods):
        return [
            "--dataset", "digits", "--targets", targets, "--model_num", 2, "--save_dir", run,
            "--al_iter", round_, "--method", *(methods or METHODS), "--device", "cpu",
        ]  # fmt: skip

    return flags


@pytest.fixture(scope="session")
def study(common, tmp_path_factory) -> Path:
    """Round 0, the labels of round 1 by every method, and all of round 1 for TRAINED.

    One seed. Not to be changed.
    """
    run = tmp_path_factory.mktemp("study")
    for round_, methods in enumerate((METHODS, TRAINED)):
        quiet(al_select.main, *common(run, round_), *sizes(round_), *(COSTS if round_ else []))
        quiet(train_net.main, *common(run, round_, *methods), *TRAIN, "--net_id", 0, 1, 2)
        quiet(test_multi_models.main, *common(run, round_, *methods), *COSTS, "--unseen", 2)
    return run
