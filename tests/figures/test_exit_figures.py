"""Figures and tables of early-exit runs: their numbers against the results that were evaluated."""

import csv
import json

import numpy as np
import pytest
from matplotlib import pyplot as plt

from deferral import budgets, exits
from deferral.predictions import Predictions
from figures import early_exit, published_exits, style

COSTS = (3_000_000, 7_000_000, 8_000_000, 20_000_000)
BLOCKS_10 = (14967296, 25259008, 37467648, 51667968, 61744640, 73590784, 87206400, 99483648,
             109548032, 121086976)  # fmt: skip
LIN_GROW = (6792704, 14209024, 27041280, 46184448, 66947584, 88562688)


def evaluated(seed, costs, optimistic, n=(60, 80)):
    """What early_exit.eval would find of a network whose exits get better, as they do."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, sum(n))
    logits = rng.normal(size=(len(costs), sum(n), 5)).astype(np.float32)
    logits += np.linspace(0.5, 2, len(costs))[:, None, None] * (np.arange(5) == labels[:, None])
    predictions = Predictions(
        labels=labels,
        stage_logits=logits,
        split=np.repeat([0, 1], n),
        index=np.arange(sum(n)),
        scores=np.zeros((0, sum(n))),
        settings={},
    )
    result = budgets.evaluate(predictions, costs)
    if optimistic:
        parts = {name: predictions.part(name) for name in ("val", "test")}
        sure = {name: exits.confidence(part.stage_logits) for name, part in parts.items()}
        right = {name: part.correct for name, part in parts.items()}
        sure["train"], right["train"] = sure["val"] / 2, right["val"] | right["val"][::-1]
        result["optimism"] = budgets.optimism(sure, right, costs)
    return result


@pytest.fixture
def run_of(tmp_path):
    """Write a result; returns it. `change` may spoil it."""

    def write(method="base", seed=1, costs=COSTS, dataset="cifar10", arch="msdnet", epochs=300,
              optimistic=False, where=None, change=lambda result: None):  # fmt: skip
        result = {"dataset": dataset, "arch": arch, "method": method, "seed": seed}
        result |= {"epochs": epochs} | evaluated(seed or 0, costs, optimistic)
        result["release_multiply_adds"] = [cost + 100_000 * (k + 1) for k, cost in enumerate(costs)]
        change(result)
        path = tmp_path / "runs" / (where or f"{arch}-{len(costs)}-{method}-{seed}")
        path.mkdir(parents=True)
        (path / f"{dataset}-eval.json").write_text(json.dumps(result))
        return result

    return write


@pytest.fixture
def drawn(monkeypatch):
    """The axes and title of every figure by its kind; the figures are not written."""
    figures = {"anytime": [], "budgeted": []}

    def finish(fig, title, _):
        kind = "budgeted" if "budgeted" in title else "anytime"
        figures[kind].append((fig.axes[0], title))

    monkeypatch.setattr(style, "finish", finish)
    monkeypatch.setattr(style, "save", lambda fig, *_: plt.close(fig) or [])
    return figures


def call(tmp_path, *argv):
    early_exit.main([str(tmp_path / "runs"), *map(str, argv)])
    return tmp_path / "runs" / "figures"


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


def cell(values):
    mean, std = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    return f"{mean:.2f} ± {std:.2f}"


@pytest.mark.filterwarnings("error")
def test_anytime_is_mean_and_deviation_of_every_exit(run_of, drawn, tmp_path):
    base = [run_of("base", seed) for seed in (1, 2, 3)]
    l2w = run_of("l2w", 4)
    out = call(tmp_path)
    ((ax, title),) = drawn["anytime"]
    assert "cifar10: MSDNet, 4 exits, 20.0 million multiply-adds, 300 epochs" in title
    assert ax.get_xlabel() == "multiply-adds ($10^6$)"
    lines, rows = lines_of(ax), rows_of(out / "cifar10-msdnet-anytime.csv")
    assert list(lines) == ["base (n = 3)", "L2W (n = 1)"]
    accuracies = np.array([[row["accuracy"] for row in run["anytime"]] for run in base])
    line = lines["base (n = 3)"]
    np.testing.assert_allclose(line.get_xdata(), [3, 7, 8, 20])
    np.testing.assert_allclose(line.get_ydata(), 100 * accuracies.mean(0))
    (band,) = ax.collections  # none around the single run
    std = accuracies.std(0, ddof=1)
    corners = band.get_paths()[0].vertices
    for cost, mean, deviation in zip([3, 7, 8, 20], accuracies.mean(0), std, strict=True):
        ends = corners[np.isclose(corners[:, 0], cost), 1]
        assert ends.min() == pytest.approx(100 * (mean - deviation))
        assert ends.max() == pytest.approx(100 * (mean + deviation))
    for k, row in enumerate(rows):
        assert (row["exit"], row["multiply_adds"]) == (str(k + 1), str(COSTS[k]))
        assert row["base"] == cell(accuracies[:, k])
        assert row["l2w"] == f"{100 * l2w['anytime'][k]['accuracy']:.2f}"
    assert "published" not in " ".join(rows[0])


@pytest.mark.filterwarnings("error")
def test_budgeted_is_the_mean_at_equal_cost(run_of, drawn, tmp_path):
    runs = [run_of("boosted", seed) for seed in (1, 2)]
    single = run_of("base", 3, change=lambda result: result["at_share"].update({"0.3": None}))
    out = call(tmp_path)
    ((ax, _),) = drawn["budgeted"]
    lines = lines_of(ax)
    assert list(lines) == ["base (n = 1)", "boosted (n = 2)"]

    def curve(run):
        rows = [run["anytime"][0], *run["budgeted"], run["anytime"][-1]]
        points = {}
        for row in rows:
            points.setdefault(row["multiply_adds"], []).append(row["accuracy"])
        return sorted((cost, np.mean(accuracies)) for cost, accuracies in points.items())

    np.testing.assert_allclose(
        np.array(lines["base (n = 1)"].get_data()).T, np.array(curve(single)) * [1e-6, 100]
    )
    x, y = lines["boosted (n = 2)"].get_data()
    assert set(np.round(x * 1e6)) == {round(cost) for run in runs for cost, _ in curve(run)}
    grid = np.linspace(3, 20, 50)
    mean = np.mean([np.interp(grid * 1e6, *np.array(curve(run)).T) for run in runs], axis=0)
    np.testing.assert_allclose(np.interp(grid, x, y), 100 * mean)

    base, boosted = rows_of(out / "cifar10-msdnet-budgeted.csv")
    assert (base["method"], base["n"], base["at_0.3"]) == ("base", "1", "–")
    assert base["area"] == f"{100 * single['area']:.2f}"
    for share in ("0.3", "0.5", "0.7"):
        assert boosted[f"at_{share}"] == cell([run["at_share"][share] for run in runs])
    assert boosted["area"] == cell([run["area"] for run in runs])
    assert boosted["last_exit"] == cell([run["anytime"][-1]["accuracy"] for run in runs])


def test_published_points_beside_the_network_they_are_of(run_of, drawn, tmp_path):
    run_of("base", 1, costs=BLOCKS_10, dataset="cifar100")
    run_of("base", 1, costs=BLOCKS_10, dataset="cifar100", arch="ranet")
    out = call(tmp_path)
    by = {title.split(",")[0]: lines_of(ax) for ax, title in drawn["anytime"]}
    assert list(by["cifar100: RANet"]) == ["base (n = 1)"]
    lines = by["cifar100: MSDNet"]
    published = [f"{name}, published (Yu et al. 2023)" for name in ("base", "boosted")]
    assert list(lines) == ["base (n = 1)", *published]
    x, y = lines[published[1]].get_data()
    np.testing.assert_allclose(x, [14.967296, 37.467648, 61.74464, 87.2064, 121.086976])
    np.testing.assert_allclose(y, [65.3, 72.3, 75.2, 75.9, 76.3])
    rows = rows_of(out / "cifar100-msdnet-anytime.csv")
    assert [row["published_base"] for row in rows] == [
        "64.6",
        "–",
        "69.4",
        "–",
        "72.8",
        "–",
        "74.7",
        "–",
        "–",
        "76",
    ]
    assert "published_base" not in rows_of(out / "cifar100-ranet-anytime.csv")[0]


def test_published_points_forced_on_another_network_say_so(run_of, drawn, tmp_path):
    run_of("l2w", 1)
    call(tmp_path)
    call(tmp_path, "--published")
    not_by_default, forced = (lines_of(ax) for ax, _ in drawn["budgeted"])
    assert list(not_by_default) == ["L2W (n = 1)"]
    other = "published (Han et al. 2022),\nof another network"
    assert list(forced) == ["L2W (n = 1)", f"L2W, {other}", f"base, {other}"]
    np.testing.assert_allclose(forced[f"base, {other}"].get_xdata(), [10, 15, 20, 30, 50])


@pytest.mark.filterwarnings("error")
def test_budgets_are_in_the_unit_of_the_points_beside_them(run_of, drawn, tmp_path, capsys):
    """Ours alone as we count; with published points both as the releases do; else no points."""
    run = run_of("l2w", 1)
    call(tmp_path)
    call(tmp_path, "--published")
    assert "no published points" not in capsys.readouterr().out
    run_of("base", 1, change=lambda result: result.pop("release_multiply_adds"))
    call(tmp_path, "--published")
    assert "no published points" in capsys.readouterr().out
    (alone, _), (beside, _), (without, _) = drawn["budgeted"]
    for ax, key in ((alone, "multiply_adds"), (beside, "release_multiply_adds")):
        shares = np.array([[1, 0, 0, 0], *(r["shares"] for r in run["budgeted"]), [0, 0, 0, 1]])
        cost = lines_of(ax)["L2W (n = 1)"].get_xdata()
        np.testing.assert_allclose(cost, np.unique(shares @ run[key]) / 1e6)
    assert not any("published" in name for name in lines_of(without))


def test_budgets_must_lie_between_the_exits(run_of, drawn, tmp_path):
    run_of("l2w", 1, costs=LIN_GROW)
    run_of("l2w", 1, costs=BLOCKS_10)
    call(tmp_path)
    by = {title.split(", ")[1]: list(lines_of(ax)) for ax, title in drawn["budgeted"]}
    assert by["10 exits"] == ["L2W (n = 1)"]
    published = [f"{name}, published (Han et al. 2022)" for name in ("L2W", "base")]
    assert by["6 exits"] == ["L2W (n = 1)", *published]


def test_which_networks_published_points_are_of():
    assert len({(p.kind, p.dataset, p.arch, p.method) for p in published_exits.PUBLISHED}) == 9
    for points in published_exits.PUBLISHED:
        assert len(points.costs) == len(points.accuracies)
        assert list(points.costs) == sorted(points.costs)
        assert all(50 < accuracy < 100 for accuracy in points.accuracies)
        if points.exits:
            costs = np.interp(range(1, points.exits[-1] + 1), points.exits, points.costs)
            assert points.is_of(costs)
            assert points.is_of(1.049 * costs)
            assert not points.is_of(1.051 * costs)
            assert not points.is_of([*costs, 2 * costs[-1]])
        else:
            assert points.is_of(LIN_GROW)
            assert not points.is_of(BLOCKS_10)
            assert not points.is_of([cost / 2 for cost in LIN_GROW])


@pytest.mark.filterwarnings("error")
def test_optimism_is_the_mean_over_budgets(run_of, drawn, tmp_path):
    runs = [run_of("base", seed, optimistic=True) for seed in (1, 2)]
    run_of("l2w", 3)
    out = call(tmp_path)
    rows = rows_of(out / "cifar10-msdnet-optimism.csv")
    assert [(row["method"], row["n"], row["fitted_on"]) for row in rows] == [
        ("base", "2", split) for split in ("train", "val", "test")
    ]
    for row in rows:
        measured = {key: [] for key in ("accuracy", "promised_cost", "beyond", "above", "furthest")}
        for run in runs:
            rows_of_split = [r for r in run["optimism"] if r["fitted_on"] == row["fitted_on"]]
            assert len(rows_of_split) == 39
            spent = sum(r["multiply_adds"] for r in rows_of_split)
            promised = sum(r["promised_multiply_adds"] for r in rows_of_split)
            measured["accuracy"].append(sum(r["accuracy"] for r in rows_of_split) / 39)
            measured["promised_cost"].append(promised / 39 / COSTS[-1])
            measured["beyond"].append(spent / promised - 1)
            measured["above"].append(sum(r["above_clean_curve"] for r in rows_of_split) / 39)
            measured["furthest"].append(max(abs(r["above_clean_curve"]) for r in rows_of_split))
        for key, values in measured.items():
            assert row[key].replace("−", "-") == cell(values).replace("-0.00", "0.00"), key
    train, val, test = rows
    assert train["promised_accuracy"] != train["accuracy"]
    assert (test["promised_accuracy"], test["beyond"]) == (test["accuracy"], "0.00 ± 0.00")
    assert val["above"] == "0.00 ± 0.00"


@pytest.mark.filterwarnings("error")
def test_early_exit_draws_all_of_every_network(run_of, tmp_path, capsys):
    run_of("base", 1, optimistic=True)
    run_of("own", None, costs=(5_000_000,), dataset="digits", arch="vit", epochs=None)
    out = call(tmp_path)
    kinds = [f".{kind}" for kind in ("pdf", "png", "md", "tex", "csv")]
    expected = [
        name + kind
        for network in ("cifar10-msdnet", "digits-vit")
        for name in (f"{network}-anytime", f"{network}-budgeted")
        for kind in kinds
    ]
    expected += [f"cifar10-msdnet-optimism{kind}" for kind in kinds[2:]]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)
    lines = capsys.readouterr().out.splitlines()
    assert {line for line in lines if line.startswith(str(out))} == {str(out / e) for e in expected}
    assert sum(line.startswith("digits-vit: not drawn: ") for line in lines) == 1
    for name in expected:
        magic = {"pdf": b"%PDF", "png": b"\x89PNG"}.get(name[-3:], b"")
        assert (out / name).read_bytes().startswith(magic)


def test_networks_of_one_architecture_get_files_of_their_own(run_of, drawn, tmp_path):
    run_of("base", 1, where="a")
    run_of("base", 1, where="b", costs=[2 * cost for cost in COSTS])
    run_of("base", 1, where="c", costs=COSTS[:3])
    run_of("base", 1, where="d", arch="vit")
    out = call(tmp_path)
    names = ["msdnet-4exits-20000000", "msdnet-4exits-40000000", "msdnet-3exits", "vit"]
    assert {path.name for path in out.glob("*budgeted.md")} == {
        f"cifar10-{n}-budgeted.md" for n in names
    }


def test_big_networks_count_in_another_unit(run_of, drawn, tmp_path):
    run_of(costs=(500_000_000, 3_000_000_000))
    call(tmp_path)
    ((ax, _),) = drawn["anytime"]
    assert ax.get_xlabel() == "multiply-adds ($10^8$)"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [5, 30])


def test_a_run_found_twice_is_one_run(run_of, drawn, tmp_path):
    run_of("base", 1)
    run_of("base", 2)
    runs = tmp_path / "runs"
    one = runs / "msdnet-4-base-1"
    early_exit.main([str(runs), str(one), str(one / ".." / one.name)])
    (row,) = rows_of(runs / "figures" / "cifar10-msdnet-budgeted.csv")  # the folder of them all
    assert row["n"] == "2"


def without(key):
    return lambda result: result.pop(key)


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        *((without(key), f"lacks '{key}'") for key in ("method", "anytime", "area", "at_share")),
        (lambda result: result["multiply_adds"].pop(), "4 accuracies, but 3 multiply_adds"),
        (lambda result: result.update(multiply_adds=["1", 2, 3, 4]), "whole numbers"),
        (lambda result: result["budgeted"][3].update(accuracy=71.5), "outside 0..1"),
        (lambda result: result["budgeted"][3].update(accuracy="high"), "is no result"),
        (lambda result: result.update(anytime=7), "is no result"),
        (lambda result: result.update(optimism=[{"fitted_on": "val"}]), "lacks"),
    ],
)
def test_a_file_that_is_no_result_is_named(run_of, tmp_path, refused, change, telling):
    run_of("base", 1)
    run_of("base", 2, change=change, where="zzz")
    message = refused(early_exit.main, tmp_path / "runs", telling=telling)
    assert "zzz/cifar10-eval.json" in message
    assert not (tmp_path / "runs" / "figures").exists()


def test_runs_that_are_not_of_one_setting_are_refused(run_of, tmp_path, refused):
    runs = tmp_path / "runs"
    run_of("base", 1)
    run_of("base", 1, where="again")
    refused(early_exit.main, runs, telling="both base with seed 1")
    (runs / "again" / "cifar10-eval.json").write_text("{")
    refused(early_exit.main, runs, telling="is no result of early_exit.eval")
    (runs / "again" / "cifar10-eval.json").unlink()
    run_of("base", 2, epochs=3)
    refused(early_exit.main, runs, telling="base runs of 3, 300 epochs")


def test_no_result_is_one_line(run_of, tmp_path, refused):
    run_of()
    refused(
        early_exit.main, tmp_path / "runs", tmp_path / "none",
        telling=f"no *-eval.json in {tmp_path / 'none'}; run python -m early_exit.eval first",
    )  # fmt: skip
    assert not (tmp_path / "runs" / "figures").exists()
