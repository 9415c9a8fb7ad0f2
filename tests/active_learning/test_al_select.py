"""Queries of a round against a plain computation, repeated, shared between methods, and refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import experiment
from active_learning import al_select, trained
from active_learning.strategies import METHODS, Pool, select
from active_learning.target_models import read_targets
from tests.active_learning.conftest import COSTS, sizes
from tests.made import quiet


def rows_of(run, method, round_=1):
    return np.load(run / "index_sets" / "2" / "digits" / method / f"{round_}.npz")


@pytest.fixture(scope="module")
def plain_pool(study, targets):
    """What the targets of round 0 say, by plain loops over single images."""
    rows = np.load(study / "index_sets" / "digits" / "0.npz")
    train = data.load("digits", val_size=0.1).train
    seen, votes = {}, []
    for t, target in enumerate(read_targets(targets)[:2]):
        folder = study / "nets/digits" / target.name / digest(rows["labelled"])
        net = target.build(10, 0)
        net.load_state_dict(experiment.load_checkpoint(folder / "net.pth")["state_dict"])
        net.eval()
        last = net.fc3 if target.name == "lenet5" else net.head
        seen[t] = {}
        kept = {}
        last.register_forward_pre_hook(lambda m, x, kept=kept: kept.update(x=x[0]))
        with torch.no_grad():
            for which in ("unlabelled", "labelled"):
                images = train.images[torch.from_numpy(rows[which])].float() / 127.5 - 1
                logits = net(images).numpy()
                seen[t][which] = logits, kept["x"].numpy().copy()
        votes.append(np.load(folder / "votes.npz")["votes"])
    return Pool(
        size=len(rows["unlabelled"]),
        votes=np.stack(votes, 1),
        logits=np.stack([seen[t]["unlabelled"][0] for t in (0, 1)]),
        features={t: seen[t]["unlabelled"][1] for t in (0, 1)},
        features_of=lambda t, rows: seen[t]["unlabelled"][1][rows],
        labelled_features={1: seen[1]["labelled"][1]},
        largest=1,
        local=0,
        edge=1,
        cost_1=1.0,
        cost_e=0.1,
    )


def digest(rows):
    return al_select.index_sets.IndexSet(rows, rows, rows, {}).digest


@pytest.mark.parametrize("method", METHODS)
def test_each_method_chooses_by_what_the_targets_of_the_last_round_say(method, study, plain_pool):
    before = np.load(study / "index_sets" / "digits" / "0.npz")
    found = rows_of(study, method)
    picks = select(method, plain_pool, 20, np.random.default_rng([0, 1]))
    expected = before["unlabelled"][picks]
    # Batches of another size round otherwise, so that a near tie may fall the other way.
    assert len(set(expected) & set(found["queried"])) >= 19
    both = np.concatenate([found["labelled"], found["unlabelled"]])
    assert sorted(both) == list(range(1077))
    assert set(found["labelled"]) == set(before["labelled"]) | set(found["queried"])
    assert len(set(found["queried"])) == 20


def copied(study, to):
    """The study as far as round 0 goes, to be changed."""
    shutil.copytree(study / "nets", to / "nets")
    shutil.copytree(study / "index_sets" / "digits", to / "index_sets" / "digits")
    return to


def test_the_same_seed_gives_the_same_queries_alone_or_together(study, common, tmp_path):
    run = copied(study, tmp_path)
    for method in ("DIAM", "entropy", "risk"):
        costs = COSTS if method == "risk" else []
        quiet(al_select.main, *common(run, 1, method), *sizes(1), *costs)
        again, first = rows_of(run, method), rows_of(study, method)
        for name in ("labelled", "unlabelled", "queried"):
            np.testing.assert_array_equal(again[name], first[name])


def test_resume_keeps_and_overwrite_repeats(study, common, tmp_path, capsys, refused):
    run = copied(study, tmp_path)
    flags = [*common(run, 1, "random"), *sizes(1)]
    quiet(al_select.main, *flags)
    path = run / "index_sets" / "2" / "digits" / "random" / "1.npz"
    before = path.read_bytes()
    refused(al_select.main, *flags, telling="exists; --resume keeps it, --overwrite replaces it")
    capsys.readouterr()
    al_select.main([str(a) for a in [*flags, "--resume"]])
    assert capsys.readouterr().out == f"{path}: complete\n"
    assert path.read_bytes() == before
    more = [*flags, "--resume", "--batch_size", 21]
    refused(al_select.main, *more, telling="was made with {'batch_size': 20}; --overwrite")
    quiet(al_select.main, *more[:-3], "--overwrite", "--batch_size", 21)
    assert len(np.load(path)["queried"]) == 21


@pytest.mark.parametrize(
    ("round_", "methods", "flags", "telling"),
    [
        (0, ["DIAM"], ["--initial_size", 61], "holds 60 labels, not --initial_size 61"),
        (0, ["DIAM"], ["--initial_size", 1077], "the pool has 1077 samples"),
        (1, ["DIAM"], ["--batch_size", 1018], "1017 samples are unlabelled before round 1"),
        (2, ["coreset"], [], "was not trained on these labels"),
        (3, ["DIAM"], [], "no labels of round 2 here"),
        (1, ["risk"], ["--local_id", 1], "--local_id and --edge_id are both 1"),
        (1, ["risk"], ["--edge_id", 2], "--edge_id 2: the targets that vote are 0..1"),
        (1, ["DIAM"], ["--batch_size", 0], "must be finite, at least 1"),
        (1, ["DIAM"], ["--model_num", 1], "must be finite, at least 2"),
        (1, ["DIAM"], ["--dataset", "digit"], "near: digits"),
    ],
)
def test_bad_flags_are_refused(study, common, refused, tmp_path, round_, methods, flags, telling):
    run = tmp_path
    shutil.copytree(study, run, dirs_exist_ok=True)
    if round_ == 1:
        shutil.rmtree(run / "index_sets" / "2")
    before = sorted(run.rglob("*"))
    refused(al_select.main, *common(run, round_, *methods), *sizes(round_), *flags, telling=telling)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "method", "telling"),
    [
        ("net.pth", "entropy", "is not the file that the checkpoint was trained with"),
        ("net.json", "entropy", "not JSON; train_net --overwrite"),
        ("votes.npz", "DIAM", "cannot be read"),
    ],
)
def test_a_spoilt_network_is_refused(study, common, refused, tmp_path, file, method, telling):
    run = copied(study, tmp_path)
    rows = np.load(run / "index_sets" / "digits" / "0.npz")["labelled"]
    path = run / "nets" / "digits" / "convnet" / digest(rows) / file
    path.write_bytes(path.read_bytes()[:-9])
    refused(al_select.main, *common(run, 1, method), *sizes(1), telling=telling)
    assert not (run / "index_sets" / "2").exists()


@pytest.mark.parametrize(
    ("what", "method"), [("logits", "entropy"), ("features", "coreset"), ("features", "DIAM_qp")]
)
def test_outputs_that_are_not_finite_are_refused(
    study, common, refused, tmp_path, what, method, monkeypatch
):
    run, compute = copied(study, tmp_path), getattr(trained, what)
    monkeypatch.setattr(trained, what, lambda *args: compute(*args).fill_(float("nan")))
    refused(al_select.main, *common(run, 1, method), *sizes(1), telling="outputs are not finite; ")
    assert not (run / "index_sets" / "2").exists()


def test_weights_are_forgotten_after_their_last_use(study, common, tmp_path, refused):
    """Those of unseen targets too; not those of round 0, which are every method's."""
    run = Path(shutil.copytree(study, tmp_path / "run"))
    kept = set(run.rglob("net.pth"))
    quiet(al_select.main, *common(run, 2, "DIAM"), *sizes(2), "--forget")
    before = digest(rows_of(run, "DIAM")["labelled"])
    gone = kept - set(run.rglob("net.pth"))
    names = ("lenet5", "convnet", "small")
    assert gone == {run / "nets" / "digits" / t / before / "net.pth" for t in names}
    again = [*common(run, 2, "DIAM"), *sizes(2), "--resume"]
    quiet(al_select.main, *again)
    rows = np.load(run / "index_sets" / "2" / "digits" / "DIAM" / "1.npz")
    other = run / "index_sets" / "2" / "digits" / "entropy" / "1.npz"
    about = str(rows["about"]).replace('"DIAM"', '"entropy"')
    np.savez(other, **{k: rows[k] for k in ("labelled", "unlabelled", "queried")}, about=about)
    flags = [*common(run, 2, "entropy"), *sizes(2)]
    refused(
        al_select.main, *flags, telling="deleted by --forget; train_net --overwrite trains it again"
    )


def test_a_pool_that_runs_out_has_an_exit_status_of_its_own(study, common, tmp_path, capsys):
    run = copied(study, tmp_path)
    flags = [*common(run, 1, "random", "DIAM"), "--batch_size", 1018, "--may_end"]
    before = sorted(run.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        al_select.main([str(a) for a in flags])
    assert stop.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the pool ran out: 1017 samples are unlabelled before round 1")
    assert sorted(run.rglob("*")) == before
