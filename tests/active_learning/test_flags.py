"""Flags that have no effect with the others are refused, and nothing is written."""

import pytest

from active_learning import al_select, train_net

EPOCHS = ["--epochs", 4]


@pytest.mark.parametrize(
    ("script", "round_", "methods", "flags", "telling"),
    [
        (
            al_select,
            0,
            "random",
            ["--batch_size", 20],
            "--batch_size: has no effect at",
        ),
        (al_select, 0, "entropy", ["--bf16"], "--bf16: has no effect at --al_iter 0"),
        (al_select, 2, "random", ["--initial_size", 60], "--initial_size: has no effect at"),
        (al_select, 1, "random", ["--forget"], "--forget: has no effect at --al_iter 1"),
        (al_select, 2, "DIAM random", ["--DIAMq", 1], "--DIAMq: has no effect without"),
        (al_select, 2, "DIAM margin", ["--local_id", 0], "--local_id: has no effect without"),
        (al_select, 2, "DIAM CAL", ["--no-bf16"], "--bf16: has no effect on DIAM and CAL"),
        (al_select, 0, "random", ["--init", "weights"], "--init weights has no effect: no target"),
        (train_net, 0, "DIAM", ["--no-mDIS", "--DIS_frac", 0.5], "--DIS_frac: has no effect with"),
        (train_net, 0, "random", ["--dropout", 0.1], "--dropout has no effect: no target is"),
        (train_net, 0, "random", ["--net_id", 0, "--bn_momentum", 0.1], "--bn_momentum has no"),
        # A single epoch that votes: no vote can change.
        (
            train_net,
            0,
            "random DIAM",
            ["--epochs", 1],
            "DIAM needs predictions from at least two epochs",
        ),
        (
            train_net,
            0,
            "CAL",
            [*EPOCHS, "--DIS_frac", 0.25],
            "CAL needs predictions from at least two epochs",
        ),
    ],
)
def test_flags_without_effect(common, refused, tmp_path, script, round_, methods, flags, telling):
    given = [*common(tmp_path, round_, *methods.split()), *flags]
    refused(script.main, *given, telling=telling)
    assert not list(tmp_path.iterdir())
