"""Every figure from the command line: what it writes, and what it says when it cannot."""

import importlib

import numpy as np
import pytest

DRAWN = ["risk", "reject_rate", "loss_curves", "bounded_rate", "examples"]
TABLES = ["stage_table", "summary_table"]


def run(name, *argv):
    importlib.import_module(f"figures.{name}").main([str(arg) for arg in argv])


@pytest.mark.parametrize("name", DRAWN)
def test_writes_pdf_and_png(run_dir, capsys, name):
    run(name, run_dir)
    pdf, png = (run_dir / "figures" / f"cifar10-{name}.{kind}" for kind in ("pdf", "png"))
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.split() == [str(pdf), str(png)]


@pytest.mark.parametrize("name", ["risk", "bounded_rate"])
def test_equal_input_gives_equal_bytes(run_dir, tmp_path, name):
    for out in ("a", "b"):
        run(name, run_dir, "--out", tmp_path / out)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert b"CreationDate" not in path.read_bytes()


@pytest.mark.parametrize("name", DRAWN + TABLES)
def test_no_predictions_is_one_line_and_status_2(tmp_path, capsys, name):
    with pytest.raises(SystemExit) as e:
        run(name, tmp_path)
    assert e.value.code == 2
    assert capsys.readouterr().err == (
        f"error: no predictions in {tmp_path}; run eval_all.py first\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_bad_file_ends_before_anything_is_written(run_dir, capsys):
    (run_dir / "zzz-predictions.npz").write_bytes(b"")
    with pytest.raises(SystemExit) as e:
        run("risk", run_dir)
    assert e.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert "zzz-predictions.npz" in err
    assert err.count("\n") == 1
    assert not (run_dir / "figures").exists()


def test_no_val_rows_are_an_error(tmp_path, write, capsys):
    write(tmp_path / "cifar10-predictions.npz", n=(0, 50), pictures=0)
    with pytest.raises(SystemExit) as e:
        run("risk", tmp_path)
    assert e.value.code == 2
    assert "has no val rows" in capsys.readouterr().err


def test_a_setting_that_is_not_there(run_dir, capsys):
    with pytest.raises(SystemExit) as e:
        run("bounded_rate", run_dir, "--cost_1", 9)
    assert e.value.code == 2
    assert "1.25:0.4" in capsys.readouterr().err
    assert not (run_dir / "figures").exists()


@pytest.mark.parametrize("name", DRAWN + TABLES)
def test_an_edge_only_run_is_no_error(tmp_path, write, capsys, name):
    write(tmp_path / "cifar10-predictions.npz", cost_1=(), async_costs=())
    run(name, tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("cifar10: not drawn: ")
    assert out.count("\n") == 1


def test_what_a_run_lacks_is_said(tmp_path, write, capsys):
    write(tmp_path / "cifar10-predictions.npz", async_costs=(), pictures=0)
    run("loss_curves", tmp_path)
    assert "more than one --async_freq" in capsys.readouterr().out
    run("examples", tmp_path)
    assert "no example pictures" in capsys.readouterr().out


def test_several_data_sets_get_their_own_files(tmp_path, write):
    for file in ("a/cifar10", "b/cifar10", "b/digits"):
        write(tmp_path / f"{file}-predictions.npz", cost_1=(1.0,), steps=10)
    run("risk", tmp_path, "--out", tmp_path / "out")
    pngs = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert pngs == ["a-cifar10-risk.png", "b-cifar10-risk.png", "digits-risk.png"]


@pytest.mark.parametrize("name", DRAWN + TABLES)
@pytest.mark.filterwarnings("error")
def test_a_single_setting_of_another_shape(tmp_path, write, name):
    """One cost pair, joint training, grey pictures, an S of no fixed colour, two surrogates."""
    path = tmp_path / "x-predictions.npz"
    surrogates = ("stage_switching", "cost_sensitive")
    write(path, cost_1=(2.0,), cost_e=(0.05,), sweep_s="joint", async_costs=((2.0, 0.05),),
          async_freq=(50,), surrogates=surrogates, channels=1, pictures=3)  # fmt: skip
    run(name, tmp_path)
    files = list((tmp_path / "figures").iterdir())
    assert len(files) >= 2
    assert all(path.stat().st_size for path in files)


def test_loss_blocks_are_means():
    from figures.loss_curves import blocks

    rng = np.random.default_rng(0)
    step, values = rng.permutation(25), rng.normal(size=(25, 2))
    mean_step, mean, width = blocks(step, values, 10)
    assert width == 3
    in_order = values[np.argsort(step)]
    np.testing.assert_allclose(mean[0], in_order[:3].mean(0))
    np.testing.assert_allclose(mean[-1], in_order[24])
    assert (mean_step[0], mean_step[-1], len(mean)) == (1, 24, 9)
