"""Checkpoints of runs and published files: what they contain, and one-line errors for bad ones."""

import argparse
import re
from collections import Counter

import numpy as np
import pytest
import torch

import experiment
from early_exit import checkpoints
from early_exit.flags import add_arch_flags, arch_settings
from models.exit_nets import EXIT_NETS, flag_names
from models.localnet import LeNet5
from tests.early_exit.toy import ARCHS, TINY, checkpoint_of, make_net, settings_of
from tests.made import one_line_error

STATS = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


@pytest.fixture(scope="module")
def ours(npz):
    return checkpoint_of(npz, method="boosted", t=0.5)


def save(path, content):
    torch.save(content, path)
    return path


def published(path, arch="msdnet", num_classes=4, size=32, **changes):
    settings = settings_of(arch, **(TINY if arch == "msdnet" else {}) | changes)
    return checkpoints.read_published(path, arch, settings, num_classes, size, *STATS)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_checkpoint_is_read_as_saved(arch, npz, tmp_path):
    saved = checkpoint_of(npz, arch)
    found = checkpoints.read(save(tmp_path / "x.pth", saved))
    for name in ("arch", "settings", "method", "ensemble_reweight", "num_classes", "size"):
        assert getattr(found, name) == saved[name]
    assert (found.mean, found.std) == (saved["mean"], saved["std"])
    assert found.about["data"] == saved["data"]
    assert "state_dict" not in found.about
    assert not found.net.training
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for logits, expected in zip(found.net(images), make_net(arch)(images), strict=True):
            assert torch.equal(logits, expected)


def test_reading_a_pretrained_network_downloads_nothing(npz, tmp_path, monkeypatch):
    monkeypatch.setattr("models.resnet_exits.imagenet_weights", lambda *_: pytest.fail("fetched"))
    saved = checkpoint_of(npz, "resnet")
    saved["settings"]["pretrained"] = True
    assert checkpoints.read(save(tmp_path / "x.pth", saved)).settings["pretrained"] is True


def prefixed(state):
    """As DataParallel saves it."""
    return {f"module.{k}": v for k, v in state.items()}


FORMS = {
    "bare": lambda state: state,
    "of DataParallel": prefixed,
    "of a training script": lambda state: {
        "epoch": 300,
        "arch": "msdnet",
        "state_dict": prefixed(state),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
        "scheduler": None,
    },
    "of Boosted's script": lambda state: {
        "epoch": 299,
        "state_dict": {"model": prefixed(state)},
        "optimizer": {"state": {}, "param_groups": [{"weight_decay": np.float64(1e-4)}]},
        "scheduler": {"milestones": Counter({150: 1, 225: 1}), "last_epoch": np.int64(300)},
    },
    "of Boosted, the weights alone": lambda state: {"model": state},
    "of 2017": lambda state: {
        "state_dict": {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_published_forms_load(form, tmp_path):
    net = make_net()
    found = published(save(tmp_path / "x.pth", FORMS[form](net.state_dict())))
    assert found.net.state_dict().keys() == net.state_dict().keys()
    for name, value in found.net.state_dict().items():
        if "2017" not in form or "num_batches_tracked" not in name:
            assert torch.equal(value, net.state_dict()[name])
    epochs = {"of a training script": 300, "of Boosted's script": 300}
    assert found.about == ({"epochs": epochs[form]} if form in epochs else {})
    assert (found.mean, found.std) == STATS


def test_a_release_that_pickles_more_is_refused_with_what_would_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = argparse.Namespace(data="/data")
    content = {"state_dict": make_net().state_dict(), "best": np.float64(75), "args": args}
    path = save(tmp_path / "x.pth", content)
    with pytest.raises(ValueError, match="not a checkpoint of tensors") as error:
        published(path)
    exec(re.search(r"torch\.save\(.*\)$", str(error.value))[0])  # it is what would do
    assert published(tmp_path / "new.pth").net.num_exits == 3


def without(name):
    return lambda c: {k: v for k, v in c.items() if k != name}


def state(change):
    return lambda c: c | {"state_dict": change(c["state_dict"])}


def with_settings(**changes):
    return lambda c: c | {"settings": c["settings"] | changes}


def not_finite(state):
    return {k: v * np.nan if v.is_floating_point() else v for k, v in state.items()}


BIAS = "classifier.0.linear.bias"
BAD = {
    "no kind": (without("kind"), "give --model_path, --arch"),
    "another kind": (lambda c: c | {"kind": "edge"}, "of kind 'edge'"),
    "no size": (without("size"), "lacks size"),
    "no fingerprint": (without("data"), "lacks data"),
    "an unknown network": (lambda c: c | {"arch": "lenet"}, "network 'lenet' is unknown; msdnet"),
    "another network": (lambda c: c | {"arch": "ranet"}, "its settings of ranet differ"),
    "an unknown method": (lambda c: c | {"method": "x"}, "'x' is unknown; base"),
    "a flag missing": (lambda c: c | {"settings": without("step")(c["settings"])}, "--step"),
    "a flag too many": (with_settings(depth=3), "--depth"),
    "an impossible flag": (with_settings(gr_factor="1-2"), "--gr_factor has 2 scales"),
    "other classes": (lambda c: c | {"num_classes": 7}, "is [4, 128], not [7, 128]"),
    "other blocks": (with_settings(n_blocks=4), "not a msdnet of 4 classes: blocks.1"),
    "a weight missing": (state(without(BIAS)), f"{BIAS} is missing"),
    "a weight too many": (state(lambda s: s | {"more": torch.ones(2)}), "more is not part of it"),
    "NaN weights": (state(not_finite), "not finite"),
    "no tensors": (state(lambda s: s | {"more": 3}), "does not map names to tensors"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoints_of_ours(case, ours, tmp_path):
    change, telling = BAD[case]
    path = save(tmp_path / "x.pth", change(ours))
    with one_line_error(telling, start=f"{path}: "):
        checkpoints.read(path)


def test_bad_files(ours, tmp_path):
    path = save(tmp_path / "x.pth", ours)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a checkpoint of tensors"):
        checkpoints.read(path)
    with pytest.raises(ValueError, match="holds a Tensor, not a state dict"):
        checkpoints.read(save(path, torch.ones(2)))
    with pytest.raises(FileNotFoundError):
        checkpoints.read(tmp_path / "none.pth")


COUNT = "blocks.0.0.layers.0.net.1.num_batches_tracked"
BAD_PUBLISHED = {
    "of another network": (lambda: LeNet5(4).state_dict(), "not a msdnet of 4 classes"),
    "without weights": (lambda: {"epoch": 3, "model": {}}, "does not map names to tensors"),
    "without any": (lambda: {"epoch": 3, "best": 1.0}, "holds epoch, best: give a state dict"),
    "a number": (lambda: {"state_dict": 3}, "holds state_dict: give a state dict"),
    "one count missing": (lambda: without(COUNT)(make_net().state_dict()), f"{COUNT} is missing"),
    "empty": (dict, "holds nothing"),
    "of a net and its optimizer": (lambda: {"state_dict": {"x": {}}}, "map names to tensors"),
}


@pytest.mark.parametrize("case", BAD_PUBLISHED)
def test_bad_published_files(case, tmp_path):
    make, telling = BAD_PUBLISHED[case]
    path = save(tmp_path / "x.pth", make())
    with one_line_error(telling, start=f"{path}: "):
        published(path)


def test_the_only_checkpoint_of_a_run_is_found(tmp_path):
    with pytest.raises(ValueError, match=r"tiny-ARCH\.pth: not there; python -m"):
        checkpoints.find(tmp_path, "tiny", None)
    for name in ("tiny-ranet.pth", "other-vit.pth", "tiny-localnet.pth"):
        (tmp_path / name).touch()
    assert checkpoints.find(tmp_path, "tiny", None) == tmp_path / "tiny-ranet.pth"
    with pytest.raises(ValueError, match=r"tiny-vit\.pth: not there"):
        checkpoints.find(tmp_path, "tiny", "vit")
    (tmp_path / "tiny-msdnet.pth").touch()
    with pytest.raises(ValueError, match=r"has tiny-msdnet\.pth, tiny-ranet\.pth; say which"):
        checkpoints.find(tmp_path, "tiny", None)
    assert checkpoints.find(tmp_path, "tiny", "ranet") == tmp_path / "tiny-ranet.pth"


def parsed(argv, **how):
    parser = experiment.Parser("")
    cls = add_arch_flags(parser, argv, **how)
    return cls, parser.parse_args(argv)


@pytest.mark.parametrize("arch", EXIT_NETS)
def test_flags_are_those_of_the_architecture(arch):
    cls, args = parsed(["--arch", arch])
    assert cls is EXIT_NETS[arch]
    settings = arch_settings(args, cls)
    assert list(settings) == flag_names(cls)
    assert settings == settings_of(arch)
    assert cls.from_settings(settings, 3, cls.input_size or 32).num_exits >= 1


def test_the_architecture_is_found_wherever_it_stands(refused):
    assert parsed(["--n_blocks", "7"])[1].n_blocks == 7
    cls, args = parsed(["--scale_list", "1-2", "--arch=ranet", "--gr_factor", "2-1"])
    assert (cls, args.scale_list, args.gr_factor) == (EXIT_NETS["ranet"], "1-2", "2-1")
    cls, args = parsed([], default=None)
    assert (cls, vars(args)) == (None, {"arch": None})
    refused(parsed, "--arch", "lenet", telling="invalid choice: 'lenet'")
    refused(parsed, "--arch", telling="--arch: expected one argument")
    refused(parsed, "--arch", "vit", "--n_blocks", "3", telling="--n_blocks")
