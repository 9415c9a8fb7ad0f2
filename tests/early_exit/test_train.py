"""early_exit/train.py: all methods on all networks, and what is refused."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import data
import experiment
from early_exit import train
from early_exit.flags import arch_settings, make_method
from early_exit.inputs import pixel_stats
from experiment.parallel import Workers
from experiment.within_epoch import WithinEpoch
from losses.early_exit import boosted_logits, exit_losses
from models.exit_nets import EXIT_NETS
from tests.made import quiet

ARCHS = {
    "msdnet": [
        "--n_blocks", 3, "--base", 1, "--step", 1, "--n_channels", 8, "--growth_rate", 4,
        "--lr", 0.1, "--epochs", 2,
    ],
    "ranet": ["--n_blocks", 1, "--block_step", 1, "--step", 2, "--n_channels", 8],
    "resnet": ["--width", 8, "--exits", "2-3-4", "--lr", 0.05, "--epochs", 3],
    "vit": [
        "--hidden_dim", 32, "--num_layers", 3, "--num_heads", 2, "--mlp_dim", 64,
        "--patch_size", 8, "--lr", 0.05, "--epochs", 8,
    ],
}  # fmt: skip
TINY = [*ARCHS["msdnet"][:10], "--batch_size", 16, "--lr", 0.05]


def metrics(run):
    return [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """680 and 200 of the digits, as small as the networks take them: digits["msdnet"] is a path."""
    dataset = data.load("digits")
    kept = {"train": (dataset.train, 680), "test": (dataset.test, 200)}
    paths = {}
    for arch, times in (("msdnet", 3), ("resnet", 2)):  # of 8 px
        arrays = {}
        for split, (part, count) in kept.items():
            pixels = part.images[:count, :, ::4, ::4].permute(0, 2, 3, 1).numpy()
            arrays[f"x_{split}"] = pixels.repeat(times, axis=1).repeat(times, axis=2)
            arrays[f"y_{split}"] = part.labels[:count].numpy()
        paths[arch] = tmp_path_factory.mktemp(arch) / "digits.npz"
        np.savez(paths[arch], **arrays)
    return paths


@pytest.mark.parametrize(
    ("arch", "method"),
    [("msdnet", "boosted"), ("resnet", "base")],
)
def test_every_method_and_every_network_learns(arch, method, digits, tmp_path):
    """On 600 digits the loss falls, all exits learn, and the last exit is not worse than the first.

    MSDNet's first exit, with 128 channels of its own, reaches 90 % before the later ones.
    """
    quiet(
        train.main, "--dataset", digits[arch], "--arch", arch, "--method", method, *ARCHS[arch],
        "--batch_size", 32, "--val_size", 80, "--save_dir", tmp_path,
    )  # fmt: skip
    losses = [line["loss"] for line in metrics(tmp_path)]
    assert losses[-1] < 0.85 * losses[0]
    test = json.loads((tmp_path / f"digits-{arch}.json").read_text())["test"]
    dense = arch == "msdnet"
    assert min(test) > (0.8 if dense else 0.15)
    assert test[-1] > test[0] - (0.05 if dense else 0)


def test_a_checkpoint_says_what_it_is(npz, tmp_path):
    """And its accuracies are those of the ensembles, on images normalised by train's pixels."""
    flags = [*TINY, "--method", "boosted", "--ensemble_reweight", 0.7, "--epochs", 1]
    quiet(train.main, "--dataset", npz, *flags, "--save_dir", tmp_path)
    checkpoint = experiment.load_checkpoint(tmp_path / "tiny-msdnet.pth")
    dataset = data.load(str(npz))
    assert checkpoint["kind"] == "early_exit"
    assert checkpoint["ensemble_reweight"] == 0.7
    assert checkpoint["data"] == dataset.fingerprint()
    assert (checkpoint["mean"], checkpoint["std"]) == pixel_stats(dataset.train)
    net = EXIT_NETS["msdnet"].from_settings(checkpoint["settings"], 4, 32).eval()
    net.load_state_dict(checkpoint["state_dict"])
    pixels = dataset.test.images / 255
    mean, std = (torch.tensor(checkpoint[k])[:, None, None] for k in ("mean", "std"))
    with torch.no_grad():
        right = boosted_logits(net((pixels - mean) / std), 0.7).argmax(-1) == dataset.test.labels
    result = json.loads((tmp_path / "tiny-msdnet.json").read_text())
    assert result["test"] == pytest.approx(right.float().mean(1).tolist())


def test_base_is_plain_sgd_on_the_sum_of_cross_entropies(npz, tmp_path):
    """One epoch written out: the loop, the schedule and the optimizer add nothing."""
    flags = [*TINY, "--epochs", 1, "--weight_decay", 0.01, "--label_smoothing", 0.1]
    quiet(train.main, "--dataset", npz, *flags, "--save_dir", tmp_path, "--seed", 3)
    checkpoint = experiment.load_checkpoint(tmp_path / "tiny-msdnet.pth")
    dataset = data.load(str(npz))
    mean, std = pixel_stats(dataset.train)
    torch.manual_seed(3 * 1_000_003)
    net = EXIT_NETS["msdnet"].from_settings(checkpoint["settings"], 4, 32).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9, weight_decay=0.01, fused=True)
    batches = data.Batches(dataset.train, 16, "cpu", shuffle=True, seed=3, mean=mean, std=std)
    for i, (_, images, labels) in enumerate(batches.epoch(1)):
        falling = (1 + math.cos(math.pi * i / len(batches))) / 2
        optimizer.param_groups[0]["lr"] = 0.05 * falling
        optimizer.zero_grad()
        # The sum over exits of the mean; in this order, since rounding grows tenfold a step.
        (exit_losses(net(images), labels, 0.1).sum() * (1 / len(labels))).backward()
        optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(checkpoint["state_dict"][name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arch", "extra", "t", "equilibrium"),
    [
        ("msdnet", [], 0.5, "all"),
        ("msdnet", ["--equilibrium", "coarsest"], 0.5, "coarsest"),
        ("msdnet", ["--ensemble_reweight", "0.9"], 0.9, "all"),
        ("ranet", [], 0.5, "none"),
    ],
)
def test_boosted_steps_on_its_loss_with_its_flags(arch, extra, t, equilibrium):
    """make_method's step from the flags: t of the loss, and which gradients are averaged."""
    flags = ["--arch", arch, *map(str, ARCHS[arch]), "--lr", "0.1", *extra]
    args = train.parse_args(["--method", "boosted", *flags])
    arch = EXIT_NETS[arch]
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6) % 4
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        nets.append(arch.from_settings(arch_settings(args, arch), 4, 32).train())
    make_method(args, nets[0], 32, torch.device("cpu"), Workers()).step(images, labels, 6)
    optimizer = torch.optim.SGD(nets[1].parameters(), 0.1, 0.9, weight_decay=1e-4)
    logits = nets[1](images, equilibrium=equilibrium)
    before = [torch.zeros(6, 4)]
    for f in logits:
        before.append(f.detach() + t * before[-1])
    losses = [F.cross_entropy(f + t * g, labels) for f, g in zip(logits, before, strict=False)]
    sum(losses).backward()
    optimizer.step()
    for p, q in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--arch", "lenet"], "--arch"),
        (["--n_blocks", "0"], "--n_blocks"),
        (["--method", "bagging"], "--method"),
        (["--arch", "vit", "--n_blocks", "3"], "--n_blocks"),
        (["--batch_size", "2", "--method", "l2w"], "l2w needs 4 samples a batch"),
        (["--lr", "nan"], "--lr"),
        (["--dataset", "no-such.npz"], "no such file"),
        (["--stream"], "digits"),
        (["--size", "9"], "images of 17 to 48 px with --stem cifar, or 65 to 192 px with --stem"),
        (["--size", "64"], "these have 64: give such a --size"),
        (["--arch", "ranet", "--size", "64"], "images of 17 to 48 px, and these have 64"),
        (["--arch", "vit", "--size", "9"], "give a divisor, or a multiple of it as --vit_size"),
        (["--meta_interval", "0"], "--meta_interval"),
        (["--nesterov", "--momentum", "0"], "--nesterov"),
        (
            ["--method", "boosted", "--arch", "vit", "--equilibrium", "coarsest"],
            "needs --arch msdnet",
        ),
    ],
)
def test_bad_input(flags, telling, refused, tmp_path):
    refused(train.main, "--save_dir", tmp_path / "run", *flags, telling=telling)
    assert not (tmp_path / "run").exists()


def test_a_broken_picture_in_the_middle(folder, tmp_path, refused):
    """Streamed pictures are read while it trains: the one that cannot be is named."""
    broken = tmp_path / "pets"
    shutil.copytree(folder, broken)
    for path in (broken / "train" / "dog").iterdir():
        path.write_bytes(path.read_bytes()[:90])
    flags = ["--dataset", broken, "--stream", "--arch", "resnet", "--width", 4, "--size", 32]
    flags += ["--batch_size", 4, "--workers", 0, "--val_size", 2, "--save_dir", tmp_path / "run"]
    message = refused(train.main, *flags, telling="cannot be read")
    assert "dog" in message
    assert not list((tmp_path / "run").glob("*.pth"))


def test_a_diverging_run_ends_in_one_line(npz, tmp_path, refused):
    refused(
        train.main, "--dataset", npz, *TINY, "--epochs", 3, "--lr", 1e12, "--save_dir", tmp_path,
        telling="lower the --lr",
    )  # fmt: skip
    assert not (tmp_path / "tiny-msdnet.json").exists()


@pytest.mark.parametrize(
    ("method", "fast_flags"),
    [("boosted", ["--channels_last", "--bf16"]), ("l2w", ["--save_memory"])],
)
def test_flags_for_speed_and_memory_change_little(npz, tmp_path, method, fast_flags):
    flags = ["--dataset", npz, *TINY, "--batch_size", 24, "--method", method, "--epochs", 1]
    flags += ["--val_size", 72, "--lr", 0.01]  # 48 images are left: two steps
    quiet(train.main, *flags, "--save_dir", tmp_path / "plain")
    (plain,) = metrics(tmp_path / "plain")
    for flag in fast_flags:
        quiet(train.main, *flags, flag, "--save_dir", tmp_path / flag)
        (fast,) = metrics(tmp_path / flag)
        assert fast["loss"] == pytest.approx(plain["loss"], rel=0.03 if "bf" in flag else 1e-3)


def test_meta_interval_counts_anew_in_each_epoch(npz):
    """As the authors' code: of 3 batches at interval 2 the first and the last, in every epoch."""
    args = train.parse_args(["--method", "l2w", *map(str, TINY), "--meta_interval", "2"])
    arch = EXIT_NETS["msdnet"]
    net = arch.from_settings(arch_settings(args, arch), 4, 32)
    method = make_method(args, net, 32, torch.device("cpu"), Workers())
    batches = data.Batches(data.load(str(npz)).train, 36, "cpu", shuffle=True, seed=0)
    assert len(batches) == 3
    for epoch in (1, 2):
        train.train_one_epoch(method, batches, epoch, lambda i: None, "", WithinEpoch())
        taken = {int(s["step"]) for s in method.meta_optimizer.state.values()}
        assert taken == {epoch * 2 * 2}  # one for each half of a batch
