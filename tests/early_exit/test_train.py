"""early_exit/train.py: all methods on all networks, resumed, and on two processes."""

import json

import pytest

import experiment
from early_exit import train
from tests.made import quiet

ARCHS = {
    "msdnet": ["--n_blocks", 3, "--base", 1, "--step", 1, "--n_channels", 8, "--growth_rate", 4],
    "ranet": [
        "--n_blocks", 1, "--block_step", 1, "--step", 2, "--n_channels", 8, "--growth_rate", 4,
    ],
    "vit": ["--hidden_dim", 32, "--num_layers", 3, "--mlp_dim", 64, "--patch_size", 8],
    "resnet": ["--width", 8],
}  # fmt: skip
FLAGS = {"msdnet": ["--lr", 0.1], "ranet": ["--lr", 0.1], "vit": ["--lr", 0.05]}
TINY = [*ARCHS["msdnet"], "--batch_size", 16, "--lr", 0.05]
METHODS = ("base", "l2w", "boosted")


def metrics(run):
    return [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]


def state(run, name="tiny-msdnet"):
    return experiment.load_checkpoint(run / f"{name}.pth")["state_dict"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arch", ARCHS)
def test_every_method_on_every_network(arch, method, tmp_path):
    """On the digits: the loss falls, the last exit is better than the first, and than chance."""
    flags = [*ARCHS[arch], *FLAGS.get(arch, ["--lr", 0.05]), "--batch_size", 32]
    epochs = 3 if method == "l2w" else 4
    quiet(
        train.main, "--arch", arch, "--method", method, *flags, "--epochs", epochs,
        "--save_dir", tmp_path,
    )  # fmt: skip
    losses = [line["loss"] for line in metrics(tmp_path)]
    assert losses[-1] < 0.8 * losses[0]
    result = json.loads((tmp_path / f"digits-{arch}.json").read_text())
    print(arch, method, losses, result["test"])
    assert max(result["test"]) > 0.4
