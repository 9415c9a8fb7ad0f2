"""Exits and a server in one file: the same samples in one order, and rules for this device."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from deferral import join as script
from deferral import predictions as saved
from deferral.join import join
from deferral.predictions import Predictions

EXITS, N, K = 3, 16, 4
CLASSES = ["a", "b", "c", "d"]


@pytest.fixture
def exits():
    """Three exits on 6 val and 10 test samples, whose numbers in the data set are shuffled."""
    rng = np.random.default_rng(0)
    settings = {"dataset": "tiny", "classes": CLASSES, "rejectors": [], "seed": 5, "arch": "msdnet"}
    settings |= {"multiply_adds": [100, 250, 400], "method": "l2w", "checkpoint": "a.pth"}
    return Predictions(
        labels=rng.integers(0, K, N),
        stage_logits=rng.normal(size=(EXITS, N, K)).astype(np.float32),
        split=np.repeat([0, 1], [6, 10]),
        index=np.concatenate([rng.permutation(20)[:6], rng.permutation(10)]),
        scores=np.zeros((0, N), np.float32),
        settings=settings,
        source="exits.npz",
    )


@pytest.fixture
def server(exits):
    """Learning to help on the last exit, its rows shuffled: 2 rejectors, an estimator, pictures."""
    rng = np.random.default_rng(1)
    rejectors = [
        {"stem": f"r{i}", "surrogate": "s", "cost_1": 1.0, "cost_e": 0.1 * i, "async_freq": 1}
        for i in range(2)
    ]
    settings = {"dataset": "tiny", "classes": CLASSES, "rejectors": rejectors, "seed": 43}
    settings |= {"edge": "resnet18", "local": "msdnet:3", "commit": "other"}
    settings["estimators"] = [{"name": "amortized", "about": "of features"}]
    edge = rng.normal(size=(N, K)).astype(np.float32)
    pictures = np.array([7, 9, 15])  # rows, in the order of `exits`
    straight = Predictions(
        labels=exits.labels,
        stage_logits=np.stack([exits.stage_logits[-1] + 5e-4, edge]),
        split=exits.split,
        index=exits.index,
        scores=rng.normal(size=(2, N)).astype(np.float32),
        settings=settings,
        example_index=pictures,
        example_images=pictures[:, None, None, None].astype(np.uint8) * np.ones((1, 1, 2, 2), "u1"),
        estimates=rng.random((1, 2, N)).astype(np.float32),
        source="server.npz",
    )
    return shuffled(straight, rng.permutation(N))


def shuffled(p, order):
    """The same predictions with row order[i] as row i."""
    place = np.argsort(order)
    return dataclasses.replace(
        p,
        labels=p.labels[order],
        stage_logits=p.stage_logits[:, order],
        split=p.split[order],
        index=p.index[order],
        scores=p.scores[:, order],
        estimates=None if p.estimates is None else p.estimates[..., order],
        example_index=None if p.example_index is None else place[p.example_index],
    )


def changed(p, **settings):
    return dataclasses.replace(p, settings=p.settings | settings)


def test_rows_stages_and_rules(exits, server):
    """Sample by sample, found by its split and index."""
    both = join(exits, server, 1e-3)
    assert not np.array_equal(server.index, exits.index)
    assert both.stage_logits.shape == (EXITS + 1, N, K)
    assert both.stage_logits.dtype == np.float32
    for row in range(N):
        where = (server.split == exits.split[row]) & (server.index == exits.index[row])
        (there,) = np.flatnonzero(where)
        assert both.labels[row] == server.labels[there]
        assert both.index[row] == exits.index[row]
        np.testing.assert_array_equal(both.stage_logits[:-1, row], exits.stage_logits[:, row])
        np.testing.assert_array_equal(both.stage_logits[-1, row], server.stage_logits[-1, there])
        np.testing.assert_array_equal(both.scores[:, row], server.scores[:, there])
        np.testing.assert_array_equal(both.estimates[..., row], server.estimates[..., there])
    assert both.example_index.tolist() == both.example_images[:, 0, 0, 0].tolist() == [7, 9, 15]


def test_settings(exits, server):
    settings = join(exits, server, 1e-3).settings
    kept = {k: v for k, v in exits.settings.items() if k != "rejectors"}
    assert {k: settings[k] for k in kept} == kept
    assert settings["local"] == "msdnet, 3 exits"
    assert (settings["edge"], settings["edge_seed"]) == ("resnet18", 43)
    assert settings["cost_flops"] == 1e-3
    assert settings["rejectors"] == server.settings["rejectors"]
    assert settings["estimators"] == server.settings["estimators"]
    assert settings["joined"] == {"exits": "exits.npz", "server": "server.npz", "left_out": ""}
    assert "commit" not in settings


def test_rules_of_another_device_stay_behind(exits, server):
    far = server.stage_logits.copy()
    far[0, 3, 1] += 2e-3
    both = join(exits, dataclasses.replace(server, stage_logits=far))
    assert both.scores.shape == (0, N)
    assert both.estimates is None
    assert both.settings["rejectors"] == []
    assert "estimators" not in both.settings
    assert (
        "whose logits differ from those of the last exit by up to 0.0"
        in (both.settings["joined"]["left_out"])
    )
    assert len(both.example_index) == 3
    # The rules of an earlier exit are not for the last one.
    early = server.stage_logits.copy()
    early[0] = shuffled(exits, [row_of(exits, server, i) for i in range(N)]).stage_logits[0]
    assert not len(join(exits, dataclasses.replace(server, stage_logits=early)).scores)


def row_of(exits, server, i):
    where = (exits.split == server.split[i]) & (exits.index == server.index[i])
    return int(np.flatnonzero(where)[0])


def test_an_edge_alone_and_another_network_with_exits(exits, server):
    alone = dataclasses.replace(
        server, stage_logits=server.stage_logits[1:], scores=server.scores[:0], estimates=None
    )
    alone = changed(alone, rejectors=[], estimators=[])
    both = join(exits, alone)
    assert both.settings["joined"]["left_out"] == ""
    assert both.stage_logits.shape == (EXITS + 1, N, K)
    other = dataclasses.replace(exits, stage_logits=-exits.stage_logits)
    both = join(exits, changed(other, arch="vit", seed=9))
    np.testing.assert_array_equal(both.stage_logits[-1], -exits.stage_logits[-1])
    assert (both.settings["edge"], both.settings["edge_seed"]) == ("vit:3", 9)
    assert both.settings["seed"] == 5


def replaced(name, row, value):
    def make(exits, server):
        array = getattr(server, name).copy()
        array[row] = value
        return exits, dataclasses.replace(server, **{name: array})

    return make


def twice(exits, server):
    return tuple(
        dataclasses.replace(p, index=np.where(p.split == 1, p.index // 2, p.index))
        for p in (exits, server)
    )


BAD = {
    "labels": (replaced("labels", 2, 9), "the labels of the same rows differ"),
    "index": (replaced("index", 2, 99), "of different samples (index)"),
    "split": (lambda e, s: (e, shuffled_split(s)), "of different samples (split)"),
    "rows": (lambda e, s: (e, s.part("test")), "16 samples, 4 classes; 10 samples, 4 classes"),
    "classes": (lambda e, s: (e, changed(s, classes=list("wxyz"))), "name their classes"),
    "no costs": (lambda e, s: (s, s), "does not say what its exits cost"),
    "a server": (lambda e, s: (join(e, s), s), "has a server already"),
    "twice": (twice, "some have the same index"),
}


def shuffled_split(p):
    return dataclasses.replace(p, split=1 - p.split)


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_belong_together(case, exits, server):
    make, telling = BAD[case]
    with pytest.raises(ValueError, match=r"exits.npz|server.npz") as e:
        join(*make(exits, server))
    assert telling in str(e.value)
    assert "\n" not in str(e.value)


@pytest.fixture
def folders(exits, server, tmp_path):
    """EXITS and SERVER as run directories, and below them as those of seeds 5 and 6."""
    for name, p in (("exits", exits), ("server", server)):
        for seed in (None, 5, 6):
            below = tmp_path / name / ("" if seed is None else f"seed-{seed}")
            script.write(below / "tiny-predictions.npz", changed(p, seed=seed or 5))
    return tmp_path


def run(*argv):
    script.main([str(a) for a in argv])


def test_the_command(folders, capsys):
    run(folders / "exits", folders / "server", "--device_cost", 0.2)
    path = folders / "exits" / "defer" / "tiny-predictions.npz"
    assert f"{path}: 3 exits and a server, 2 rejectors, 1 estimators\n" in capsys.readouterr().out
    both = saved.load(path)
    assert both.settings["cost_flops"] * 400 == pytest.approx(0.2)
    assert len(both.part("val").labels) == 6
    for name in ("exits", "server"):
        file = folders / name / "tiny-predictions.npz"
        assert both.settings["joined"][name] == str(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert both.settings["joined"][f"{name}_sha256"] == digest


def test_out(folders):
    source = folders / "exits" / "tiny-predictions.npz"
    run(source, folders / "server", "--cost_flops", "1e-4", "--out", folders / "one.npz")
    assert saved.load(folders / "one.npz").settings["cost_flops"] == 1e-4
    run(source, folders / "server", "--out", folders / "out")
    assert saved.load(folders / "out" / "tiny-predictions.npz").settings["cost_flops"] == 0
    run(source, folders / "server")
    assert (folders / "exits" / "defer" / "tiny-predictions.npz").exists()


def test_seeds(folders, refused):
    pair = folders / "exits", folders / "server"
    run(*pair, "--seeds", 5, 6, "--out", folders / "out")
    found = [saved.load(path).settings["seed"] for path in saved.find(folders / "out")]
    assert found == [5, 6]
    before = {p: p.stat().st_mtime_ns for p in (folders / "out").rglob("*.npz")}
    (folders / "out" / "seed-5" / "tiny-predictions.npz").unlink()
    argv = [*pair, "--seeds", 5, 6, "--out", folders / "out"]
    refused(script.main, *argv, telling="predictions are here; --overwrite replaces them")
    after = {p: p.stat().st_mtime_ns for p in (folders / "out").rglob("*.npz")}
    assert after == {p: t for p, t in before.items() if "seed-6" in str(p)}


def test_an_external_file_as_server(exits, folders, capsys):
    """Rows without numbers are those of EXITS; its rejector is of no costs."""
    rng = np.random.default_rng(2)
    path, answers = folders / "theirs.npz", rng.integers(0, K, N)
    theirs = {"labels": exits.labels, "local_logits": exits.stage_logits[-1]}
    theirs |= {"remote_prediction": answers, "rejector": rng.normal(size=N)}
    np.savez(path, **theirs)
    run(folders / "exits", path, "--out", folders / "out")
    both = saved.load(folders / "out" / "tiny-predictions.npz")
    assert both.stage_logits[-1].argmax(-1).tolist() == answers.tolist()
    assert "edge" not in both.settings
    assert (both.split.tolist(), both.index.tolist()) == (
        exits.split.tolist(),
        exits.index.tolist(),
    )
    assert len(both.scores) == 0
    assert "3 exits and a server, 0 rejectors" in capsys.readouterr().out


def test_refused(exits, folders, refused):
    """Each in one line, and nothing is written."""
    pair = folders / "exits", folders / "server"
    order = np.arange(N)[::-1]
    theirs = {"labels": exits.labels[order], "local_logits": exits.stage_logits[-1]}
    np.savez(folders / "theirs.npz", **theirs, remote_logits=exits.stage_logits[0])
    np.savez(folders / "split.npz", **theirs | {"labels": exits.labels, "split": 1 - exits.split},
             remote_logits=exits.stage_logits[0])  # fmt: skip
    before = sorted(folders.rglob("*"))

    def no(*argv, telling):
        refused(script.main, *argv, telling=telling)

    no(pair[0], folders / "theirs.npz", telling="row by row")
    no(pair[0], folders / "split.npz", telling="of different samples (split)")
    no(pair[1], pair[1], telling="does not say what its exits cost")
    no(pair[0], folders / "nowhere.npz", telling="No such file")
    no(pair[0], folders, telling="need one *-predictions.npz there, and there is none")
    no(*pair, "--out", pair[0], "--overwrite", telling="is what is to be joined")
    no(*pair, "--cost_flops", "-1", telling="--cost_flops")
    no(*pair, "--cost_flops", "1", "--device_cost", "1", telling="not allowed with")
    no(*pair, "--seeds", "8", telling="seed-8: No such file")
    file = pair[0] / "tiny-predictions.npz"
    no(file, pair[1], "--seeds", "5", telling="EXITS: with --seeds it is a folder")
    no(*pair, "--seeds", "5", "--out", "a.npz", telling="--out: with --seeds")
    assert sorted(folders.rglob("*")) == before


def test_a_file_is_replaced_when_asked_and_is_whole(folders, refused):
    pair = folders / "exits", folders / "server"
    run(*pair, "--out", folders / "out")
    refused(script.main, *pair, "--out", folders / "out", telling="--overwrite replaces them")
    run(*pair, "--out", folders / "out", "--overwrite", "--cost_flops", "2")
    (path,) = (folders / "out").glob("tiny*")  # no half of a file beside it
    assert saved.load(path).settings["cost_flops"] == 2
    assert json.loads(str(np.load(path)["settings"]))["multiply_adds"] == [100, 250, 400]
