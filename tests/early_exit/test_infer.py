"""early_exit.infer: the exits that were really taken, what was asked for, and what is timed."""

import functools
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from deferral import exits
from deferral import predictions as saved
from early_exit import eval as evaluation
from early_exit import infer as script
from early_exit import latency
from early_exit.inference import Inference, LastExit
from models.cost import multiply_adds
from tests.early_exit.toy import TINY_FLAGS, Toy, checkpoint_of, make_net, slow_stop
from tests.made import quiet

FAST = ["--seconds", 0, "--batch_sizes", 2, "--q", 1]


@pytest.fixture(scope="module")
def evaluations(npz, tmp_path_factory):
    """Evaluated runs that no test changes, by the changes to their checkpoint."""

    @functools.cache
    def make(**changes):
        run = tmp_path_factory.mktemp("run")
        torch.save(checkpoint_of(npz, **changes), run / "tiny-msdnet.pth")
        quiet(evaluation.main, "--dataset", npz, "--save_dir", run)
        return run

    return make


@pytest.fixture
def evaluated(evaluations, tmp_path):
    """A copy of an evaluated run."""
    return lambda **changes: shutil.copytree(evaluations(**changes), tmp_path / "run")


def infer(npz, run, *flags):
    fast = FAST[:4] if {"--thresholds", "--budget"} & {str(f) for f in flags} else FAST
    quiet(script.main, "--dataset", npz, "--save_dir", run, *fast, *flags)
    return json.loads((run / "tiny-infer.json").read_text())


@pytest.mark.parametrize(("method", "t"), [("base", 0.0), ("boosted", 0.5)])
def test_what_is_done_is_what_eval_said(method, t, npz, evaluated):
    run = evaluated(method=method, t=t)
    result = infer(npz, run, "--q", 0.5, 1.0, 1.52, 1.95, "--batch_size", 7)
    rows = json.loads((run / "tiny-eval.json").read_text())["budgeted"]
    assert [p["q"] for p in result["points"]] == [0.5, 1.0, 1.5, 1.95]
    for point in result["points"]:
        expected = rows[round(point["q"] * 20) - 1]
        assert point["differences"] == 0
        for key in ("max_doubt", "shares", "accuracy", "multiply_adds"):
            assert point[key] == pytest.approx(expected[key])
    assert len({p["multiply_adds"] for p in result["points"]}) > 2
    assert result["all_exits"]["multiply_adds"] == rows_last(run)["multiply_adds"]
    assert result["all_exits"]["accuracy"] == rows_last(run)["accuracy"]


def rows_last(run):
    return json.loads((run / "tiny-eval.json").read_text())["anytime"][-1]


def test_decisions_that_differ_are_counted(npz, evaluated, capsys):
    run = evaluated()
    path = run / "tiny-predictions.npz"
    arrays = dict(np.load(path))
    sure = exits.confidence(saved.load(path).part("test").stage_logits)
    cuts = [(np.sort(c)[30] + np.sort(c)[31]) / 2 for c in sure[:2]]
    stop = slow_stop(sure, [*cuts, -np.inf])
    first = 40 + np.flatnonzero(stop == 0)[:5]  # after the 40 of val
    arrays["stage_logits"][:, first] = 0  # on paper these now go to the end
    np.savez(path, **arrays)
    flags = ["--dataset", npz, "--save_dir", run, *FAST[:4], "--thresholds", *(1 + c for c in cuts)]
    script.main([str(x) for x in flags])
    assert "5 of 60 decisions differ" in capsys.readouterr().out
    (point,) = json.loads((run / "tiny-infer.json").read_text())["points"]
    assert point["differences"] == 5
    assert point["shares"] == pytest.approx([(stop == k).mean() for k in range(3)])
    assert (point["q"], point["max_doubt"][2]) == (None, None)
    assert point["max_doubt"][:2] == pytest.approx([-c for c in cuts], rel=1e-12)


def test_own_thresholds_of_which_none_leaves(npz, evaluated):
    (point,) = infer(npz, evaluated(), "--thresholds", "inf", "inf")["points"]
    assert point["shares"] == [0, 0, 1]
    assert point["max_doubt"] == [None, None, None]


def test_a_budget_takes_the_best_point_on_val(npz, evaluated):
    """On val deeper exits are better, on test they are worse: test must have no say."""
    run = evaluated()
    path = run / "tiny-predictions.npz"
    arrays = dict(np.load(path))
    rng, right = np.random.default_rng(0), np.eye(4)[arrays["labels"]]
    worth = np.where(arrays["split"] == 0, 0.7, -0.7)[:, None] * right
    noise = rng.normal(size=(3, 100, 4))
    arrays["stage_logits"] = (noise + np.arange(1, 4)[:, None, None] * worth).astype(np.float32)
    np.savez(path, **arrays)
    pred = saved.load(path)
    val, costs = pred.part("val"), np.array(pred.settings["multiply_adds"])
    sure = exits.confidence(val.stage_logits)
    found = []
    for p in range(1, 40):
        stop = slow_stop(sure, exits.fit_thresholds(sure, exits.shares(p / 20, 3)))
        found.append((val.correct[stop, np.arange(40)].mean(), costs[stop].mean(), p / 20))
    budgets = np.quantile([cost for _, cost, _ in found], [0.2, 0.6, 1]) + 1e-6
    best = [max((a, -c) for a, c, _ in found if c <= budget) for budget in budgets]
    assert len(set(best)) == 3
    result = infer(npz, run, "--budget", *budgets)
    at = {q: (a, -c) for a, c, q in found}  # points may tie: the same thresholds
    assert [at[p["q"]] for p in result["points"]] == best


def test_the_best_within_a_budget():
    accuracy, cost = np.array([0.5, 0.9, 0.8, 0.9, 0.95]), np.array([1.0, 4, 2, 3, 9])
    chosen = [script.best_within(b, accuracy, cost) for b in (1, 2.5, 3, 8, 9)]
    assert chosen == [0, 2, 3, 3, 4]
    with pytest.raises(ValueError, match="cheapest point takes 1 multiply-adds"):
        script.best_within(0.9, accuracy, cost)


def test_what_is_timed(npz, evaluated, capsys):
    run = evaluated()
    flags = ["--batch_sizes", 1, 256, 1, "--q", 0.5, 1]
    result = infer(npz, run, *flags)
    ways = [("all exits", None), ("last exit alone", None), ("early exit", 0.5), ("early exit", 1)]
    rows = result["latency"]
    assert [(r["batch_size"], r["way"], r["q"]) for r in rows] == [
        (size, *way) for size, way in itertools.product((1, 60), ways)
    ]  # 60 test images
    for row in rows:
        assert row["batches"] >= latency.MIN_ROUNDS
        assert 0 < row["median_ms"] <= row["p90_ms"]
        assert row["images_per_second"] > 0
    alone = multiply_adds(LastExit(make_net()), torch.zeros(1, 3, 32, 32))
    assert result["last_exit_alone"]["multiply_adds"] == alone
    assert result["hardware"]
    assert result["threads"] == torch.get_num_threads()
    script.print_report(result)
    printed = capsys.readouterr().out
    assert result["hardware"] in printed
    assert "early exit, q 0.5" in printed
    assert "0 of 120 decisions differ" in printed


def test_a_boosted_last_exit_needs_the_others(npz, evaluated):
    result = infer(npz, evaluated(method="boosted", t=0.5))
    assert {row["way"] for row in result["latency"]} == {"all exits", "early exit"}
    assert "last_exit_alone" not in result


def test_rows_take_turns_on_the_same_batches_and_warm_up_is_not_timed(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: float(next(clock)))
    calls = []
    inference = Inference(Toy(), torch.device("cpu"))
    ways = [lambda x: calls.append(("a", x)), lambda x: calls.append(("b", x))]
    found = latency.timed(inference, ways, [1, 2, 3], seconds=100)
    rounds = len(calls) // 2
    assert calls == [(way, i % 3 + 1) for i in range(rounds) for way in "ab"]
    # Here each look at the clock is a second: two a call, and one a round once MIN_ROUNDS are over.
    assert found == [[1.0] * (rounds - latency.WARM_UP)] * 2
    timed = rounds - latency.WARM_UP
    spent = 4 * timed + timed - latency.MIN_ROUNDS
    assert 100 - 5 <= spent <= 100 + 5
    found = latency.timed(inference, ways, [1], seconds=0)
    assert len(found[0]) == latency.MIN_ROUNDS


def test_whole_batches_only(monkeypatch):
    class Parts:
        def __init__(self, *sizes):
            self.sizes = sizes

        def epoch(self, _):
            return ((None, torch.zeros(n, 3, 4, 4), None) for n in self.sizes)

    def sizes(*parts):
        return [len(x) for x in latency.whole_batches(Parts(*parts))]

    assert sizes(8, 8, 3) == [8, 8]
    assert sizes(3) == [3]
    monkeypatch.setattr(latency, "HELD_BYTES", 8 * 3 * 16 * 4 + 1)
    assert sizes(8, 8, 8, 8) == [8, 8]


def test_a_published_file_runs_as_it_was_evaluated(npz, tmp_path, refused):
    torch.save(make_net().state_dict(), tmp_path / "x.pth")
    flags = ["--model_path", tmp_path / "x.pth", "--arch", "msdnet", *TINY_FLAGS]
    flags += ["--val_size", 40]
    quiet(evaluation.main, "--dataset", npz, "--save_dir", tmp_path / "out", *flags)
    result = infer(npz, tmp_path / "out", *flags)
    assert [p["differences"] for p in result["points"]] == [0]
    for other in (["--method", "boosted"], ["--mean", 0, 0, 0], ["--split_seed", 1]):
        again = ["--dataset", npz, "--save_dir", tmp_path / "out", *flags, *other, "--overwrite"]
        refused(script.main, *again, telling="is not of")


def test_a_complete_run_is_kept(npz, evaluated, refused, capsys):
    run = evaluated()
    infer(npz, run)
    flags = ["--dataset", npz, "--save_dir", run, *FAST]
    refused(script.main, *flags, telling="a finished run is here")
    script.main([str(x) for x in [*flags, "--resume"]])
    assert "complete" in capsys.readouterr().out


BAD = {
    "too few thresholds": (["--thresholds", 0.5], "--thresholds: 1 for 3 exits: give 2"),
    "a threshold that is none": (["--thresholds", "nan", 0.5], "--thresholds"),
    "a negative threshold": (["--thresholds=-1", 0.5], "--thresholds"),
    "q of nothing": (["--q", 0], "--q"),
    "q beyond the points": (["--q", 2], "at most 1.95"),
    "both": (["--q", 1, "--budget", 3e7], "not allowed with"),
    "no budget": (["--budget", 10], "--budget 10: the cheapest point takes"),
    "no batch": (["--batch_sizes", 0], "--batch_sizes"),
    "no time": (["--seconds", "inf"], "--seconds"),
    "a network without a file": (["--arch", "msdnet", "--base", 2], "--base: goes with"),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_flags(case, npz, evaluations, refused):
    run = evaluations()
    flags, telling = BAD[case]
    refused(script.main, "--dataset", npz, "--save_dir", run, *flags, telling=telling)
    assert not (run / "tiny-infer.json").exists()


def test_nothing_to_run(npz, trained_run, refused):
    run = trained_run()
    flags = ["--dataset", npz, "--save_dir", run]
    refused(script.main, *flags, telling="tiny-eval.json: not there; python -m early_exit.eval")
    assert [p.name for p in run.iterdir()] == ["tiny-msdnet.pth"]


def test_predictions_of_another_checkpoint(npz, evaluated, refused):
    run = evaluated()
    torch.save(checkpoint_of(npz, seed=1), run / "tiny-msdnet.pth")
    flags = ["--dataset", npz, "--save_dir", run]
    refused(script.main, *flags, telling="made from another tiny-msdnet.pth")
    assert not (run / "tiny-infer.json").exists()
    quiet(evaluation.main, *flags, "--overwrite")
    assert infer(npz, run)["points"][0]["differences"] == 0
