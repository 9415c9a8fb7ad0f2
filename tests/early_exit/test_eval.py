"""early_exit.eval: what it writes against image-by-image loops, published files, and bad input."""

import json

import numpy as np
import pytest
import torch

import data
import experiment
from deferral import exits
from deferral import predictions as saved
from early_exit import eval as script
from models.cost import exit_multiply_adds, parameters, release_multiply_adds
from tests.deferral.test_exits import thresholds_of
from tests.early_exit.toy import TINY_FLAGS, checkpoint_of, make_net, slow_logits, slow_stop
from tests.made import make_npz, quiet


def read(run):
    return json.loads((run / "tiny-eval.json").read_text()), saved.load(
        run / "tiny-predictions.npz"
    )


def inputs_of(npz, split):
    """The images of a split, normalised by the mean and std of train's pixels, and the labels."""
    dataset = data.load(str(npz), val_size=40)
    train = dataset.train.images.double() / 255
    part = getattr(dataset, split)
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3), correction=0)
    images = (part.images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    return images.float(), part.labels.numpy()


@pytest.mark.parametrize(("method", "t"), [("base", 0.0), ("boosted", 0.5)])
def test_the_result_is_that_of_a_loop_over_images(method, t, npz, trained_run, capsys):
    run = trained_run(method=method, t=t, seed=7)
    script.main(["--dataset", str(npz), "--save_dir", str(run), "--batch_size", "7"])
    printed = capsys.readouterr().out
    result, pred = read(run)
    net = make_net(seed=7)
    split = {name: inputs_of(npz, name) for name in ("val", "test")}
    logits = {k: slow_logits(net, images, t).numpy() for k, (images, _) in split.items()}
    for k, (_, labels) in split.items():
        np.testing.assert_allclose(pred.part(k).stage_logits, logits[k], rtol=1e-3, atol=1e-3)
        assert pred.part(k).labels.tolist() == labels.tolist()
    dataset = data.load(str(npz), val_size=40)
    assert pred.part("val").index.tolist() == dataset.val.index.tolist()
    assert pred.part("test").index.tolist() == dataset.test.index.tolist()

    costs = exit_multiply_adds(net, torch.zeros(1, 3, 32, 32))
    for k, row in enumerate(result["anytime"]):
        assert (row["exit"], row["multiply_adds"]) == (k + 1, costs[k])
        for name, key in (("test", "accuracy"), ("val", "val_accuracy")):
            right = logits[name][k].argmax(-1) == split[name][1]
            assert row[key] == pytest.approx(right.mean())
        line = f"{row['val_accuracy']:7.2%}  {row['accuracy']:7.2%}"
        assert f"{k + 1:6}  {costs[k]:14,}  {line}" in printed

    sure = {k: exits.confidence(pred.part(k).stage_logits) for k in split}
    for row in result["budgeted"][::6]:
        thresholds = exits.fit_thresholds(sure["val"], exits.shares(row["q"], 3))
        stop = slow_stop(sure["test"], thresholds)
        assert thresholds_of(row).tolist() == thresholds.tolist()
        right = logits["test"][stop, np.arange(60)].argmax(-1) == split["test"][1]
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["multiply_adds"] == pytest.approx(np.mean([costs[k] for k in stop]))
        assert row["shares"] == pytest.approx([(stop == k).mean() for k in range(3)])
    assert len(result["budgeted"]) == 39
    assert (result["arch"], result["method"], result["seed"]) == ("msdnet", method, 7)
    assert (result["ensemble_reweight"], result["epochs"], result["dataset"]) == (t, 3, "tiny")
    assert result["multiply_adds"] == pred.settings["multiply_adds"] == costs
    assert result["release_multiply_adds"] == release_multiply_adds(net, net.example(32))
    assert result["parameters"] == parameters(net)
    assert pred.settings["classes"] == ["0", "1", "2", "3"]
    assert result["commit"]
    assert result["hardware"]
    assert set(result["at_share"]) == {"0.3", "0.5", "0.7"}
    assert 0 < result["area"] < 1


def test_optimism_is_of_the_training_images_as_they_are(npz, trained_run, capsys):
    run = trained_run()
    script.main(["--dataset", str(npz), "--save_dir", str(run), "--optimism", "--batch_size", "33"])
    assert "optimism: " in capsys.readouterr().out
    result, pred = read(run)
    images, labels = inputs_of(npz, "train")
    logits = slow_logits(make_net(), images).numpy()
    sure = exits.confidence(logits)
    assert sure.shape == (3, 80)
    costs = result["multiply_adds"]
    rows = {(row["fitted_on"], row["p"]): row for row in result["optimism"]}
    assert {name for name, _ in rows} == {"train", "val", "test"}
    for p in (10, 20, 30):
        thresholds = exits.fit_thresholds(sure, exits.shares(p / 20, 3))
        stop = slow_stop(sure, thresholds)
        row = rows["train", p]
        right = logits[stop, np.arange(80)].argmax(-1) == labels
        assert row["promised_accuracy"] == pytest.approx(right.mean())
        assert row["promised_multiply_adds"] == pytest.approx(np.mean([costs[k] for k in stop]))
        stop = slow_stop(exits.confidence(pred.part("test").stage_logits), thresholds)
        assert row["multiply_adds"] == pytest.approx(np.mean([costs[k] for k in stop]), rel=0.02)
        assert rows["val", p]["accuracy"] == result["budgeted"][p - 1]["accuracy"]
    script.main(["--dataset", str(npz), "--save_dir", str(run), "--overwrite"])
    assert "optimism" not in read(run)[0]


def published(npz, path, out, *flags):
    return [
        "--dataset", npz, "--model_path", path, "--save_dir", out, "--val_size", 40,
        "--arch", "msdnet", *TINY_FLAGS, *flags,
    ]  # fmt: skip


def test_a_published_file_evaluates_as_ours(npz, trained_run, tmp_path):
    run, out = trained_run(), tmp_path / "out"
    quiet(script.main, "--dataset", npz, "--save_dir", run)
    checkpoint = torch.load(run / "tiny-msdnet.pth")
    state = {f"module.{k}": v for k, v in checkpoint["state_dict"].items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 299, "state_dict": state, "best_acc1": torch.tensor(70.0)}, path)
    quiet(script.main, *published(npz, path, out))
    (ours, pred), (theirs, their_pred) = read(run), read(out)
    assert np.array_equal(pred.stage_logits, their_pred.stage_logits)
    for key in ("multiply_adds", "anytime", "budgeted", "area", "network", "data"):
        assert ours[key] == theirs[key]
    assert (theirs["seed"], theirs["epochs"]) == (None, 299)
    assert theirs["checkpoint"] == path.name

    flags = ["--method", "boosted", "--mean", 0.5, 0.5, 0.5, "--std", 0.2, 0.2, 0.2]
    quiet(script.main, *published(npz, path, tmp_path / "boosted", *flags))
    result, pred = read(tmp_path / "boosted")
    assert (result["method"], result["ensemble_reweight"]) == ("boosted", 0.5)
    images = (data.load(str(npz)).test.images / 255 - 0.5) / 0.2
    logits = slow_logits(make_net(), images, 0.5).numpy()
    np.testing.assert_allclose(pred.part("test").stage_logits, logits, rtol=1e-3, atol=1e-3)


def test_a_streamed_folder_evaluates(folder, tmp_path, monkeypatch):
    dataset = data.load_folder(folder, 4, 0)
    net = make_net("resnet", num_classes=2)
    torch.save(net.state_dict(), tmp_path / "x.pth")
    flags = ["--dataset", folder, "--stream", "--size", 32, "--val_size", 4, "--workers", 0]
    flags += ["--arch", "resnet", "--width", 4, "--model_path", tmp_path / "x.pth", "--optimism"]
    quiet(script.main, *flags, "--save_dir", tmp_path / "out", "--batch_size", 3)
    pred = saved.load(tmp_path / "out/pets-predictions.npz")
    assert pred.stage_logits.shape == (4, 12, 2)
    assert pred.part("val").index.tolist() == dataset.val.index.tolist()
    assert pred.settings["classes"] == ["cat", "dog"]
    (folder / "test/cat/extra.png").write_bytes(b"no picture")
    try:
        with pytest.raises(SystemExit) as stop:
            quiet(script.main, *flags, "--save_dir", tmp_path / "bad")
        assert stop.value.code == 2
        assert not (tmp_path / "bad/pets-predictions.npz").exists()
    finally:
        (folder / "test/cat/extra.png").unlink()


def test_a_complete_evaluation_is_kept_or_replaced(npz, trained_run, refused, capsys):
    run = trained_run()
    flags = ["--dataset", npz, "--save_dir", run]
    quiet(script.main, *flags)
    names = ("tiny-eval.json", "tiny-predictions.npz")
    before = [(run / name).stat().st_mtime_ns for name in names]
    refused(script.main, *flags, telling="a finished run is here")
    script.main([str(x) for x in [*flags, "--resume"]])
    assert "complete" in capsys.readouterr().out
    assert [(run / name).stat().st_mtime_ns for name in names] == before
    quiet(script.main, *flags, "--overwrite")
    assert all(b < (run / n).stat().st_mtime_ns for n, b in zip(names, before, strict=True))
    (run / "tiny-eval.json").unlink()  # as if killed before its end
    quiet(script.main, *flags)
    assert (run / "tiny-eval.json").exists()


def test_each_seed_is_a_run(npz, trained_run, tmp_path):
    for seed in (3, 5):
        trained_run(name=f"seed-{seed}", seed=seed)
    quiet(script.main, "--dataset", npz, "--save_dir", tmp_path, "--seeds", 3, 5)
    found = [read(tmp_path / f"seed-{seed}")[0] for seed in (3, 5)]
    assert [result["seed"] for result in found] == [3, 5]
    assert found[0]["anytime"] != found[1]["anytime"]


def test_faster_ways_answer_nearly_the_same(npz, trained_run):
    run = trained_run()
    logits = []
    for flags in ([], ["--channels_last"], ["--bf16"]):
        quiet(script.main, "--dataset", npz, "--save_dir", run, *flags, "--overwrite")
        result, pred = read(run)
        logits.append(pred.stage_logits)
    assert result["bf16"] is True
    assert np.abs(logits[1] - logits[0]).max() < 1e-3
    assert 1e-3 < np.abs(logits[2] - logits[0]).max() < 0.3


@pytest.mark.parametrize("arch", ["ranet", "msdnet", None])
def test_help_shows_the_flags_of_the_architecture(arch, capsys):
    with pytest.raises(SystemExit) as stop:
        script.main([*(["--arch", arch] if arch else []), "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "python -m early_exit.eval" in printed
    assert ("--scale_list" in printed) == (arch == "ranet")
    assert ("--reduction" in printed) == (arch == "msdnet")


BAD_FLAGS = {
    "a network without a file": (["--arch", "msdnet", "--n_blocks", 4], "--n_blocks: goes with"),
    "a size without a file": (["--size", 64], "--size: goes with --model_path"),
    "statistics without a file": (["--mean", 0, 0, 0], "--mean: goes with --model_path"),
    "another network": (["--arch", "vit"], "tiny-vit.pth: not there"),
    "a file without its network": (["--model_path", "x.pth"], "--model_path needs --arch"),
    "a flag of another network": (["--scale_list", "1-2"], "--scale_list"),
    "no batch": (["--batch_size", 0], "--batch_size"),
    "no device": (["--device", "toaster"], "--device toaster"),
    "no such data": (["--dataset", "digit"], "digit-ARCH.pth: not there"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_impossible_flags(case, npz, trained_run, refused):
    flags, telling = BAD_FLAGS[case]
    run = trained_run()
    refused(script.main, "--dataset", npz, "--save_dir", run, *flags, telling=telling)
    assert [p.name for p in run.iterdir()] == ["tiny-msdnet.pth"]


BAD_PUBLISHED = {
    "no file": ([], "No such file"),
    "std": (["--std", 1, 0, 1], "--std 1.0 0.0 1.0: give numbers above 0"),
    "seeds": (["--seeds", 1, 2], "--seeds goes with runs"),
    "a net that cannot be": (["--base", 0], "--base"),
    "images too small": (
        ["--size", 8],
        "takes images of 17 to 48 px with --stem cifar, or 65 to 192",
    ),
    "a stream of no folder": (["--stream"], "no such folder"),
    "no val": (["--val_size", 120], "val_size"),
}


@pytest.mark.parametrize("case", BAD_PUBLISHED)
def test_impossible_published_files(case, npz, tmp_path, refused):
    flags, telling = BAD_PUBLISHED[case]
    path, out = tmp_path / "x.pth", tmp_path / "out"
    if case != "no file":
        torch.save(make_net().state_dict(), path)
    refused(script.main, *published(npz, path, out, *flags), telling=telling)
    assert not out.exists()


def test_checkpoints_that_do_not_fit_the_data(npz, trained_run, tmp_path, refused):
    run = trained_run()
    path = run / "tiny-msdnet.pth"
    flags = ["--dataset", npz, "--save_dir", run]
    for name, options, telling in (
        ("a", {"seed": 1}, "is not the data that"),
        ("b", {"classes": 3}, "made for 4 classes"),
    ):
        (tmp_path / name).mkdir()
        other = make_npz(tmp_path / name / "tiny.npz", **options)
        refused(script.main, "--dataset", other, "--save_dir", run, telling=telling)
    good = checkpoint_of(npz)
    for change, telling in (
        ({"val_size": 41}, "is not the data that"),
        ({"dataset": "big"}, "was trained on big"),
        ({"kind": "edge"}, "of kind 'edge'"),
    ):
        torch.save(good | change, path)
        message = refused(script.main, *flags, telling=telling)
        assert str(path) in message
    assert [p.name for p in run.iterdir()] == [path.name]


def test_logits_that_are_not_finite_are_an_error(npz, trained_run, refused):
    run = trained_run()
    checkpoint = experiment.load_checkpoint(run / "tiny-msdnet.pth")
    for name, value in checkpoint["state_dict"].items():
        if name.endswith("linear.weight"):
            value.fill_(3e38)
    torch.save(checkpoint, run / "tiny-msdnet.pth")
    flags = ["--dataset", npz, "--save_dir", run]
    refused(script.main, *flags, telling="logits that are not finite")
    assert not (run / "tiny-eval.json").exists()
    assert not (run / "tiny-predictions.npz").exists()
