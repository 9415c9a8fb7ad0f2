"""experiment.cuda_graph: a step that is recorded and replayed is the step."""

import copy

import pytest
import torch
from torch import nn

from experiment.cuda_graph import EAGER_FIRST, StepGraph, set_lr, steer
from tests import recorded
from tests.made import noise_batches
from train_localnet import training_step


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(4 * 36, 5),
    )  # fmt: skip


def train(net, sizes, lrs, capture):
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, fused=True)
    step = training_step(net, optimizer)
    if capture:
        steer(optimizer, torch.device("cpu"))
        step = StepGraph(step, "cpu", capture=capture)
    torch.manual_seed(2)
    losses = torch.empty(len(sizes))
    for i, (images, labels) in enumerate(noise_batches(sizes, 5, 8)):
        set_lr(optimizer, lrs[i])
        losses[i] = step(images, labels)
    return losses, optimizer, step


def test_replays_are_the_eager_steps_to_the_bit():
    """Dropout, batch norm's statistics, momenta, a rate that falls, a batch of another size."""
    sizes, lrs = [6] * 8 + [4] + [6] * 3, [0.1 / (1 + i) for i in range(12)]
    eager = small_net()
    graphed = copy.deepcopy(eager)
    a, _, _ = train(eager, sizes, lrs, None)
    b, optimizer, step = train(graphed, sizes, lrs, recorded.capture)
    assert step.replay is not None
    assert torch.equal(a, b)
    for mine, its in zip(graphed.state_dict().values(), eager.state_dict().values(), strict=True):
        assert torch.equal(mine, its)
    assert optimizer.param_groups[0]["lr"].item() == pytest.approx(lrs[-1])


def test_a_rate_that_is_a_number_stays_as_it_was_captured():
    """Why `steer` is there: the stand-in keeps Python's numbers, as a CUDA graph does."""
    a = train(small_net(), [6] * 6, [0.1] * 6, recorded.capture)[0]
    net = small_net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, fused=True)
    step = StepGraph(training_step(net, optimizer), "cpu", capture=recorded.capture)
    torch.manual_seed(2)
    losses = []
    for i, (images, labels) in enumerate(noise_batches([6] * 6, 5, 8)):
        set_lr(optimizer, 0.1 if i <= EAGER_FIRST else 50.0)
        losses.append(step(images, labels).clone())
    assert torch.equal(torch.stack(losses), a)


def test_what_is_given_lies_in_the_same_memory():
    step = StepGraph(lambda x: x + 1, "cpu", capture=recorded.capture)
    found = [step(torch.full((2,), float(i))) for i in range(EAGER_FIRST + 3)]
    assert found[-1] is found[-2]
    assert found[-1].tolist() == [EAGER_FIRST + 3.0] * 2


def test_inputs_of_another_shape_or_type_run_eagerly():
    step = StepGraph(lambda x: x * 2, "cpu", capture=recorded.capture)
    for _ in range(EAGER_FIRST + 1):
        step(torch.ones(3))
    assert step.replay is not None
    assert step(torch.ones(5)).tolist() == [2.0] * 5
    assert step(torch.ones(3, dtype=torch.int64)).dtype == torch.int64
    assert step(torch.full((3,), 4.0)).tolist() == [8.0] * 3


def test_the_first_call_says_for_which_shape_the_graph_is():
    step = StepGraph(lambda x: x * 2, "cpu", capture=recorded.capture)
    step(torch.ones(3))
    for _ in range(EAGER_FIRST + 2):
        step(torch.ones(2))
    assert step.replay is None
    for _ in range(EAGER_FIRST):
        step(torch.ones(3))
    assert [x.shape for x in step.inputs] == [torch.Size([3])]


def test_a_step_that_reads_a_value_is_not_captured_and_still_right():
    def step(x):
        return x * 2 if x.sum() > 0 else x * 3

    graphed = StepGraph(step, "cpu", capture=recorded.capture)
    for _ in range(EAGER_FIRST):
        graphed(torch.ones(2))
    with pytest.warns(UserWarning, match="runs eagerly.*_local_scalar_dense"):
        assert graphed(torch.ones(2)).tolist() == [2.0, 2.0]
    assert graphed(-torch.ones(2)).tolist() == [-3.0, -3.0]
    assert not graphed.enabled


def test_no_graph_on_a_cpu_or_where_it_is_not_wanted():
    step = StepGraph(lambda x: x + 1, "cpu")
    for _ in range(EAGER_FIRST + 2):
        step(torch.ones(1))
    assert step.replay is None
    step = StepGraph(lambda x: x + 1, "cpu", enabled=False, capture=recorded.capture)
    for _ in range(EAGER_FIRST + 2):
        step(torch.ones(1))
    assert step.replay is None


def test_recording_takes_no_step():
    x, y = torch.ones(2), torch.zeros(2)
    random = torch.get_rng_state()
    replay, _ = recorded.capture(lambda v: (y.add_(v), torch.rand(1)), [x])
    assert y.tolist() == [0.0, 0.0]
    assert torch.equal(torch.get_rng_state(), random)
    replay(), replay()
    assert y.tolist() == [2.0, 2.0]


def test_rates_go_back_to_numbers():
    optimizer = torch.optim.SGD(small_net().parameters(), 0.25)
    steer(optimizer, torch.device("cpu"))
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)
    steer(optimizer, None)
    assert optimizer.param_groups[0]["lr"] == 0.25
