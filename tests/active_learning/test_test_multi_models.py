"""What the targets of a round do on test, against counts by hand; the cascade; what is refused."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from active_learning import test_multi_models as evaluation
from active_learning.results import load
from active_learning.strategies import METHODS
from deferral import predictions as saved
from deferral.report import __main__ as report
from tests.active_learning.conftest import COSTS
from tests.made import quiet


def folder(study, method="random", round_=0):
    return study / "extracted_results" / "2" / "digits" / method / str(round_)


def nets(study, result):
    """deferral.predictions of each net of a result."""
    rows = [*result["targets"], *result["unseen"]]
    digest = result["asked"]["labels"]
    paths = [study / "nets" / "digits" / row["name"] / digest / "predictions.npz" for row in rows]
    return rows, [saved.load(path).part("test") for path in paths]


def test_top_k_against_a_sort():
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(0, 4, (200, 7)).astype(np.float32), rng.integers(0, 7, 200)
    for k in (1, 2, 5, 7):
        best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        expected = np.mean([label in row for label, row in zip(labels, best, strict=True)])
        assert evaluation.top(logits, labels, k) == expected


@pytest.mark.parametrize(("method", "round_"), [("random", 0), ("entropy", 0), ("DIAM", 1)])
def test_accuracies_are_counts_of_the_saved_predictions(study, method, round_):
    path = folder(study, method, round_)
    result = json.loads((path / "performances.json").read_text())
    assert [row["net_id"] for row in result["targets"]] == [0, 1]
    assert [row["net_id"] for row in result["unseen"]] == [2]
    assert result["labelled"] == 60 + 20 * round_
    rows, tests = nets(study, result)
    text = [line.split() for line in (path / "performances.txt").read_text().splitlines()]
    assert len(text) == 2
    answers = np.load(path / "answers.npz")
    for i, (row, test) in enumerate(zip(rows, tests, strict=True)):
        order = np.argsort(-test.stage_logits[0], axis=1, kind="stable")
        right = order == test.labels[:, None]
        top1, top5 = right[:, 0].sum() / 600, right[:, :5].sum() / 600
        assert (row["top1"], row["top5"]) == (top1, top5)
        if i < 2:
            assert text[i] == [f"{100 * top1:.4f}", f"{100 * top5:.4f}"]
        assert (answers["predicted"][i] == order[:, 0]).all()
    assert (answers["labels"] == tests[0].labels).all()


def test_round_0_is_the_same_for_every_method(study):
    texts = {p.read_text() for p in folder(study).parent.parent.glob("*/0/performances.txt")}
    assert len(texts) == 1
    assert len(list(folder(study).parent.parent.glob("*/0"))) == len(METHODS)


def test_the_cascade_by_hand(study):
    """LeNet-5 keeps what it is surer of than a threshold from val, the convnet answers the rest."""
    result = json.loads((folder(study, "DIAM", 1) / "performances.json").read_text())
    cascade = result["cascade"]
    assert (cascade["local"], cascade["edge"]) == (0, 1)
    path = folder(study, "DIAM", 1) / "cascade-predictions.npz"
    parts = {name: saved.load(path).part(name) for name in ("val", "test")}
    softmax = {}
    for name, part in parts.items():
        e = np.exp(part.stage_logits[0].astype(float))
        softmax[name] = (e / e.sum(-1, keepdims=True)).max(-1)

    def costs(name, t):
        local, edge = part_right = parts[name].correct
        sent = softmax[name] < t
        return np.where(sent, 0.1 + ~edge, 1.0 * ~local), part_right, sent

    tried = [*np.unique(softmax["val"]), 2]
    best = min(costs("val", t)[0].mean() for t in tried)
    fitting = [t for t in tried if costs("val", t)[0].mean() <= best + 1e-12]
    risks = [costs("test", t)[0].mean() for t in fitting]
    assert min(risks) - 0.01 <= cascade["risk"] <= max(risks) + 0.01
    _, (local, edge), _ = costs("test", 0)
    assert cascade["never"] == pytest.approx((~local).mean())
    assert cascade["always"] == pytest.approx(0.1 + (~edge).mean())
    assert cascade["oracle"] == pytest.approx(np.where(local, 0, 0.1 + ~edge).clip(max=1).mean())
    answers = np.load(folder(study, "DIAM", 1) / "answers.npz")
    assert answers["cost"].mean() == pytest.approx(cascade["risk"])
    assert cascade["oracle"] <= cascade["risk"]


def test_the_threshold_is_of_val_whatever_test_would_want():
    """On val the local net is right and unsure as ever, on test wrong: it must answer all."""
    split = np.repeat([0, 1], 50)

    def net(right):
        """Sure by 0 to 5, the more so the later the row."""
        logits = np.zeros((1, 100, 2), np.float32)
        logits[0, np.arange(100), np.where(right, 0, 1)] = np.tile(np.linspace(0.1, 5, 50), 2)
        zeros = np.zeros(100, dtype=int)
        made = saved.Predictions(zeros, logits, split, np.arange(100), np.zeros((0, 100)), {})
        return SimpleNamespace(predictions=lambda: made)

    risks, cost = evaluation.cascade_of(net(split == 0), net(split == 1), 1.0, 0.1)
    assert (risks["risk"], risks["reject_rate"]) == (1, 0)
    assert [risks[k] for k in ("never", "always", "oracle")] == pytest.approx([1, 0.1, 0.1])
    assert (cost == 1).all()


def test_the_reader_of_results_takes_it(study):
    (results,) = load(study)
    assert results.rounds(["random", "DIAM"]) == [0, 1]
    assert results.rounds(results.records) == [0]


def test_resume_keeps_what_was_asked_for_and_makes_the_rest(study, common, tmp_path, capsys):
    run = shutil.copytree(study, tmp_path / "run")
    flags = [str(a) for a in [*common(run, 1, "DIAM"), *COSTS, "--resume"]]
    file = folder(run, "DIAM", 1) / "performances.json"
    before = file.read_bytes()
    evaluation.main([*flags, "--unseen", "2"])
    assert capsys.readouterr().out == f"{file}: complete\n"
    assert file.read_bytes() == before
    evaluation.main(flags)
    assert json.loads(file.read_text())["unseen"] == []


@pytest.mark.parametrize(
    ("round_", "method", "flags", "telling"),
    [
        (1, "DIAM", [], "exists; --resume keeps it, --overwrite replaces it"),
        (1, "DIAM", ["--unseen", 1, "--overwrite"], "--unseen 1: is a voting target; use ids >= 2"),
        (1, "DIAM", ["--unseen", 3, "--overwrite"], "net 3: there are 3 targets"),
        (1, "CAL", [], "was not trained on these labels"),
        (2, "DIAM", [], "no labels of round 2"),
        (1, "DIAM", ["--edge_id", 0, "--overwrite"], "are both 0: a cascade needs two nets"),
        (1, "DIAM", ["--cost_e", "nan"], "must be finite"),
    ],
)
def test_bad_flags_are_refused(study, common, refused, round_, method, flags, telling):
    before = sorted(study.rglob("*"))
    refused(evaluation.main, *common(study, round_, method), *flags, telling=telling)
    assert sorted(study.rglob("*")) == before


def test_the_cascade_is_a_file_that_the_report_takes(study, tmp_path):
    path = folder(study, "DIAM", 1) / "cascade-predictions.npz"
    page = tmp_path / "page.html"
    quiet(report.main, path, "--cost_1", 1, "--cost_e", 0.1, "--draws", 50, "--out", page)
    assert "lenet5" in page.read_text()
