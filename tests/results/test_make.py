"""results/make.sh: the studies, what they need, and one of them on a few pictures."""

import numpy as np
import pytest
import torch

import data
from results import halved_test
from results.studies.resnet_cifar import resnet20, resnet56
from results.tables import TABLES
from tests.shell import ROOT, bash, commands, run

STUDIES = sorted(path.stem for path in ROOT.glob("results/studies/*.sh"))


@pytest.fixture
def pictures(tmp_path):
    """An npz like CIFAR-10's: 40 train and 160 test pictures, all different."""
    rng, arrays = np.random.default_rng(0), {}
    for part, n in (("train", 40), ("test", 160)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(n) % 10
    path = tmp_path / "cifar10.npz"
    np.savez(path, classes=np.array([f"class {k}" for k in range(10)]), **arrays)
    return path


def labelled(part):
    """The label of each picture, by its bytes."""
    pairs = zip(part.images, part.labels.tolist(), strict=True)
    return {picture.numpy().tobytes(): label for picture, label in pairs}


def test_half_of_the_test_pictures_become_train(pictures, tmp_path):
    out = tmp_path / "new" / "cifar10-held.npz"
    halved_test.main([str(pictures), str(out)])
    before, after = (data.load(str(path), val_size=2) for path in (pictures, out))
    assert after.classes == before.classes
    old, new = labelled(before.test), {}
    for part in (after.train, after.val, after.test):
        new |= labelled(part)
    assert new == old
    assert len(after.test.labels) == 80
    with pytest.raises(SystemExit):
        halved_test.main([str(pictures), str(out)])


def test_the_studies_are_listed_with_what_they_need_and_take():
    listed = bash("results/make.sh").stdout.splitlines()
    assert [line for line in listed if not line.startswith(" ")] == STUDIES
    for study in STUDIES:
        about = listed[listed.index(study) + 1 :][:3]
        assert about[1].startswith("  needs: ")
        assert about[2].startswith("  takes: ")


@pytest.mark.parametrize("words", [["nothing"], ["../make"], ["cifar10-resnets", "run", "more"]])
def test_an_unknown_study_is_refused(words):
    done = bash("results/make.sh", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: usage: bash results/make.sh [STUDY [RUN]]; studies: ")


@pytest.mark.parametrize("study", STUDIES)
def test_what_a_study_lacks_is_named_before_anything_is_written(study, tmp_path):
    done = bash("results/make.sh", study, tmp_path / "run", RESNETS=tmp_path, LITE0=tmp_path / "no")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert ": not there; " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture
def environment(pictures, tmp_path):
    """What make.sh needs for the pair: the pictures, and the networks with random weights."""
    for name, net in (("resnet20-12fca82f", resnet20), ("resnet56-4bfd9763", resnet56)):
        torch.save(net(10).state_dict(), tmp_path / f"{name}.th")
    return {"CIFAR10": str(pictures), "RESNETS": str(tmp_path), "SEEDS": "3"}


def test_a_study_ends_with_its_table(environment, tmp_path):
    words = ("results/make.sh", "cifar10-resnets", tmp_path / "run")
    lines = commands(*words, EXTRA="--device cpu", FAST="1", **environment)
    output = run(lines)
    assert "Alone, on test: local net " in output
    assert "| amortized, both | 0." in output
    assert lines[-1].split()[-1] in TABLES
    assert len(list((tmp_path / "run" / "kept").rglob("*-predictions.npz"))) == 1


def test_a_study_without_predictions_keeps_its_numbers(environment, tmp_path):
    """And numbers that a killed run has written are not computed again."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for path in (tmp_path / "people.npz", run_dir / "people.json"):
        path.write_text("{}")
    words = ("results/make.sh", "cifar10-people-server", run_dir)
    lines = commands(*words, PEOPLE=str(tmp_path / "people.npz"), **environment)
    assert [line.split()[1] for line in lines] == ["results.pair_answers", "results.tables"]
    assert (run_dir / "kept" / "cifar10-people-server" / "people.json").read_text() == "{}"
    assert set(lines[-1].split("--show ")[1].split()) <= set(TABLES)
