"""A small trained and evaluated run that many tests read, and a check of one-line errors."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import eval_all
import train_edgenet_async
import train_localnet
from deferral import estimates
from deferral.report import guarantee
from tests.made import COSTS, SMALL_EDGE, make_npz, quiet

# The slowest files run first, so that no core waits for the last of them.
SLOW = (
    "test_train_edgenet_async.py",
    "test_pipelines.py",
    "test_resume.py",
    "test_torchrun.py",
    "test_parallel.py",
    "test_quickstart.py",
    "test_iter_all.py",
    "test_train.py",
    "test_eval.py",
)


def pytest_collection_modifyitems(items):
    order = {name: k for k, name in enumerate(SLOW)}
    items.sort(key=lambda item: order.get(item.path.name, len(SLOW)))


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory) -> Iterator[None]:
    """Keep those that torchrun and killed processes leave behind in the folder of pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Close the figures that a test leaves open; matplotlib warns at twenty."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def npz(tmp_path_factory) -> Path:
    return make_npz(tmp_path_factory.mktemp("data") / "tiny.npz")


@pytest.fixture(scope="session")
def trained(npz, tmp_path_factory) -> Path:
    """A run directory on `npz`: local net, edge, 4 costs x 2 S, evaluated. Read only."""
    run = tmp_path_factory.mktemp("trained")
    common = ["--dataset", npz, "--save_dir", run]
    quiet(train_localnet.main, *common, "--epochs", 2, "--lr", 0.01, "--local_classes", "0-2")
    quiet(
        train_edgenet_async.main,
        *common, *SMALL_EDGE, *COSTS, "--epochs", 2, "--async_freq", 1, 3, "--lr_rejector", 0.05,
    )  # fmt: skip
    quiet(eval_all.main, *common)
    return run


@pytest.fixture(scope="session")
def python() -> str:
    """The Python of tests that start or kill a process."""
    return sys.executable


@pytest.fixture(scope="module")
def quick():
    """One penalty of the logistic regressions, and fewer simulated splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "STRENGTHS", (3e-3,))
        patch.setattr(guarantee, "SPLITS", 40)
        yield


@pytest.fixture
def run_copy(trained, tmp_path) -> Path:
    """A copy of the trained run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def downloads(monkeypatch):
    """downloads(state): what torchvision downloads as weights; None: there is no network."""

    def answer(state=None):
        def load(*args, **kwargs):
            if state is None:
                raise OSError("no route to host\nat all")
            return dict(state)

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)

    return answer


@pytest.fixture
def refused(capsys):
    """Call a main; expect one line `error: ...` that contains `telling`, and exit status 2."""

    def call(main, *argv, telling):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in argv])
        message = capsys.readouterr().err
        assert stop.value.code == 2
        assert message.startswith("error: ")
        assert message.count("\n") == 1, message
        assert telling in message
        return message

    return call
