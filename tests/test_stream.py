"""--stream through the scripts: results as in memory, and pictures and workers that fail."""

import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import data
import data.folders
import eval_all
import eval_fprint
import experiment
import train_edgenet_async
import train_localnet
import train_rejector
from data.folders import read_picture
from tests.made import SMALL_EDGE, make_npz, quiet

STREAM = ["--stream", "--stream_size", 32]
LOCAL = ["--epochs", 2, "--lr", 0.01, "--val_size", 16, "--rejector_val_size", 12]
EDGE = [*SMALL_EDGE, "--epochs", 2, "--val_size", 16, "--rejector_val_size", 12]
SETTINGS = [
    "--costs", "1:0", "1.25:0.25", "--async_freq", 1, 3, 0, "--adaptive", 0.1, "--probe_every", 3,
    "--probe_size", 9, "--outage", "3:6", "--extra_surrogates", "one_vs_all", "--lr_rejector", 0.05,
    "--progress_every", 4, "--augment", "flip_crop",
]  # fmt: skip


def make_folder(root, **sizes):
    """The pictures of an npz as PNG files, 32 px."""
    arrays = np.load(make_npz(root.with_suffix(".npz"), **sizes))
    for split in ("train", "test"):
        for k, (image, label) in enumerate(
            zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)
        ):
            path = root / split / f"class{label}" / f"{k:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("pictures") / "pets", train=110, test=30)


def chain(folder, run, *stream):
    """Every script of a run, one after another."""
    common = ["--dataset", folder, "--save_dir", run, *stream]
    quiet(train_localnet.main, *common, *LOCAL)
    quiet(train_edgenet_async.main, *common, *EDGE, *SETTINGS)
    inputs = ["--rejector_input", "features", "both", "--rejector", "amortized", "per_cost"]
    inputs += ["--epochs", 2, "--batch_size", 32, "--augment", "flip_crop"]
    quiet(train_rejector.main, *common, *inputs)
    quiet(eval_all.main, *common)
    return run


@pytest.fixture(scope="module")
def in_memory(pictures, tmp_path_factory):
    return chain(pictures, tmp_path_factory.mktemp("memory") / "run")


@pytest.fixture(scope="module")
def streamed(pictures, tmp_path_factory):
    return chain(pictures, tmp_path_factory.mktemp("streamed") / "run", *STREAM)


def values(run):
    """Every number that the networks' weights and answers consist of, by file and name."""
    found = {}
    for path in sorted(run.glob("*.pth")):
        checkpoint = experiment.load_checkpoint(path)
        found |= {(path.name, k): v.numpy() for k, v in checkpoint["state_dict"].items()}
        if "refreshes" in checkpoint:
            found[path.name, "refreshes"] = np.array(checkpoint["refreshes"])
    for path in sorted(run.glob("*.npz")):
        arrays = {k: v for k, v in np.load(path).items() if v.dtype.kind in "uif"}
        arrays.pop("progress_seconds", None)
        found |= {(path.name, k): v for k, v in arrays.items()}
    return found


def assert_same_values(a, b):
    a, b = values(a), values(b)
    assert a.keys() == b.keys()
    assert [k for k in a if not np.array_equal(a[k], b[k], equal_nan=True)] == []


def test_weights_and_predictions_are_those_of_a_run_in_memory(in_memory, streamed):
    """Pictures of 32 px, streamed at 32: no bit differs, in training nor in evaluation."""
    assert_same_values(streamed, in_memory)
    names = {name for name, _ in values(streamed)}
    assert {"pets-edgenet.pth", "pets-rejector-both.pth", "pets-predictions.npz"} <= names
    assert "pets-edgenet-async-adaptive-0.1-cost_1-1.25-cost_e-0.25.pth" in names


def test_processes_share_augmented_batches_as_in_memory(pictures):
    """Rows, pixels and random numbers, on one and on three processes; the last batch is whole."""
    memory, stream = data.load(str(pictures)), data.load_folder(pictures, size=32, workers=0)
    for world, start in ((1, 0), (3, 0), (3, 2)):
        for rank in range(world):
            given = [
                data.image_batches(
                    part, 16, "cpu", shuffle=True, seed=1, augment=data.AUGMENTATIONS["flip_crop"],
                    rank=rank, world=world, least=2,
                ).epoch(2, start)
                for part in (memory.train, stream.train)
            ]  # fmt: skip
            for a, b in zip(*given, strict=True):
                assert all(map(torch.equal, a, b))


@pytest.mark.parametrize("flags", [["--joint", "--costs", "1:0.25"], ["--edge_only"]])
def test_joint_and_edge_only_and_worker_processes(flags, pictures, in_memory, tmp_path):
    """Without augmentation; the number of processes that decode changes nothing."""
    own = [*EDGE, *flags, "--local_path", in_memory / "pets-localnet.pth"]
    mine = own if "--joint" in flags else own[:-2]
    quiet(train_edgenet_async.main, "--dataset", pictures, "--save_dir", tmp_path / "a", *mine)
    local = ["--dataset", pictures, "--save_dir", tmp_path / "b", *STREAM, "--workers", 2]
    if "--joint" in flags:
        quiet(train_localnet.main, *local, *LOCAL)
        mine = own[:-2]
    quiet(train_edgenet_async.main, *local, *mine)
    assert_same_values(tmp_path / "b", tmp_path / "a")


def test_the_head_alone_is_trained_beside_rejectors(
    pictures, in_memory, streamed, tmp_path, monkeypatch
):
    """As in memory; the rejectors' pictures come from the stream, none is decoded out of turn."""
    flags = ["--dataset", pictures, *EDGE, "--costs", "1:0", "1.25:0.25", "--train_head_only"]
    ways = {in_memory: [], streamed: STREAM}
    monkeypatch.setattr(data.streams.StreamBatches, "plain", None)
    for run, more in ways.items():
        local = ["--local_path", run / "pets-localnet.pth"]
        out = tmp_path / run.parent.name
        quiet(train_edgenet_async.main, *flags, *local, *more, "--save_dir", out)
    first, second = (tmp_path / run.parent.name for run in ways)
    assert len(list(first.glob("pets-edgenet-*.pth"))) == 2
    assert_same_values(first, second)


def test_a_killed_run_resumes_with_other_workers(pictures, streamed, tmp_path, monkeypatch):
    flags = ["--dataset", pictures, "--save_dir", tmp_path, *STREAM, *EDGE, *SETTINGS]
    flags += ["--local_path", streamed / "pets-localnet.pth"]
    save = experiment.save_checkpoint

    def killed(path, checkpoint):
        save(path, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as first:
        first.setattr("experiment.run.save_checkpoint", killed)
        with pytest.raises(SystemExit):
            quiet(train_edgenet_async.main, *flags)
    quiet(train_edgenet_async.main, *flags, "--resume", "--workers", 1)
    kept = values(streamed)
    found = values(tmp_path)
    assert [k for k, v in found.items() if not np.array_equal(v, kept[k], equal_nan=True)] == []


def test_one_checkpoint_is_reported_as_in_memory(pictures, in_memory, streamed, capsys):
    reports = []
    for run, flags in ((in_memory, []), (streamed, STREAM)):
        path = run / "pets-edgenet-async-1-cost_1-1.25-cost_e-0.25.pth"
        eval_fprint.main([*map(str, ["--dataset", pictures, "--model_path", path, *flags])])
        reports.append(capsys.readouterr().out.replace(str(run), ""))
    assert reports[0] == reports[1]


def test_every_network_resizes_the_same_picture(tmp_path):
    """Pictures of other sizes keep their proportions and lose their edges."""
    folder = make_folder(tmp_path / "pets", train=16, test=4)
    wide = folder / "train" / "class0" / "000.png"
    pixels = np.zeros((48, 96, 3), np.uint8)
    pixels[:, 24:72] = 200
    Image.fromarray(pixels).save(wide)
    dataset = data.load_folder(folder, 4, size=24)
    whole = [*dataset.train.files, *dataset.val.files]
    part = dataset.train if str(wide) in dataset.train.files else dataset.val
    assert len(whole) == 16
    image = data.pixels_of(part, torch.tensor([part.files.index(str(wide))]))[0]
    assert image.shape == (3, 24, 24)
    assert (image[:, :, 1:-1] == 200).all()


def test_checkpoints_of_other_data_are_refused(pictures, in_memory, streamed, tmp_path, refused):
    """In memory or streamed, and at which size, is part of what a network was trained on."""
    edge = ["--dataset", pictures, "--save_dir", tmp_path / "run", *EDGE]

    def local(run):
        return ["--local_path", run / "pets-localnet.pth"]

    main = train_edgenet_async.main
    refused(main, *edge, *local(streamed), telling="give --stream --stream_size 32")
    refused(main, *edge, *local(in_memory), *STREAM, telling="leave --stream out")
    other = ["--stream", "--stream_size", 40]
    refused(main, *edge, *local(streamed), *other, telling="give --stream --stream_size 32")
    telling = "other data or another val split"
    refused(main, *edge, *local(streamed), *STREAM, "--val_size", 20, telling=telling)
    for evaluating in (train_rejector.main, eval_all.main):
        flags = ["--dataset", pictures, "--save_dir", streamed, "--overwrite"]
        refused(evaluating, *flags, telling="give --stream --stream_size 32")
    assert not (tmp_path / "run").exists()


MAINS = (train_localnet.main, train_edgenet_async.main, train_rejector.main, eval_all.main)


@pytest.mark.parametrize("main", MAINS)
def test_flags_without_effect(main, npz, refused):
    refused(main, "--stream_size", 32, telling="--stream_size: goes with --stream")
    refused(main, "--workers", 0, telling="--workers: goes with --stream")


def test_what_cannot_be_streamed(npz, tmp_path, refused):
    flags = ["--save_dir", tmp_path / "run", "--stream"]
    for name in ("digits", npz):
        refused(train_localnet.main, *flags, "--dataset", name, telling="--stream reads a folder")
    refused(train_localnet.main, *flags, "--local_net", "msdnet:2", telling="--stream")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("workers", "split"), [(0, "test"), (2, "train")])
def test_a_broken_picture_in_the_middle(workers, split, tmp_path, refused):
    """Nothing is left but what a killed run leaves; the picture mended, it starts over."""
    folder = make_folder(tmp_path / "pets", train=40, test=8)
    broken = sorted((folder / split).glob("*/*.png"))[5]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    run = tmp_path / "run"
    flags = ["--dataset", folder, "--save_dir", run, *STREAM, "--workers", workers]
    flags += ["--epochs", 1, "--batch_size", 4, "--val_size", 4]
    message = refused(train_localnet.main, *flags, telling=f"picture {broken} cannot be read")
    assert message.count("error") == 1
    assert {p.name for p in run.iterdir()} <= {
        "args.json", "metrics.jsonl", ".lock", "pets-localnet-state.pth",
    }  # fmt: skip
    broken.write_bytes(whole)
    quiet(train_localnet.main, *flags, "--overwrite")
    assert (run / "pets-localnet.json").exists()


def test_a_broken_picture_in_evaluation(pictures, streamed, tmp_path, refused, monkeypatch):
    """It broke after training, with its length kept: the finished files stay as they are."""
    before = {p.name: p.read_bytes() for p in streamed.iterdir()}
    victim = str(sorted((pictures / "test").glob("*/*.png"))[7])

    def read(file):
        if file == victim:
            raise experiment.InputError(f"picture {file} cannot be read")
        return read_picture(file)

    monkeypatch.setattr(data.folders, "read_picture", read)
    path = streamed / "pets-edgenet.pth"
    flags = ["--dataset", pictures, "--model_path", path, *STREAM]
    refused(eval_fprint.main, *flags, telling=victim)
    assert {p.name: p.read_bytes() for p in streamed.iterdir()} == before


def test_a_worker_that_dies(tmp_path, refused, monkeypatch):
    folder = make_folder(tmp_path / "pets", train=40, test=8)
    victim = str(sorted((folder / "train").glob("*/*.png"))[9])
    script = os.getpid()

    def read(file):
        if file == victim and os.getpid() != script:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_picture(file)

    monkeypatch.setattr(data.folders, "read_picture", read)
    # How long torch waits for each worker that does not end; 5 s.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)
    flags = ["--dataset", folder, "--save_dir", tmp_path / "run", *STREAM, "--workers", 1]
    flags += ["--epochs", 1, "--batch_size", 4, "--val_size", 4]
    refused(train_localnet.main, *flags, telling="a process that reads pictures died")
    assert not (tmp_path / "run" / "pets-localnet.pth").exists()
