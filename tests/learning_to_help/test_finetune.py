"""Training from given weights: the trunk at a lower rate."""

import pytest
import torch

import experiment
import train_edgenet_async
import train_localnet
from learning_to_help.finetune import parameter_groups
from models.any_local import build_local
from models.edgenet import build_edge
from tests.made import SMALL_EDGE, TinyEdge, one_line_error, quiet


@pytest.mark.parametrize(
    ("make", "size", "head"),
    [
        (lambda: build_edge("resnet18", 7, 32), 32, {"net.fc.weight", "net.fc.bias"}),
        (
            lambda: build_edge("squeezenet1_1", 7, 64),
            64,
            {"net.classifier.1.weight", "net.classifier.1.bias"},
        ),
        (lambda: build_local("lenet5", 7), 32, {"fc3.weight", "fc3.bias"}),
    ],
    ids=["resnet18", "squeezenet1_1", "lenet5"],
)
def test_the_last_layer_alone_has_the_rate_of_lr(make, size, head):
    net = make()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    names = {id(p): name for name, p in net.named_parameters()}
    trunk, last = parameter_groups(net, size, 0.1, 0.001)
    assert {names[id(p)] for p in last["params"]} == head
    assert {names[id(p)] for p in trunk["params"]} == set(names.values()) - head
    assert (trunk["lr"], last["lr"]) == (0.001, 0.1)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_network_without_such_a_layer_is_refused():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 4), torch.nn.Flatten())
    with one_line_error("last layer with weights is Conv2d"):
        parameter_groups(net, 4, 0.1, 0.01)


def state_of(run, kind):
    return experiment.load_checkpoint(run / f"tiny-{kind}.pth")["state_dict"]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_first_step_of_the_edge_moves_the_trunk_by_its_rate(schedule, npz, tmp_path):
    """One step of plain SGD from the same weights: its size is the rate times the gradient."""
    flags = ["--dataset", npz, *SMALL_EDGE, "--edge_only", "--epochs", 1, "--momentum", 0]
    flags += ["--batch_size", 200, "--schedule", schedule]  # one batch of all images
    quiet(train_edgenet_async.main, *flags, "--save_dir", tmp_path / "one")
    quiet(train_edgenet_async.main, *flags, "--save_dir", tmp_path / "two", "--lr_trunk", 0.005)
    one, two = state_of(tmp_path / "one", "edgenet"), state_of(tmp_path / "two", "edgenet")
    start = build_edge("tiny", 4, 32, 43)
    assert isinstance(start, TinyEdge)
    for name, first in start.named_parameters():
        share = 1 if name.startswith("6.") else 0.1  # SMALL_EDGE has --lr 0.05
        torch.testing.assert_close(
            two[name] - first, share * (one[name] - first), atol=1e-7, rtol=1e-3
        )


def test_a_trunk_with_almost_no_rate_stays_where_it_was(npz, tmp_path):
    flags = ["--dataset", npz, "--save_dir", tmp_path, "--epochs", 1, "--lr_trunk", 1e-20]
    quiet(train_localnet.main, *flags)
    experiment.seed_everything(42)
    start, end = build_local("lenet5", 4).state_dict(), state_of(tmp_path, "localnet")
    assert [k for k in start if not torch.equal(start[k], end[k])] == ["fc3.weight", "fc3.bias"]
