"""A local net of one's own and an edge net of timm, from training and from files of weights."""

import json

import pytest
import torch

import data
import eval_all
import experiment
import train_edgenet_async
import train_localnet
import train_rejector
from deferral import predictions as saved
from models.anynet import build_any
from tests.made import make_npz, quiet

FILE = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(54, num_classes),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    make_npz(folder / "tiny.npz", train=160)
    (folder / "nets.py").write_text(FILE)
    return folder


def common(folder, run):
    return ["--dataset", folder / "tiny.npz", "--save_dir", folder / run, "--device", "cpu"]


def test_a_pair_of_other_networks_from_training_to_the_rejector(folder):
    pytest.importorskip("timm")
    here = common(folder, "pair")
    split = ["--val_size", 30, "--rejector_val_size", 40]
    local, edge = f"{folder / 'nets.py'}:tiny", "timm/test_resnet"
    quiet(train_localnet.main, *here, *split, "--local_net", local, "--epochs", 2)
    quiet(
        train_edgenet_async.main, *here, *split, "--edge_net", edge, "--edge_size", 32,
        "--epochs", 1, "--costs", "1:0.1",
    )  # fmt: skip
    quiet(train_rejector.main, *here, "--rejector", "amortized", "--epochs", 1)
    quiet(eval_all.main, *here)
    pred = saved.load(folder / "pair" / "tiny-predictions.npz")
    assert (pred.settings["local"], pred.settings["edge"]) == (local, edge)
    assert pred.stage_logits.shape[0] == 2
    assert pred.settings["estimators"][0]["name"] == "amortized, features"


def test_weights_as_they_are_give_their_own_accuracy(folder):
    here, name = common(folder, "fixed"), f"{folder / 'nets.py'}:tiny"
    net = build_any(name, 4, 32).eval()
    torch.save(net.net.state_dict(), folder / "w.pth")
    weights = ["--epochs", 0]
    quiet(
        train_localnet.main,
        *here,
        "--local_net",
        name,
        "--local_weights",
        folder / "w.pth",
        *weights,
    )
    quiet(
        train_edgenet_async.main, *here, "--edge_net", name, "--edge_size", 32,
        "--edge_weights", folder / "w.pth", *weights, "--edge_only",
    )  # fmt: skip
    dataset = data.load(str(folder / "tiny.npz"), "data", 0.1, 0)
    test = data.Batches(dataset.test, 60, torch.device("cpu"))
    with torch.no_grad():
        answers = torch.cat([net(images).argmax(1) for _, images, _ in test])
    accuracy = (answers == test.labels).float().mean().item()
    result = json.loads((folder / "fixed" / "tiny-localnet.json").read_text())
    assert result["test_accuracy"] == pytest.approx(accuracy)
    for kind in ("local", "edge"):
        checkpoint = experiment.load_checkpoint(folder / "fixed" / f"tiny-{kind}net.pth")
        for key, value in net.state_dict().items():
            torch.testing.assert_close(checkpoint["state_dict"][key], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("main", "flags", "telling"),
    [
        (train_localnet.main, ["--epochs", 0], "--local_weights says which"),
        (train_localnet.main, ["--local_weights", "no.pth"], "no.pth: no such file of weights"),
        (train_localnet.main, ["--local_net", "lenet6"], "lenet5"),
        (train_localnet.main, ["--local_size", 64], "lenet5 runs at 32 px"),
        (train_edgenet_async.main, ["--epochs", 0], "--epochs 0 goes with --edge_only"),
        (train_edgenet_async.main, ["--edge_net", "no.py:f", "--edge_only"], "no.py: no such file"),
        (train_edgenet_async.main, ["--pretrained", "--edge_weights", "w.pth"], "both are weights"),
    ],
)
def test_bad_flags(main, flags, telling, folder, refused):
    refused(main, *common(folder, "bad"), *flags, telling=telling)
    assert not (folder / "bad").exists() or not any((folder / "bad").iterdir())
