"""What costs and S are asked for, and the names of files that carry them."""

import itertools

import pytest

import train_edgenet_async
import train_rejector
from learning_to_help.flags import cost_pairs, settings_of
from learning_to_help.settings import Setting, release_reads, released_setting

COSTS = ["0", "0.1", "0.1000000000000001", "1e-05", "0.00001234", "1", "1.25", "1e5"]


def by_place(stem):
    """(S, c_1, c_e) as the release's scripts take them from a name; S is None for joint ones."""
    fields = stem.split("-")
    if "async" in stem:
        return int(fields[3]), float(fields[5]), float(fields[7])
    return None, float(fields[3]), float(fields[5])


def settings(*argv):
    return settings_of(train_edgenet_async.parse_args([str(a) for a in argv]))


@pytest.mark.parametrize("flags", [["--async_freq", "1", "0", "100"], ["--joint"]])
def test_names_give_the_release_their_numbers_and_differ(flags):
    """Read by place, every name has the costs as they were typed, to the last bit."""
    costs = [f"{a}:{b}" for a, b in itertools.product(COSTS, [*COSTS, "-0"])]
    made = settings("--costs", *costs, *flags)
    names = [setting.stem("cifar10") for setting in made]
    assert len(set(names)) == len(made) == len(COSTS) ** 2 * max(1, len(flags) - 1)
    for setting, name in zip(made, names, strict=True):
        freq = None if setting.async_freq == "joint" else setting.async_freq
        assert by_place(name) == (freq, setting.cost_1, setting.cost_e)
        assert release_reads(name)
        assert released_setting(name) == setting._replace(surrogate="released")


def test_names_that_the_release_does_not_read():
    """A rival would take the place of the surrogate with its costs; an S must be a number."""
    made = settings(
        "--adaptive", "1e-05", "0.00002", "--extra_surrogates", "one_vs_all", "cost_sensitive"
    )
    names = {setting.stem("SVHN"): setting for setting in made}
    assert len(names) == len(made) == 9
    assert [name for name in names if release_reads(name)] == [made[0].stem("SVHN")]
    assert not release_reads("SVHN-edgenet-async-joint-cost_1-1-cost_e-0")  # as it was once
    assert not release_reads("SVHN-edgenet-cost_1-1-cost_e-1e-05")
    assert not release_reads("SVHN-rejector-both-released-cost_1-1-cost_e-0")


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("cifar10-edgenet-async-10-cost_1-1.2-cost_e-0.2", (10, 1.2, 0.2)),
        ("SVHN-edgenet-async-0-cost_1-1.0-cost_e-0.0", (0, 1.0, 0.0)),
        ("my-data-edgenet-cost_1-1.25-cost_e-0.025", ("joint", 1.25, 0.025)),
        ("cifar10-edgenet-async-1-cost_1-1e-05-cost_e-1e+16", (1, 1e-05, 1e16)),
        ("cifar10-edgenet-only", None),
        ("cifar10-localnet", None),
        ("release", None),
        ("cifar10-edgenet-async-1-cost_1-1.25-cost_e-0.25-cost_sensitive", None),
    ],
)
def test_names_of_the_release(stem, expected):
    assert released_setting(stem) == (expected and Setting(*expected, "released"))


@pytest.mark.parametrize(
    ("flags", "pairs"),
    [
        ([], [(1.25, 0.25)]),
        (["--cost_1", "1", "2"], [(1, 0.25), (2, 0.25)]),
        (["--cost_e", "0.1"], [(1.25, 0.1)]),
        (["--cost_e", "0.1", "--costs", "1:0"], [(1, 0), (1.25, 0.1)]),
        (["--cost_1", "1", "--cost_e", "0", "0.5"], [(1, 0), (1, 0.5)]),
    ],
)
def test_what_a_lone_cost_is_paired_with(flags, pairs):
    assert cost_pairs(train_edgenet_async.parse_args(flags)) == pairs
    assert [setting[1:3] for setting in settings(*flags)] == pairs
    per_cost = train_rejector.parse_args(["--rejector", "per_cost", *flags])
    assert cost_pairs(per_cost) == pairs
