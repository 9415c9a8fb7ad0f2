"""Every figure from the command line: what it writes, and what it says when it cannot."""

import importlib

import numpy as np
import pytest

import figures.__main__
from figures.loss_curves import blocks
from figures.tables import Column, spread, write_table

NAMES = ["risk", "reject_rate", "loss_curves", "bounded_rate", "examples", "per_class"]
KINDS = {
    name: ("pdf", "png") if name != "per_class" else ("pdf", "png", "md", "tex", "csv")
    for name in NAMES
}
KINDS |= dict.fromkeys(("summary_table", "stage_table", "stage_table_async"), ("md", "tex", "csv"))


def run(name, *argv):
    importlib.import_module(f"figures.{name}").main([str(arg) for arg in argv])


def test_all_figures_are_written_and_named(run_dir, capsys):
    run("__main__", run_dir)
    files = {f"cifar10-{name}.{kind}" for name, kinds in KINDS.items() for kind in kinds}
    assert {path.name for path in (run_dir / "figures").iterdir()} == files
    for path in (run_dir / "figures").iterdir():
        magic = {".pdf": b"%PDF", ".png": b"\x89PNG"}.get(path.suffix, b"")
        assert path.read_bytes().startswith(magic)
    printed = capsys.readouterr().out
    assert {str(run_dir / "figures" / name) for name in files} <= set(printed.split())
    assert "does not say what its refreshes sent" in printed


def test_equal_input_gives_equal_bytes(run_dir, tmp_path):
    for out in ("a", "b"):
        run("bounded_rate", run_dir, "--out", tmp_path / out)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert b"CreationDate" not in path.read_bytes()


def test_bad_input_is_one_line_before_anything_is_written(tmp_path, write, run_dir, refused):
    risk = importlib.import_module("figures.risk").main
    refused(risk, tmp_path / "none", telling="no predictions in")
    bounded = importlib.import_module("figures.bounded_rate").main
    refused(bounded, run_dir, "--cost_1", 9, telling="1.25:0.4")
    (run_dir / "zzz-predictions.npz").write_bytes(b"")
    refused(risk, run_dir, telling="zzz-predictions.npz")
    write(tmp_path / "no_val" / "cifar10-predictions.npz", n=(0, 50), pictures=0)
    refused(risk, tmp_path / "no_val", telling="has no val rows")
    assert not list(tmp_path.rglob("figures"))


@pytest.mark.parametrize("name", ["bounded_rate", "examples", "per_class"])
def test_costs_are_looked_up_in_all_data_sets_before_the_first_is_drawn(
    name, tmp_path, write, refused
):
    for dataset, cost_1 in (("cifar10", 1.25), ("digits", 2.0)):
        write(tmp_path / f"{dataset}-predictions.npz", cost_1=(cost_1,), async_costs=())
    main = importlib.import_module(f"figures.{name}").main
    refused(main, tmp_path, "--cost_1", 1.25, telling="digits-predictions.npz: no such setting; ")
    assert not (tmp_path / "figures").exists()


def test_an_edge_only_run_is_no_error(tmp_path, write, capsys):
    write(tmp_path / "cifar10-predictions.npz", cost_1=(), async_costs=())
    run("__main__", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(figures.__main__.DRAW)
    assert all(line.startswith("cifar10: not drawn: ") for line in lines)


def test_missing_parts_of_a_run_are_named(tmp_path, write, capsys):
    write(tmp_path / "cifar10-predictions.npz", async_costs=(), pictures=0)
    run("loss_curves", tmp_path)
    assert "more than one --async_freq" in capsys.readouterr().out
    run("examples", tmp_path)
    assert "no example pictures" in capsys.readouterr().out


def test_several_data_sets_get_their_own_files(tmp_path, write, finished, capsys):
    for file in ("a/cifar10", "b/cifar10", "b/digits"):
        write(tmp_path / f"{file}-predictions.npz", cost_1=(1.0,), steps=10)
    run("summary_table", tmp_path, "--out", tmp_path / "out")
    tables = sorted(path.name for path in (tmp_path / "out").glob("*-summary_table.md"))
    assert tables == [f"{x}-summary_table.md" for x in ("a-cifar10", "b-cifar10", "digits")]


@pytest.mark.filterwarnings("error")
def test_a_single_setting_of_another_shape(tmp_path, write, finished):
    """One cost pair, joint training, grey pictures, an S of no fixed colour, two surrogates."""
    path = tmp_path / "x-predictions.npz"
    surrogates = ("stage_switching", "cost_sensitive")
    write(path, cost_1=(2.0,), cost_e=(0.05,), sweep_s="joint", async_costs=((2.0, 0.05),),
          async_freq=(50,), surrogates=surrogates, channels=1, pictures=3)  # fmt: skip
    run("__main__", tmp_path)
    assert len(finished) == len(NAMES) - 1  # `examples` has a head and no legend
    files = list((tmp_path / "figures").iterdir())
    assert len(files) == 4 * 3
    assert all(path.stat().st_size for path in files)


def test_loss_blocks_are_means():
    rng = np.random.default_rng(0)
    step, values = rng.permutation(25), rng.normal(size=(25, 2))
    mean_step, mean, width = blocks(step, values, 10)
    assert width == 3
    in_order = values[np.argsort(step)]
    np.testing.assert_allclose(mean[0], in_order[:3].mean(0))
    np.testing.assert_allclose(mean[-1], in_order[24])
    assert (mean_step[0], mean_step[-1], len(mean)) == (1, 24, 9)


def test_latex_has_no_sign_that_it_reads_otherwise(tmp_path):
    write_table([{"p": "< 0.001 > a^b ~c_1"}], [Column("p", "p")], tmp_path, "x", "caption")
    cell = r"$<$ 0.001 $>$ a\textasciicircum{}b \textasciitilde{}c\_1 \\"
    assert cell in (tmp_path / "x.tex").read_text().splitlines()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5], "50.0"),
        ([0.4, 0.6], "50.0 ± 14.1"),
        ([-1e-9, 1e-9], "0.0 ± 0.0"),
        ([-0.5], "−50.0"),
        ([0.5, None], "–"),
        ([0.5, np.nan], "–"),
    ],
)
def test_a_spread_is_mean_and_deviation_or_a_dash(values, text):
    assert spread(values, 1, 100) == text
