"""CUDA graphs on a CPU, where every step runs eagerly; tests/test_cuda.py has the rest."""

import pytest
import torch

from experiment.cuda_graph import EAGER_FIRST, StepGraph, portable, set_lr, steer


def test_on_a_cpu_every_call_is_a_step():
    weight = torch.zeros(2)
    step = StepGraph(lambda x: weight.add_(x), "cpu")
    for _ in range(EAGER_FIRST + 2):
        step(torch.ones(2))
    assert weight.tolist() == [EAGER_FIRST + 2] * 2


@pytest.mark.parametrize("rate_on", [None, torch.device("cpu")])
def test_rates_are_set_and_saved_as_numbers(rate_on):
    """A state dict written by a run with tensors as rates loads on any device."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.25)
    steer(optimizer, rate_on)
    rate = optimizer.param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor) is (rate_on is not None)
    set_lr(optimizer, 0.5)
    assert float(optimizer.param_groups[0]["lr"]) == 0.5
    if rate_on:
        assert optimizer.param_groups[0]["lr"] is rate  # a graph reads this very tensor
    (group,) = portable(optimizer)["param_groups"]
    assert isinstance(group["lr"], float)
    steer(optimizer, None)
    assert isinstance(optimizer.param_groups[0]["lr"], float)


@pytest.mark.parametrize("rate_on", [None, torch.device("cpu")])
def test_each_group_has_its_rate(rate_on):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.25, 1.0)]
    optimizer = torch.optim.SGD(groups)
    steer(optimizer, rate_on)
    set_lr(optimizer, [0.125, 0.5])
    assert [group["lr"] for group in portable(optimizer)["param_groups"]] == [0.125, 0.5]
    set_lr(optimizer, 2.0)
    assert [group["lr"] for group in portable(optimizer)["param_groups"]] == [2.0, 2.0]
