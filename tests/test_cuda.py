"""CUDA graphs against eager steps. Skipped without a GPU.

test.sh hides GPUs; on a machine with one: .venv/bin/python -m pytest tests/test_cuda.py
"""

import copy
import json

import pytest
import torch

import data
import experiment
import train_localnet
from early_exit import train as early_exit_train
from experiment.cuda_graph import EAGER_FIRST, StepGraph, set_lr, steer
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.edgenet import build_edge
from models.localnet import LeNet5
from tests.made import make_npz, quiet
from train_edgenet_async import train_one_epoch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SETTINGS = [Setting(s, 1.25, 0.25) for s in (1, 3, 0, "joint")]


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def made_batches(count=16 * 9 + 5):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (count,), generator=generator)
    part = data.Part(images, labels, torch.arange(count))
    return data.Batches(part, 16, "cuda", shuffle=True)


def test_the_local_net_replayed_is_the_local_net():
    batches, losses, nets = made_batches(), [], []
    torch.manual_seed(0)
    first = LeNet5(10).cuda()
    for graph in (False, True):
        net = copy.deepcopy(first)
        optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, fused=True)
        step = StepGraph(train_localnet.training_step(net, optimizer), "cuda", graph)
        losses.append([train_localnet.train_one_epoch(net, step, batches, e, "") for e in (0, 1)])
        nets.append(net)
        assert (step.replay is not None) is graph
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["convnet", "alexnet"])
def test_one_pass_replayed_is_one_pass(name):
    """alexnet: dropout draws the same numbers from a graph as without."""
    batches, first, found = made_batches(), build_edge(name, 10, 64, 0).cuda(), []
    local_logits = torch.randn(16 * 9 + 5, 10, device="cuda")
    for graph in (False, True):
        edge = copy.deepcopy(first)
        optimizer = torch.optim.SGD(edge.parameters(), 0.01, 0.9, fused=True)
        step = EdgeStep(edge, optimizer, 16, graph=graph)
        flags = {"seed": 0, "lr": 0.01, "momentum": 0.9, "ask": step.ask, "graph": graph}
        rejectors = Rejectors(SETTINGS, edge, torch.device("cuda"), **flags)
        losses = []
        for epoch in (0, 1):
            torch.manual_seed(epoch)
            losses.append(train_one_epoch(step, rejectors, batches, local_logits, epoch, ""))
        found.append([torch.cat(parts) for parts in zip(*losses, strict=True)])
        assert (step.step.replay is not None) is graph
        assert (rejectors.update.replay is not None) is graph
    assert torch.allclose(found[0][0], found[1][0], atol=2e-3)
    # An answer on the edge of two classes may fall either way; few do.
    assert (found[0][1] - found[1][1]).abs().lt(0.02).float().mean() > 0.95


def test_a_step_that_reads_a_value_falls_back():
    def step(x):
        return x * 2 if x.sum().item() > 0 else x * 3

    graphed = StepGraph(step, "cuda")
    ones = torch.ones(2, device="cuda")
    for _ in range(EAGER_FIRST):
        graphed(ones)
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert graphed(ones).tolist() == [2.0, 2.0]
    assert graphed(-ones).tolist() == [-3.0, -3.0]


def test_outputs_are_static_and_other_shapes_run_eagerly():
    step = StepGraph(lambda x: x * 2, "cuda")
    replayed = [step(torch.full((3,), float(k), device="cuda")) for k in range(EAGER_FIRST + 3)]
    assert step.replay is not None
    assert replayed[-1] is replayed[-2]
    assert replayed[-1].tolist() == [2.0 * (EAGER_FIRST + 2)] * 3
    assert step(torch.ones(5, device="cuda")).tolist() == [2.0] * 5
    assert step(torch.ones(3, dtype=torch.int64, device="cuda")).dtype == torch.int64


def test_a_replay_reads_the_rate_that_set_lr_sets():
    weight = torch.zeros(1, device="cuda", requires_grad=True)
    optimizer = torch.optim.SGD([weight], 1.0, fused=True)
    steer(optimizer, weight.device)

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        (weight * x).sum().backward()
        optimizer.step()
        return weight.detach().clone()

    graphed, expected = StepGraph(step, "cuda"), 0.0
    for k in range(EAGER_FIRST + 4):
        set_lr(optimizer, 1 / (1 + k))
        expected -= 1 / (1 + k)
        assert graphed(torch.ones(1, device="cuda")).item() == pytest.approx(expected, rel=1e-5)
    assert graphed.replay is not None


@pytest.mark.parametrize("method", ["base", "l2w", "boosted"])
def test_early_exits_learn_with_graphs_as_without(method, tmp_path):
    npz = make_npz(tmp_path / "made.npz")
    flags = ["--dataset", str(npz), "--arch", "msdnet", "--method", method, "--epochs", "2"]
    flags += ["--batch_size", "16", "--device", "cuda", "--lr", "0.01"]
    states, losses = [], []
    for extra in (["--no-graph"], []):
        folder = tmp_path / f"run{len(extra)}"
        quiet(early_exit_train.main, *flags, *extra, "--save_dir", folder)
        (path,) = folder.glob("*-msdnet.pth")
        states.append(torch.load(path, weights_only=True)["state_dict"])
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    if method == "l2w":  # on a CPU, losses that are 1e-7 off leave 184 of its 470 tensors near
        return
    near = [
        torch.allclose(a, states[1][k], rtol=0.05, atol=1e-3)
        for k, a in states[0].items()
        if a.is_floating_point()
    ]
    assert sum(near) > 0.9 * len(near)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("cut", [2, EAGER_FIRST + 1, 8])
def test_steps_continued_from_a_state_draw_the_same_dropout(graph, cut):
    """Before and after the capture. ResNet-18: AlexNet's pooling adds in any order on CUDA."""
    device, steps = torch.device("cuda"), [(i, y) for _, i, y in made_batches().epoch(0)]

    def fresh():
        edge = build_edge("resnet18", 10, 64, 0).to(device)
        torch.manual_seed(1)
        edge.net.fc = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, 10)).to(device)
        optimizer = torch.optim.SGD(edge.parameters(), 0.01, 0.9, fused=True)
        return edge, optimizer, EdgeStep(edge, optimizer, 16, graph=graph)

    found = []
    for stop in (None, cut):
        edge, optimizer, step = fresh()
        torch.manual_seed(5)
        losses = []
        for k, (images, labels) in enumerate(steps):
            if k == stop:
                state = copy.deepcopy((edge.state_dict(), optimizer.state_dict()))
                random = experiment.random_state(device)
                edge, optimizer, step = fresh()
                edge.load_state_dict(state[0])
                optimizer.load_state_dict(state[1])
                experiment.set_random_state(random, device)
            losses.append(step(images, labels)[0].clone())
        found.append([torch.stack(losses), *edge.state_dict().values()])
    assert all(map(torch.equal, *found))
