"""benchmarks.early_exit_speed: plain steps are ours, what is counted, and what is made of it."""

import pytest
import torch

from benchmarks import early_exit_speed
from benchmarks.early_exit_speed import make_trainer, multiply_adds, our_steps, plain_steps
from losses.early_exit import METHODS

FEW = ["--n_blocks", "2", "--base", "1", "--step", "1", "--n_channels", "2", "--growth_rate", "2"]
CPU = torch.device("cpu")


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(6, 3, 32, 32), torch.randint(0, 10, (6,))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", METHODS)
def test_plain_steps_are_ours(method, double, batch):
    """In float64: what is timed beside each other has the same outcome, the weight net's too."""
    images, labels = batch[0].double(), batch[1]
    trainers = [make_trainer(method, FEW, CPU) for _ in range(2)]
    before = [p.clone() for p in trainers[0].net.parameters()]
    for steps, trainer in zip((plain_steps, our_steps), trainers, strict=True):
        for step in steps(method, trainer, images, labels).values():
            step()
    for name in ("net", "weight_net")[: 1 + (method == "l2w")]:
        plain, ours = (getattr(trainer, name).state_dict() for trainer in trainers)
        for key, value in plain.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-8, msg=key)
    after = trainers[1].net.parameters()
    assert max((p - q).abs().max() for p, q in zip(before, after, strict=True)) > 1e-3


def test_multiply_adds_are_those_of_the_documentation(batch):
    """Passes over half a batch: 3 a half for base, 11 for l2w, where double backward takes 15."""
    counts = {}
    for name, steps in (("plain", plain_steps), ("ours", our_steps)):
        for method in ("base", "l2w"):
            made = steps(method, make_trainer(method, FEW, CPU), *batch)
            counts |= {f"{name}, {kind}": multiply_adds(step) for kind, step in made.items()}
    base = counts["ours, base"]
    assert counts["plain, base"] == base
    assert counts["ours, l2w"] / base == pytest.approx(11 / 3, abs=0.05)
    assert counts["ours, l2w without meta"] / base == pytest.approx(1, abs=0.02)
    assert counts["plain, l2w"] / base > 4.8


def test_summary():
    """By hand: medians, ratios to plain, and l2w's cost by --meta_interval."""
    taken = {
        "base": {"plain": [1.0, 9.0, 2.0], "ours": [1.0, 1.0, 8.0]},
        "boosted": {"plain": [2.0], "ours": [4.0]},
        "l2w": {"plain": [10.0], "ours": [6.0, 3.0, 9.0]},
        "l2w without meta": {"plain": [2.0], "ours": [2.0]},
        "base beside l2w": {"plain": [2.0], "ours": [2.0, 2.0, 3.0]},
    }
    found = early_exit_speed.summary(taken, 8)
    assert found["methods"]["base"]["plain"]["images_per_second"] == 4
    assert found["methods"]["base"]["ours"]["ratio"] == 2
    assert found["methods"]["boosted"]["ours"]["ratio"] == 0.5
    ours = found["l2w_to_base"]["ours"]
    assert ours["by_meta_interval"] == {1: 3, 2: 2, 10: 1.2, 100: 1.02}
    assert ours["range"] == [1.5, 3]
    assert found["l2w_to_base"]["plain"]["to_plain_base"][1] == 5
