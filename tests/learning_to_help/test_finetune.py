"""Training from given weights: the trunk at a lower rate, or the last layer alone."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import data
import eval_all
import experiment
import train_edgenet_async
import train_localnet
from learning_to_help.edge_copies import adaptive
from learning_to_help.finetune import head_and_features, parameter_groups
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.any_local import build_local
from models.edgenet import build_edge
from tests.made import SMALL_EDGE, TinyEdge, one_line_error, quiet
from train_edgenet_async import train_one_epoch


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


def frozen_trunk_by_hand(net, head, part, batch, lr, momentum, epochs, seed):
    """The whole network in eval mode, of which SGD changes the last layer alone."""
    net.eval()
    velocity = {name: torch.zeros_like(p) for name, p in head.named_parameters()}
    batches = data.Batches(part, batch, "cpu", shuffle=True, seed=seed)
    for epoch in range(1, epochs + 1):
        for _, images, labels in batches.epoch(epoch):
            net.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            for name, p in head.named_parameters():
                velocity[name] = momentum * velocity[name] + p.grad
                p.data -= lr * velocity[name]
    return net.state_dict()


def test_the_head_on_cached_features_is_the_whole_network_with_a_frozen_trunk(npz, tmp_path):
    """Edge net with batch norm and dropout, local net without; both start from random weights."""
    common = ["--dataset", npz, "--save_dir", tmp_path, "--train_head_only", "--epochs", 3]
    quiet(train_localnet.main, *common, "--lr", 0.05)
    quiet(train_edgenet_async.main, *common, *SMALL_EDGE, "--edge_only")
    part = data.load(str(npz), "data", 0.1, 0).train

    edge = build_edge("tiny", 4, 32, 43)
    expected = frozen_trunk_by_hand(edge, edge[6], part, 16, 0.05, 0.9, 3, seed=43)
    torch.testing.assert_close(state_of(tmp_path, "edgenet"), expected, rtol=1e-4, atol=1e-5)

    experiment.seed_everything(42)
    local = build_local("lenet5", 4)
    expected = frozen_trunk_by_hand(local, local.fc3, part, 16, 0.05, 0.9, 3, seed=42)
    torch.testing.assert_close(state_of(tmp_path, "localnet"), expected, rtol=1e-4, atol=1e-5)


class Frozen(nn.Module):
    """A network that stays in eval mode and gets gradients in its last layer alone."""

    def __init__(self, net, last):
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        net[last].requires_grad_(True)

    def train(self, mode=True):
        return self

    def forward(self, images):
        return self.net(images)


FREQS = (1, 2, 0, "joint", adaptive(0.1))


def one_epoch(edge, batches, inputs, head_params, pictures):
    """L1, L2, refreshes and rejectors after one epoch of 7 batches."""
    step = EdgeStep(edge, torch.optim.SGD(head_params, 0.5, 0.9), 16)
    rejectors = Rejectors(
        [Setting(s, 1.25, 0.25) for s in FREQS], edge, torch.device("cpu"), seed=0, lr=0.01,
        momentum=0.9, ask=step.ask, probe=inputs.plain(torch.arange(8)), probe_every=3,
    )  # fmt: skip
    local = torch.randn(len(batches.labels), 4, generator=torch.Generator().manual_seed(4))
    losses = train_one_epoch(step, rejectors, inputs, local, 1, "", pictures=pictures)
    return *losses, rejectors.copies.refreshes, rejectors.net.state_dict()


def test_rejectors_learn_from_the_head_s_answers(npz):
    part = data.load(str(npz), "data", 0.1, 0).train
    batches = data.Batches(part, 16, "cpu", shuffle=True, seed=1)
    whole = build_edge("tiny", 4, 32, 3)
    alone = copy.deepcopy(whole)
    expected = one_epoch(Frozen(whole, 6), batches, batches, whole[6].parameters(), None)
    head, (features,) = head_and_features(alone, 32, [(batches, data.Batches(part, 50, "cpu"))])
    done = one_epoch(head, batches, features, head.parameters(), batches)
    torch.testing.assert_close(done, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.state_dict(), whole.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_refresh_sends_the_head(npz, tmp_path, trained):
    """And the networks that it leaves are like any others."""
    shutil.copy(trained / "tiny-localnet.pth", tmp_path)
    flags = ["--dataset", npz, "--save_dir", tmp_path]
    quiet(
        train_edgenet_async.main, *flags, *SMALL_EDGE, "--epochs", 2, "--async_freq", 1, 3,
        "--train_head_only", "--progress_every", 2,
    )  # fmt: skip
    quiet(eval_all.main, *flags)
    for s, refreshes in ((1, 14), (3, 6)):
        file = experiment.load_checkpoint(
            tmp_path / f"tiny-edgenet-async-{s}-cost_1-1.25-cost_e-0.25.pth"
        )
        assert (file["refreshes"], file["bytes_sent"]) == (refreshes, refreshes * 4 * (128 * 4 + 4))


@pytest.mark.parametrize(
    ("main", "flags", "telling"),
    [
        (train_edgenet_async.main, ["--lr_trunk", 0.1], "trains the last layer alone"),
        (train_edgenet_async.main, ["--augment", "flip_crop"], "computes the features once"),
        (train_edgenet_async.main, ["--compile"], "trains the last layer alone"),
        (
            train_edgenet_async.main,
            ["--edge_net", "squeezenet1_1", "--edge_size", 64],
            "changes what its last layer computes",
        ),
        (train_localnet.main, ["--lr_trunk", 0.1], "trains the last layer alone"),
        (train_localnet.main, ["--epochs", 0, "--local_weights", "w.pth"], "trains nothing"),
        (train_localnet.main, ["--local_net", "msdnet:2"], "is trained already"),
    ],
)
def test_flags_that_do_not_go_with_the_head_alone(main, flags, telling, npz, tmp_path, refused):
    run = tmp_path / "run"
    here = ["--dataset", npz, "--save_dir", run, "--train_head_only", *flags]
    here += ["--edge_only"] if main is train_edgenet_async.main else []
    refused(main, *here, telling=telling)
    assert not run.exists()
