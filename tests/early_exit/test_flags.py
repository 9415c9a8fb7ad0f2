"""Schedules and optimizers of early_exit.train, from their flags."""

import math

import pytest

from early_exit.flags import factor
from early_exit.train import parse_args


def test_schedules():
    shares = [0, 0.25, 0.5, 0.75, 1]
    assert [factor("linear", x) for x in shares] == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert [factor("constant", x) for x in shares] == [1] * 5
    assert [factor("steps", x) for x in shares] == [1, 1, 0.1, 0.01, 0.01]
    cosine = [(1 + math.cos(math.pi * x)) / 2 for x in shares]
    assert [factor("cosine", x) for x in shares] == pytest.approx(cosine)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "steps", "constant"])
def test_the_schedule_starts_after_the_warm_up(schedule):
    assert [factor(schedule, x, 0.2) for x in (0, 0.05, 0.1)] == pytest.approx([0, 0.25, 0.5])
    for share in (0.2, 0.6, 1.0):
        rest = factor(schedule, (share - 0.2) / 0.8)
        assert factor(schedule, share, 0.2) == pytest.approx(rest)


def test_batches_of_like_length_are_of_texts_of_their_own_lengths(refused):
    grouped = ("--group_by_length",)
    refused(parse_args, *grouped, telling="goes with an --arch that reads text")
    refused(parse_args, "--arch", "bert", "--compile", *grouped, telling="pads all texts alike")


def test_defaults_depend_on_the_optimizer(refused):
    sgd, adamw = parse_args([]), parse_args(["--optimizer", "adamw"])
    assert (sgd.lr, sgd.weight_decay) == (0.1, 1e-4)
    assert (adamw.lr, adamw.weight_decay) == (5e-5, 0.01)
    given = parse_args(["--optimizer", "adamw", "--lr", "0.3", "--weight_decay", "0"])
    assert (given.lr, given.weight_decay) == (0.3, 0)
    refused(parse_args, "--optimizer", "adamw", "--nesterov", telling="goes with --optimizer sgd")
    refused(parse_args, "--nesterov", "--momentum", 0, telling="needs a --momentum above 0")
    refused(parse_args, "--warmup", 1.5, telling="--warmup")


@pytest.mark.parametrize(
    ("arch", "flag", "values"),
    [
        ("msdnet", "n_blocks", (0, 1.5)),
        ("msdnet", "reduction", (-0.1, 1.1, "nan")),
        ("ranet", "step", (-1,)),
        ("ranet", "compress_factor", (0, 1, "nan")),
        ("resnet", "width", (0,)),
        ("vit", "num_layers", (0,)),
        ("vit", "vit_size", (-8,)),
        ("vit", "vit_dropout", (-0.1, 1)),
        ("bert", "num_layers", (0,)),
        ("bert", "vocab_size", (4,)),
        ("bert", "bert_dropout", (1,)),
    ],
)
def test_impossible_values_of_a_network(arch, flag, values, refused):
    for value in values:
        refused(parse_args, "--arch", arch, f"--{flag}={value}", telling=f"argument --{flag}: ")
