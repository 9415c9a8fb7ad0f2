"""What a file of answers is as stages: costs, doubts, what must be said; and files of exits."""

import numpy as np
import pytest

from deferral.cascade import as_predictions
from deferral.external import load
from deferral.predictions import load as load_native
from deferral.report import __main__ as report
from tests.deferral.answers_files import reported, table, write
from tests.deferral.test_report_exits import write as write_exits

pytestmark = pytest.mark.usefixtures("quick", "no_page")


@pytest.mark.parametrize("models", [2, 3])
def test_a_cascade_pays_for_all_it_asked_and_a_router_for_one(models, tmp_path):
    columns = table(50, models=models, costs=True)
    answers = load(write(tmp_path / "a.csv", columns))
    costs = np.stack([columns[f"cost_{model.name}"] for model in answers.models])
    for pay, expected in (("cascade", np.cumsum(costs, axis=0)), ("router", costs)):
        np.testing.assert_allclose(as_predictions(answers, pay).own.paid, expected)


def test_the_last_models_score_is_for_routers_alone(tmp_path):
    answers = load(write(tmp_path / "a.csv", table(50, scores=True)))
    cascade, router = (as_predictions(answers, pay) for pay in ("cascade", "router"))
    assert set(cascade.own.doubts) == {"score"}
    assert set(router.own.doubts) == {"score", "score of large", "score_gap"}
    large = next(model for model in answers.models if model.name == "large")
    np.testing.assert_array_equal(router.own.doubts["score of large"][0], large.score)
    assert "score of large" in dict(cascade.settings["understood"])
    assert "score of large" not in dict(router.settings["understood"])


def test_models_are_in_the_order_of_their_columns(tmp_path):
    """Whatever kind of column each has: class scores, an answer, correctness."""
    columns = table(60, models=3)
    assert [m.name for m in load(write(tmp_path / "a.csv", columns)).models] == [
        "small", "middle", "large",
    ]  # fmt: skip
    turned = {name: columns[name] for name in reversed(columns)}
    assert load(write(tmp_path / "a.csv", turned)).models[0].name == "large"


def test_columns_of_a_model_that_are_no_class_scores_are_named_and_left_out(tmp_path):
    columns = table(60)
    plain = load(write(tmp_path / "a.csv", columns))
    for extra in ("small_seconds", "large_tokens"):
        found = load(write(tmp_path / "a.csv", columns | {extra: np.arange(60.0)}))
        assert extra in dict(found.understood)["not used"]
        for one, other in zip(plain.models, found.models, strict=True):
            np.testing.assert_array_equal(one.quality, other.quality)


def test_exits_without_a_server_are_models_that_cost_multiply_adds(tmp_path):
    arrays = dict(np.load(write_exits(tmp_path, estimators=[])))
    bare = tmp_path / "exits-predictions.npz"
    del arrays["estimates"]
    np.savez(bare, **arrays | {"stage_logits": arrays["stage_logits"][:3]})
    found, policy = reported(bare)
    choice, test = found["choice"], load_native(bare).part("test")
    assert choice["models"] == ["exit 1", "exit 2", "exit 3"]
    assert choice["unit"] == "multiply-adds"
    alone = [row for row in choice["rules"] if not row["thresholds"]]
    assert [row["cost"] for row in alone] == [20, 50, 100]
    np.testing.assert_allclose([row["quality"] for row in alone], test.correct.mean(1), atol=1e-6)
    chosen = next(row for row in choice["rules"] if row["name"] == choice["chosen"])
    spent = np.dot(chosen["shares"], [20, 50, 100])
    assert chosen["cost"] == pytest.approx(spent)
    assert policy["models"] == choice["models"]
    cheap, _ = reported(bare, "--budget", 40)
    assert cheap["choice"]["wanted"] == "budget"


def test_two_remotes_are_no_two_seeds(tmp_path, refused):
    columns = table(100)
    one = write(tmp_path / "a.csv", columns)
    other = write(tmp_path / "b.csv", columns | {"answer_large": columns["label"]})
    refused(report.main, one, other, "--draws", 9, telling="two remotes are not two seeds")


@pytest.mark.parametrize(
    ("n", "argv", "telling"),
    [
        (2, [], "row; thresholds are fitted on val and measured on test, which need 2 rows each"),
        (100, ["--error_cost", 5], "a.csv has no columns cost_NAME; use --cost_e"),
        (100, ["--models", "small", "big"], "a.csv: has no model big; there are small, large"),
        (100, ["--split_seed", 1], "says itself which rows are val"),
    ],
)
def test_bad_files_and_flags_in_one_line(n, argv, telling, tmp_path, refused):
    file = write(tmp_path / "a.csv", table(n))
    refused(report.main, file, "--draws", 9, *argv, telling=telling)
    assert sorted(tmp_path.iterdir()) == [file]
