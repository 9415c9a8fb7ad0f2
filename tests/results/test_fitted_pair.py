"""The studies of a fixed pair and of people as the server, on a few made-up pictures."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

import experiment
from figures import when_it_pays as figure
from results import (
    fitted_pair,
    halved_test,
    made_people_file,
    pair_answers,
    people_server,
    rule_tables,
    when_it_pays,
)
from results.studies.resnet_cifar import resnet20, resnet56

PICTURES, CLASSES = 200, 10


@pytest.fixture(autouse=True)
def few_costs(monkeypatch):
    monkeypatch.setattr(fitted_pair, "PAPER_COSTS", [(1.0, 0.0), (1.0, 0.1), (1.25, 0.3)])
    monkeypatch.setattr(fitted_pair, "DRAWS", 50)


@pytest.fixture
def clean(tmp_path):
    """A file of answers: features tell where the local net is wrong, and its logits do not."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, PICTURES)
    wrong = rng.random(PICTURES) < 0.4
    said = {"resnet20": np.where(wrong, (labels + 1) % CLASSES, labels), "resnet56": labels}
    logits = {k: 2 * np.eye(CLASSES, dtype=np.float32)[answer] for k, answer in said.items()}
    features = rng.normal(0, 0.1, (PICTURES, 4)).astype(np.float32)
    features[:, 0] += wrong
    path = tmp_path / "clean.npz"
    experiment.write_npz(
        path, labels=labels, index=np.arange(PICTURES), features=features, **logits
    )
    return path


def by_rule(found):
    return {row["rule"]: row for row in found["rows"]}


def people(tmp_path, counts):
    np.savez(tmp_path / "people.npz", counts=counts)
    return tmp_path / "people.npz"


def test_a_rejector_on_features_finds_what_the_logits_do_not_tell(clean):
    answers = fitted_pair.read(clean)
    half, test = fitted_pair.halves(answers)
    assert not set(half.row) & set(test.row)
    run = fitted_pair.decided(fitted_pair.fit(half, 0), half, test)
    rows = by_rule(fitted_pair.summary([run]))
    threshold = rows[rows["oracle"]["reference"]]["risk"]
    for name in ("amortized, features", "stage_switching, features", "one_vs_all, calibrated"):
        assert rows["oracle"]["risk"] <= rows[name]["risk"]
    assert rows["amortized, features"]["risk"] < 0.8 * threshold
    assert rows["stage_switching, features"]["risk"] < 0.8 * threshold


def test_the_study_of_people_keeps_numbers_and_no_answers(clean, tmp_path, refused):
    counts = 40 * np.eye(CLASSES, dtype=np.int64)[fitted_pair.read(clean).labels]
    counts[:, 0] += 10
    out = tmp_path / "cifar10-people-server" / "people.json"
    words = [clean, people(tmp_path, counts), out, "--seeds", "0", "1"]
    people_server.main(list(map(str, words)))
    found = json.loads(out.read_text())
    alone = {name: np.mean([a[1] for a in s["alone"]]) for name, s in found["servers"].items()}
    assert alone["majority"] == 1
    assert 0.7 < alone["person"] < 0.95
    assert found["seeds"] == [0, 1]
    assert len(out.read_text()) < 30_000
    assert "amortized, features" in rule_tables.people_server(tmp_path, "person")
    refused(people_server.main, *words, telling="exists")


@pytest.mark.parametrize(
    "counts",
    [np.ones((3, CLASSES), int), np.ones((PICTURES, CLASSES)), np.zeros((PICTURES, CLASSES), int)],
)
def test_counts_that_do_not_fit_are_refused(counts, clean, tmp_path, refused):
    out = tmp_path / "out.json"
    refused(people_server.main, clean, people(tmp_path, counts), out, telling="people.npz")
    assert not out.exists()


def test_regimes_change_what_they_say(clean):
    answers = fitted_pair.read(clean)
    regimes = when_it_pays.changed(answers)
    assert set(regimes["specialist"].remote.argmax(1)) == set(when_it_pays.KNOWN)
    assert not set(regimes["blind"].local.argmax(1)) & set(when_it_pays.UNSEEN)
    noisy = regimes["label noise"].labels != answers.labels
    assert 0.2 < noisy[np.isin(answers.labels, when_it_pays.NOISY)].mean() < 0.5
    assert not noisy[~np.isin(answers.labels, when_it_pays.NOISY)].any()


def test_the_study_of_regimes_ends_with_a_table_and_a_figure(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(when_it_pays, "CORRUPTIONS", {"noise-1": None})
    answers = fitted_pair.read(clean)
    _, test = fitted_pair.halves(answers)
    experiment.write_npz(
        tmp_path / "noise-1.npz", labels=test.labels, index=test.row, features=test.features,
        resnet20=test.local, resnet56=test.remote,
    )  # fmt: skip
    out = tmp_path / "when-it-pays" / "when-it-pays.json"
    when_it_pays.main([str(tmp_path), str(out), "--seeds", "1"])
    regimes = json.loads(out.read_text())["regimes"]
    assert list(regimes) == ["good", "specialist", "blind", "label noise", "noise 1"]
    # The same pictures as clean ones: the same numbers.
    assert regimes["noise 1"] == regimes["good"]
    assert "| label noise |" in rule_tables.when_it_pays(tmp_path)
    figure.main([str(out)])
    assert (out.parent / "when-it-pays.png").exists()


@pytest.fixture
def pair(tmp_path):
    """An npz of 20 train and 12 test pictures, and in its folder both networks' weights."""
    rng, arrays = np.random.default_rng(0), {}
    for part, n in (("train", 20), ("test", 12)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(n) % 10
    np.savez(tmp_path / "few.npz", **arrays)
    for name, make in (("resnet20-12fca82f", resnet20), ("resnet56-4bfd9763", resnet56)):
        torch.manual_seed(0)
        state = {f"module.{k}": v for k, v in make(10).state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / f"{name}.th")
    return tmp_path / "few.npz", arrays


def test_answers_of_the_pair_are_of_the_test_pictures_and_go_on(pair, tmp_path, refused):
    path, arrays = pair
    words = [str(path), str(tmp_path), str(tmp_path / "out")]
    pair_answers.main([*words, "--corrupted"])
    clean = fitted_pair.read(tmp_path / "out" / "clean.npz")
    assert clean.labels.tolist() == arrays["y_test"].tolist()
    torch.manual_seed(0)
    net = resnet20(10).eval()
    pixels = torch.from_numpy(arrays["x_test"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = net(pixels * 2 - 1)
    np.testing.assert_allclose(clean.local, expected.numpy(), rtol=1e-3, atol=1e-3)
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 1 + len(pair_answers.CORRUPTIONS)
    noisy = fitted_pair.read(tmp_path / "out" / "noise-5.npz")
    assert noisy.row.tolist() == halved_test.half_rows(12)[1].tolist()
    files[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in files[1:]}
    pair_answers.main([*words, "--corrupted"])
    assert files[0].exists()
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == before
    # Complete answers need neither the pictures nor the weights.
    words[:2] = str(tmp_path / "no.npz"), str(tmp_path / "no")
    pair_answers.main([*words, "--corrupted"])
    files[0].unlink()
    refused(pair_answers.main, *words, "--corrupted", telling="resnet20-12fca82f.th: not there; ")


def test_the_worked_examples_are_made_of_answers_to_mirrored_pictures_too(pair, tmp_path):
    path, arrays = pair
    out = tmp_path / "out"
    pair_answers.main([str(path), str(tmp_path), str(out), "--mirrored"])
    clean, mirrored = (fitted_pair.read(out / f"{n}.npz") for n in ("clean", "mirrored"))
    assert not np.allclose(clean.remote, mirrored.remote)
    counts = 50 * np.eye(CLASSES, dtype=np.int64)[(clean.labels + 1) % CLASSES]
    made_people_file.main([str(out), str(people(tmp_path, counts)), str(out)])
    of_people, of_networks = (pd.read_csv(out / f"{n}.csv.gz") for n in ("people", "networks"))
    names = np.array(made_people_file.CLASSES)
    assert of_people["label"].tolist() == names[arrays["y_test"]].tolist()
    assert of_people["answer_person"].tolist() == names[counts.argmax(1)].tolist()
    mean = softmax(clean.remote, 1) + softmax(mirrored.remote, 1)
    assert of_networks["answer_twice"].tolist() == names[mean.argmax(1)].tolist()
    first = of_networks[[f"resnet56_{name}" for name in names]].to_numpy()
    np.testing.assert_allclose(first, clean.remote, atol=0.0051)
