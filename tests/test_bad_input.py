"""Bad input through the scripts: one line `error: ...`, status 2, and nothing written."""

import numpy as np
import pytest
import torch

import early_exit.eval
import early_exit.infer
import early_exit.train
import eval_all
import eval_fprint
import experiment
import train_edgenet_async
import train_localnet
import train_rejector
from deferral import join
from deferral.report import __main__ as report
from models.edgenet import AlexNet
from models.localnet import LeNet5
from models.rejector import Rejector
from tests.made import SMALL_EDGE, make_npz, of_one_value

STEM = "tiny-edgenet-async-1-cost_1-1.25-cost_e-0.25"


def test_bad_data(npz, tmp_path, refused):
    """tests/data/test_datasets.py has the faults of files; here they reach every script."""
    path = tmp_path / "bad.npz"
    for content in (b"", npz.read_bytes()[:-5000]):
        path.write_bytes(content)
        for main in (train_localnet.main, train_edgenet_async.main):
            refused(main, "--dataset", path, "--save_dir", tmp_path / "run", telling=str(path))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--local_classes", "8-3"], "3-8"),
        (["--local_classes", "0-10"], "no class 10"),
        (["--local_classes", "4"], "two or more"),
        (["--val_size", "5000"], "val_size"),
        (["--val_size", "0"], "--val_size"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "-1"], "--lr"),
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "two"], "'two' is not a number"),
        (["--batch_size", "0"], "--batch_size"),
        (["--seed", "-1"], "--seed"),
        (["--device", "cuda:99"], "--device cuda:99: not on this machine"),
        (["--device", "toaster"], "--device toaster"),
        (["--local_net", "vgg"], "--local_net"),
        (["--dataset", "cifar"], "cifar10"),
        (["--overwrite", "--resume"], "not allowed with"),
        (["--epoch", "3"], "--epoch"),
    ],
)
def test_impossible_flags_of_the_local_net(flags, telling, tmp_path, refused):
    refused(train_localnet.main, "--save_dir", tmp_path / "run", *flags, telling=telling)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_device_cuda_without_cuda(tmp_path, refused):
    for main in (train_localnet.main, train_edgenet_async.main, eval_all.main):
        flags = ["--save_dir", tmp_path / "run", "--device", "cuda"]
        refused(main, *flags, telling="try --device cpu")


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--costs=-1:0.25"], "at least 0"),
        (["--costs", "1:inf"], "must be finite"),
        (["--costs", "1:nan"], "must be finite"),
        (["--costs", "1"], "c_1:c_e"),
        (["--cost_1", "1", "--cost_e", "-0.1"], "at least 0"),
        (["--cost_1", "1", "--cost_e", "x"], "'x' is not a number"),
        (["--costs", "1:3", "--surrogate", "released"], "no lower bound at c_e 3"),
        (
            ["--costs", "1:3", "--extra_surrogates", "released"],
            "--extra_surrogates: released has no lower bound",
        ),
        (
            ["--costs", "1:0", "--extra_surrogates", "released", "--extra_costs", "1:0", "1:1.1"],
            "--extra_surrogates: released has no lower bound at c_e 1.1",
        ),
        (["--costs", "1:1e7"], "at most 1e+06"),
        (["--costs", "1:1e-60"], "too many digits for a file name"),
        (["--async_freq", "-1"], "at least 0"),
        (["--async_freq", "1.5"], "not a number (int)"),
        (["--edge_net", "resnet81"], "near: resnet18"),
        (["--edge_net", "vit_b_16", "--edge_size", "30", "--no-pretrained"], "30 px"),
        (["--edge_only", "--costs", "1:0"], "--edge_only"),
        (["--surrogate", "hinge"], "--surrogate"),
        (["--val_size", "5"], "another val split"),
        (["--local_path", "nowhere.pth"], "nowhere.pth: no local net there"),
    ],
)
def test_impossible_flags_of_the_edge(flags, telling, npz, trained, tmp_path, refused):
    common = ["--dataset", npz, "--save_dir", tmp_path / "run", *SMALL_EDGE]
    common += ["--local_path", trained / "tiny-localnet.pth"]
    refused(train_edgenet_async.main, *common, *flags, telling=telling)
    assert not (tmp_path / "run").exists()


# Flags that change nothing beside the others, and what the one line says of them.
EDGE_ONLY = [
    ["--cost_1", "1"], ["--cost_e", "0"], ["--costs", "1:0"], ["--async_freq", "1"], ["--joint"],
    ["--adaptive", "0.1"], ["--probe_size", "256"], ["--probe_every", "10"], ["--outage", "1:2"],
    ["--surrogate", "stage_switching"],
    ["--extra_surrogates", "released"], ["--extra_costs", "1:0"],
    ["--lr_rejector", "0.0016"], ["--progress_every", "0"], ["--local_path", "x.pth"],
]  # fmt: skip
JOINT = [["--async_freq", "1"], *EDGE_ONLY[5:9]]
NO_EFFECT = [
    *((train_edgenet_async, ["--edge_only", *flags], "--edge_only") for flags in EDGE_ONLY),
    *((train_edgenet_async, ["--joint", *flags], "--joint") for flags in JOINT),
    (train_edgenet_async, ["--probe_size", "256"], "goes with --adaptive"),
    (train_edgenet_async, ["--probe_every", "10"], "goes with --adaptive"),
    (train_edgenet_async, ["--extra_costs", "1:0"], "goes with --extra_surrogates"),
    (
        train_edgenet_async,
        ["--extra_surrogates", "one_vs_all", "--extra_costs", "1:0"],
        "with --extra_surrogates",
    ),
    (train_edgenet_async, ["--seeds", "0", "1", "--seed", "43"], "--seeds takes its place"),
    (train_edgenet_async, ["--seeds", "0", "--local_path", "x.pth"], "leave --local_path out"),
    (train_localnet, ["--exits_path", "x"], "--exits_path goes with an exit"),
    (train_localnet, ["--local_net", "msdnet:2", "--epochs", "3"], "is trained already"),
    (train_localnet, ["--local_net", "msdnet:2", "--local_classes", "0-2"], "trained already"),
    *(
        (train_rejector, [*flags, "--rejector", "amortized"], "goes with --rejector per_cost")
        for flags in (*EDGE_ONLY[:3], ["--surrogates", "stage_switching"])
    ),
    (train_rejector, ["--seeds", "0", "--seed", "43"], "--seeds takes its place"),
    (train_localnet, ["--seeds", "0", "--seed", "42"], "--seeds takes its place"),
    (eval_all, ["--seed", "43"], "evaluation uses no random numbers"),
    (train_localnet, ["--local_net", "msdnet:2", "--stream"], "an exit reads images in memory"),
    *(
        (early_exit.train, ["--method", method, f"--{name}", value], f"with --method {other}")
        for method, name, value, other in (
            ("base", "epsilon", "0.8", "l2w"),
            ("boosted", "meta_lr", "1e-4", "l2w"),
            ("base", "ensemble_reweight", "0.5", "boosted"),
            ("l2w", "equilibrium", "all", "boosted"),
        )
    ),
    (early_exit.train, ["--save_memory"], "goes with --method l2w"),
    (early_exit.train, ["--optimizer", "adamw", "--momentum", "0.9"], "with --optimizer sgd"),
    (early_exit.train, ["--workers", "2"], "goes with --stream"),
    (early_exit.train, ["--arch", "bert", "--augment", "none"], "is for images"),
    (early_exit.train, ["--seeds", "0", "--seed", "0"], "--seeds takes its place"),
    *(
        (script, flags, "goes with --model_path")
        for script in (early_exit.eval, early_exit.infer)
        for flags in (["--val_size", "0.1"], ["--arch", "msdnet", "--base", "4"])
    ),
    (early_exit.eval, ["--seed", "0"], "evaluation uses no random numbers"),
    (
        early_exit.eval,
        ["--model_path", "x.pth", "--arch", "msdnet", "--ensemble_reweight", "0.5"],
        "goes with --method boosted",
    ),
    (join, ["a", "b", "--cost_flops", "1e-9", "--device_cost", "0.1"], "not allowed with"),
]


@pytest.mark.parametrize(
    ("script", "flags", "telling"), NO_EFFECT, ids=lambda x: " ".join(x) if type(x) is list else ""
)
def test_flags_without_effect(script, flags, telling, tmp_path, refused):
    """Also where they are given as they are by default."""
    where = "--out" if script is join else "--save_dir"
    refused(script.main, where, tmp_path / "run", *flags, telling=telling)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "flags", "telling"),
    [
        (STEM, ["--overwrite"], "writes nothing"),
        (STEM, ["--resume"], "writes nothing"),
        (STEM, ["--delta", "0.05"], "goes with --max_reject_rate or --max_risk"),
        (STEM, ["--seed", "43"], "goes with --max_reject_rate or --max_risk"),
        (STEM, ["--save_dir", "DIR", "--local_path", "x.pth"], "leave one out"),
        *(
            (f"tiny-{net}net", flags, "holds no trained rejector")
            for net in ("local", "edge")
            for flags in (
                ["--cost_1", "1"],
                ["--cost_e", "0"],
                ["--max_risk", "1"],
                ["--max_reject_rate", "0.5"],
                ["--local_path", "x.pth"],
            )
        ),
    ],
)
def test_flags_without_effect_on_a_checkpoint(file, flags, telling, npz, trained, refused):
    model = ["--dataset", npz, "--model_path", trained / f"{file}.pth"]
    refused(eval_fprint.main, *model, *flags, telling=telling)


def test_split_seed_is_refused_if_the_split_is_given(trained, tmp_path, refused):
    flags = ["--split_seed", 0, "--out", tmp_path / "page.html"]
    refused(report.main, trained / "tiny-predictions.npz", *flags, telling="which rows are val")
    assert not list(tmp_path.iterdir())


def test_released_surrogate_of_train_rejector(tmp_path, refused):
    flags = ["--rejector", "per_cost", "--surrogates", "released", "--costs", "1:3"]
    refused(train_rejector.main, "--save_dir", tmp_path, *flags, telling="no lower bound at c_e 3")


def test_no_local_net(npz, tmp_path, refused):
    flags = ["--dataset", npz, "--save_dir", tmp_path / "run", *SMALL_EDGE]
    refused(train_edgenet_async.main, *flags, telling="make it with train_localnet.py")


def test_save_dir_that_cannot_be_written(npz, tmp_path, refused):
    (tmp_path / "file").write_text("in the way")
    flags = ["--dataset", npz, "--save_dir", tmp_path / "file" / "run", "--epochs", 1]
    refused(train_localnet.main, *flags, telling="cannot be written (Not a directory)")
    refused(train_localnet.main, "--dataset", npz, "--save_dir", "/proc/none", telling="/proc/none")


def save(path, content):
    torch.save(content, path)
    return path


def garbage(path):
    path.write_bytes(b"not a checkpoint at all")
    return path


def of_classes(kind, trained, path):
    checkpoint = experiment.load_checkpoint(trained / f"tiny-{kind}net.pth")
    return save(path, checkpoint | {"num_classes": 7})


BAD_LOCAL = {
    "missing": (lambda p, t: p, "no local net there"),
    "garbage": (lambda p, t: garbage(p), "not a checkpoint"),
    "a tensor": (lambda p, t: save(p, torch.ones(3)), "not a state dict"),
    "another net": (lambda p, t: save(p, of_one_value(lambda: AlexNet(4))), "'edge', not 'local'"),
    "a rejector": (lambda p, t: save(p, Rejector().state_dict()), "made for 2 classes"),
    "an edge": (lambda p, t: t / "tiny-edgenet.pth", "of kind 'edge', not 'local'"),
    "other classes": (lambda p, t: save(p, LeNet5(7).state_dict()), "made for 7 classes"),
    "ours, of other classes": (lambda p, t: of_classes("local", t, p), "made for 7 classes"),
    "a missing weight": (
        lambda p, t: save(p, {k: v for k, v in LeNet5(4).state_dict().items() if k != "fc2.bias"}),
        "not a lenet5: fc2.bias is missing",
    ),
    "a NaN weight": (
        lambda p, t: save(p, {k: v * np.nan for k, v in LeNet5(4).state_dict().items()}),
        "not finite",
    ),
}


@pytest.mark.parametrize("case", BAD_LOCAL)
def test_bad_local_nets(case, npz, trained, tmp_path, refused):
    make, telling = BAD_LOCAL[case]
    path = make(tmp_path / "local.pth", trained)
    flags = ["--dataset", npz, "--save_dir", tmp_path / "run", *SMALL_EDGE, "--local_path", path]
    message = refused(train_edgenet_async.main, *flags, telling=telling)
    assert str(path) in message
    assert not (tmp_path / "run").exists()


def test_local_net_of_other_data(npz, trained, tmp_path, refused):
    other = make_npz(tmp_path / "other.npz", seed=1)
    flags = ["--dataset", other, "--save_dir", tmp_path / "run", *SMALL_EDGE]
    flags += ["--local_path", trained / "tiny-localnet.pth"]
    refused(train_edgenet_async.main, *flags, telling="other data or another val split")


def test_another_local_net_in_the_save_dir(npz, run_copy, tmp_path, refused):
    other = save(tmp_path / "local.pth", LeNet5(4).state_dict())
    flags = ["--dataset", npz, "--save_dir", run_copy, *SMALL_EDGE, "--overwrite"]
    refused(train_edgenet_async.main, *flags, "--local_path", other, telling="another local net")


@pytest.mark.parametrize("kind", ["local", "edge"])
def test_checkpoints_that_do_not_belong_together(kind, npz, run_copy, refused):
    """The hash tells: the same net with one weight moved is not the one that was trained with."""
    path = run_copy / f"tiny-{kind}net.pth"
    checkpoint = experiment.load_checkpoint(path)
    name = next(k for k, v in checkpoint["state_dict"].items() if v.is_floating_point())
    checkpoint["state_dict"][name] += 1e-3
    save(path, checkpoint)
    before = {p.name: p.read_bytes() for p in run_copy.iterdir()}
    common = ["--dataset", npz]
    refused(eval_fprint.main, *common, "--model_path", run_copy / f"{STEM}.pth", telling="SHA-256")
    refused(eval_all.main, *common, "--save_dir", run_copy, "--overwrite", telling="SHA-256")
    assert {p.name: p.read_bytes() for p in run_copy.iterdir()} == before


BAD_MODEL = {
    "missing": (lambda p: p, "No such file"),
    "a folder": (lambda p: p.parent, "Is a directory"),
    "garbage": (garbage, "not a checkpoint"),
    "empty": (lambda p: save(p, {}), "not a checkpoint of a local net"),
    "only a rejector": (
        lambda p: save(p, {f"rejector.{k}": v for k, v in Rejector().state_dict().items()}),
        "--local_path",
    ),
    "a bare edge": (
        lambda p: save(p, {"features.0.weight": torch.ones(2, 2)}),
        "without names under rejector. and edge_net.",
    ),
    "other classes": (lambda p: save(p, LeNet5(9).state_dict()), "made for 9 classes"),
}


@pytest.mark.parametrize("case", BAD_MODEL)
def test_bad_models_to_evaluate(case, npz, tmp_path, refused):
    make, telling = BAD_MODEL[case]
    path = make(tmp_path / "model.pth")
    refused(eval_fprint.main, "--dataset", npz, "--model_path", path, telling=telling)


def test_edge_of_other_classes(npz, trained, tmp_path, refused):
    path = of_classes("edge", trained, tmp_path / "edge.pth")
    refused(eval_fprint.main, "--dataset", npz, "--model_path", path, telling="made for 7 classes")


@pytest.mark.parametrize("rate", ["0", "1.5", "nan"])
def test_impossible_reject_rate(rate, npz, trained, refused):
    flags = ["--dataset", npz, "--model_path", trained / f"{STEM}.pth", "--max_reject_rate", rate]
    refused(eval_fprint.main, *flags, telling="--max_reject_rate")


def test_evaluating_what_is_not_there(npz, tmp_path, refused):
    flags = ["--dataset", npz, "--save_dir", tmp_path / "run"]
    refused(eval_all.main, *flags, telling="train_edgenet_async.py makes it")
    assert not (tmp_path / "run").exists()


def test_evaluating_on_other_data(trained, tmp_path, refused):
    other = make_npz(tmp_path / "tiny.npz", seed=1)
    model = trained / f"{STEM}.pth"
    refused(eval_fprint.main, "--dataset", other, "--model_path", model, telling="trained on")
    flags = ["--dataset", other, "--save_dir", trained, "--overwrite"]
    refused(eval_all.main, *flags, telling="trained on")


def test_training_that_diverges_stops(npz, tmp_path, refused):
    run = tmp_path / "run"
    flags = ["--dataset", npz, "--save_dir", run, "--lr", 1e6, "--epochs", 3]
    refused(train_localnet.main, *flags, telling="diverged; lower the --lr")
    assert not (run / "tiny-localnet.pth").exists()
