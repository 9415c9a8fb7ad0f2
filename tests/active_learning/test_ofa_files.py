"""Published networks, from files made here in their layout: both spellings, and broken ones."""

import json

import pytest
import torch

from active_learning.ofa_files import shape_of_config
from active_learning.target_models import read_targets
from models.ofa_mobilenet import OFAMobileNet, shape_of_spec
from tests.active_learning.conftest import TINY as SPEC
from tests.made import one_line_error

CLASSES = 12  # of the file
IMAGES = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(5))


def config(inner="mobile_inverted_conv"):
    """The net.config of SPEC, written out of its blocks; every second one without a middle."""
    newer = inner == "conv"
    blocks = []
    for k, b in enumerate(shape_of_spec(SPEC).blocks):
        layers = {
            "name": "MBConvLayer" if newer else "MBInvertedConvLayer",
            "in_channels": b.channels_in,
            "out_channels": b.channels,
            "kernel_size": b.kernel,
            "stride": b.stride,
            "expand_ratio": b.middle // b.channels_in,
            "mid_channels": b.middle if k % 2 else None,
            "act_func": b.activation,
            "use_se": b.squeeze,
        }
        shortcut = {
            "name": "IdentityLayer",
            "in_channels": [b.channels_in],
            "out_channels": [b.channels],
        }
        blocks.append(
            {
                "name": "ResidualBlock" if newer else "MobileInvertedResidualBlock",
                inner: layers,
                "shortcut": shortcut if b.shortcut else None,
            }
        )
    conv = {"name": "ConvLayer", "stride": 1, "dilation": 1, "groups": 1, "bias": False}
    conv |= {"has_shuffle": False, "act_func": "h_swish", "use_bn": True, "kernel_size": 1}
    return {
        "name": "MobileNetV3",
        "bn": {"momentum": 0.2, "eps": 1e-3},
        "first_conv": conv | {"kernel_size": 3, "stride": 2, "in_channels": 3, "out_channels": 8},
        "blocks": blocks,
        "final_expand_layer": conv | {"in_channels": 8, "out_channels": 16},
        "feature_mix_layer": conv | {"in_channels": 16, "out_channels": 24, "use_bn": False},
        "classifier": {
            "name": "LinearLayer",
            "in_features": 24,
            "out_features": CLASSES,
            "bias": True,
            "dropout_rate": 0.1,
        },
    }


def original():
    """The network that the files are of."""
    torch.manual_seed(0)
    shape = shape_of_spec(SPEC)._replace(momentum=0.2, eps=1e-3)
    net = OFAMobileNet(shape, CLASSES, SPEC["size"], 0.0)
    for _ in range(3):
        net(IMAGES)  # so that batch norm has statistics
    return net.eval()


def publish(folder, inner="mobile_inverted_conv", bare=False, module=False, size=32):
    folder.mkdir(parents=True)
    state = {
        ("module." if module else "") + k.replace("mobile_inverted_conv", inner): v
        for k, v in original().state_dict().items()
    }
    (folder / "net.config").write_text(json.dumps(config(inner)))
    (folder / "run.config").write_text(json.dumps({"image_size": size, "n_epochs": 25}))
    torch.save(state if bare else {"state_dict": state}, folder / "init")
    return folder


def targets(tmp_path, *others):
    path = tmp_path / "targets.json"
    path.write_text(json.dumps([SPEC, *others]))
    return read_targets(path, tmp_path / "ofa", "weights")


def change(folder, key, value):
    """Set a value deep in net.config, given its path."""
    path = folder / "net.config"
    whole = node = json.loads(path.read_text())
    *way, last = (int(k) if k.isdigit() else k for k in key.split("."))
    for k in way:
        node = node[k]
    node[last] = value
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("inner", "how"),
    [
        ("mobile_inverted_conv", {"bare": True}),
        ("conv", {"module": True, "size": [16, 32, 24]}),
    ],
)
def test_a_published_network_gives_the_same_logits(tmp_path, inner, how):
    publish(tmp_path / "ofa/tiny@1ms_top1@70.0_finetune@25", inner, **how)
    target, other = targets(tmp_path, "lenet5")
    assert (target.name, target.pretrained, other.pretrained) == ("tiny@1ms", True, False)
    assert target.settings["size"] == 32
    torch.manual_seed(1)
    before = torch.get_rng_state()
    net = target.build(CLASSES, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training
    with torch.no_grad():
        assert torch.equal(net.eval()(IMAGES), original()(IMAGES))


def test_from_scratch_it_is_the_same_network_with_drawn_weights(tmp_path):
    publish(tmp_path / "ofa/tiny@1ms")
    path = tmp_path / "targets.json"
    path.write_text(json.dumps([SPEC]))
    (target,) = read_targets(path, tmp_path / "ofa")
    (same,) = read_targets(path, tmp_path / "ofa", "scratch")
    (loaded,) = read_targets(path, tmp_path / "ofa", "weights")
    assert target == same
    assert (target.pretrained, loaded.pretrained) == (False, True)
    assert target.settings == {k: v for k, v in loaded.settings.items() if k != "sha256"}
    states = [t.build(CLASSES, s).state_dict() for t, s in ((target, 3), (target, 3), (loaded, 3))]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key])
        assert value.shape == states[2][key].shape
    first = "first_conv.conv.weight"
    assert not torch.equal(states[0][first], states[2][first])
    assert not torch.equal(states[0][first], target.build(CLASSES, 4).state_dict()[first])


def test_another_number_of_classes_has_a_new_last_layer(tmp_path):
    publish(tmp_path / "ofa/tiny@1ms_top1@70.0_finetune@25")
    target, state = targets(tmp_path)[0], original().state_dict()
    net, again, other = (target.build(4, seed).state_dict() for seed in (3, 3, 4))
    for key, value in net.items():
        assert torch.equal(value, again[key])
        new = key.startswith("classifier.")
        assert len(value) == 4 if new else torch.equal(value, state[key])
        assert not new or not value.any() or not torch.equal(value, other[key])


def test_settings_tell_the_network_and_its_weights(tmp_path):
    folder = publish(tmp_path / "ofa/tiny@1ms")
    target = targets(tmp_path)[0]
    assert json.loads(json.dumps(target.settings)) == target.settings
    assert str(tmp_path) not in json.dumps(target.settings)
    state = original().state_dict()
    state["first_conv.conv.weight"][0] += 1
    torch.save({"state_dict": state}, folder / "init")
    with pytest.raises(ValueError, match="SHA-256"):
        target.build(4, 0)
    changed = targets(tmp_path)[0]
    differ = {k for k in changed.settings if changed.settings[k] != target.settings[k]}
    assert differ == {"sha256"}


def test_the_config_is_the_shape_of_the_spec():
    expected = shape_of_spec(SPEC)._replace(momentum=0.2, eps=1e-3)
    assert shape_of_config(config()) == shape_of_config(config("conv")) == expected


def test_files_of_before_counts_of_batches(tmp_path):
    folder = publish(tmp_path / "ofa/tiny@1ms")
    state = {k: v for k, v in original().state_dict().items() if "num_batches" not in k}
    torch.save(state, folder / "init", _use_new_zipfile_serialization=False)
    with torch.no_grad():
        net = targets(tmp_path)[0].build(CLASSES, 0).eval()
        assert torch.equal(net(IMAGES), original()(IMAGES))


def test_a_folder_is_that_of_the_longest_name(tmp_path):
    publish(tmp_path / "ofa/tiny@1ms_b_top1@70")
    (tmp_path / "ofa/tiny@1ms5_top1@70").mkdir()  # begins with a name, but goes on
    (tmp_path / "ofa/tiny@1ms.txt").touch()
    first, second = targets(tmp_path, SPEC | {"name": "tiny@1ms_b"})
    assert (first.pretrained, second.pretrained) == (False, True)


@pytest.mark.parametrize("name", ["net.config", "run.config", "init"])
def test_a_file_is_missing_or_broken(tmp_path, name):
    folder = publish(tmp_path / "ofa/tiny@1ms")
    (folder / name).unlink()
    with one_line_error(f"tiny@1ms: lacks {name}"):
        targets(tmp_path)
    for content in (b"[1]", b"\xff\xfe"):
        (folder / name).write_bytes(content)
        with one_line_error(f"{folder / name}: "):
            targets(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "telling"),
    [
        ("name", "ProxylessNASNets", "describes a 'ProxylessNASNets'"),
        ("blocks", [], "has no list of blocks"),
        ("blocks.2", None, "blocks.2: has neither mobile_inverted_conv nor conv"),
        ("blocks.2.mobile_inverted_conv.in_channels", 16, "blocks.2 takes 16 channels, not 8"),
        ("blocks.2.mobile_inverted_conv.out_channels", 0, "blocks.2.out_channels is 0"),
        ("blocks.2.mobile_inverted_conv.kernel_size", 4, "blocks.2: kernel 4, stride 2"),
        ("blocks.2.mobile_inverted_conv.stride", 3, "blocks.2: kernel 5, stride 3"),
        ("blocks.2.mobile_inverted_conv.expand_ratio", None, "blocks.2 has neither mid_channels"),
        ("blocks.2.mobile_inverted_conv.act_func", ["relu"], "blocks.2: act_func has to be relu"),
        ("blocks.2.shortcut", {"name": "IdentityLayer"}, "blocks.2: has a shortcut that cannot"),
        ("blocks.3.shortcut", {"name": "Pool"}, "blocks.3: shortcut 'Pool' is not"),
        ("bn.eps", 0, "bn.eps is 0"),
        ("bn", None, "lacks bn"),
        ("first_conv.stride", 1, "first_conv.stride is 1, not 2"),
        ("final_expand_layer", None, "lacks final_expand_layer"),
    ],
)
def test_a_config_of_another_network(tmp_path, key, value, telling):
    folder = publish(tmp_path / "ofa/tiny@1ms")
    change(folder, key, value)
    with one_line_error(start=f"{folder / 'net.config'}: {telling}"):
        targets(tmp_path)


def test_impossible_sizes(tmp_path):
    folder = publish(tmp_path / "ofa/tiny@1ms")
    for size in (None, 8, [], [32, "64"]):
        (folder / "run.config").write_text(json.dumps({"image_size": size}))
        with one_line_error(f"{folder / 'run.config'}: size "):
            targets(tmp_path)


def without_last(state):
    return {k: v for k, v in state.items() if "classifier" not in k}


@pytest.mark.parametrize(
    ("change_state", "telling"),
    [
        (without_last, "classifier.linear.weight is missing"),
        (lambda s: s | {"extra.weight": torch.ones(1)}, "extra.weight is not part of it"),
        (lambda s: s | {"first_conv.conv.weight": torch.ones(8, 3, 5, 5)}, "[8, 3, 5, 5], not"),
        (lambda s: s | {"classifier.linear.weight": torch.ones(12, 9)}, "[12, 9], not"),
        (lambda s: s | {"first_conv.bn.bias": torch.full((8,), torch.nan)}, "not finite"),
        (lambda s: {"state_dict": {"epoch": 3}}, "holds no state dict"),
        (lambda s: [s], "holds a list, not a state dict"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change_state, telling):
    folder = publish(tmp_path / "ofa/tiny@1ms")
    torch.save(change_state(original().state_dict()), folder / "init")
    with one_line_error(telling, start=f"{folder / 'init'}: "):
        targets(tmp_path)


def test_bad_folders_of_networks(tmp_path):
    for names, telling in (
        ([], "ofa: no folder of published networks"),
        (["another@1ms"], "ofa: no folder in it begins with the name of a target"),
        (["tiny@1ms_a", "tiny@1ms_b"], "tiny@1ms_a and tiny@1ms_b both begin with tiny@1ms;"),
    ):
        for name in names:
            publish(tmp_path / "ofa" / name)
        with one_line_error(telling):
            targets(tmp_path)
