"""The twelve targets, lists of one's own, and the files of published networks."""

import json

import pytest
import torch

from active_learning.target_models import TARGETS, read_targets
from models.cost import multiply_adds, parameters
from models.edgenet import build_edge
from tests.active_learning.conftest import TINY
from tests.made import one_line_error

# Parameters (1000 classes) and multiply-adds: published in millions, then exactly, of our specs.
COUNTS = {
    "note10_lat@22ms": (5.9, 237, 5908328, 237300312),
    "note10_lat@16ms": (4.9, 163, 4896416, 163179720),
    "note10_lat@11ms": (4.3, 110, 4294200, 109846480),
    "note10_lat@8ms": (3.8, 79, 3797648, 78982752),
    "note8_lat@65ms": (5.3, 220, 5289888, 219961728),
    "note8_lat@49ms": (6.0, 164, 6012240, 163744936),
    "note8_lat@31ms": (4.6, 101, 4597568, 101073288),
    "note8_lat@22ms": (4.3, 67, 4294056, 66925696),
    "s7edge_lat@88ms": (6.4, 219, 6402712, 218609912),
    "s7edge_lat@58ms": (4.6, 145, 4594656, 144942016),
    "s7edge_lat@41ms": (4.7, 96, 4695384, 96138368),
    "s7edge_lat@29ms": (3.8, 66, 3798376, 65980544),
}
IMAGES = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(5))


def listed(tmp_path, *entries):
    path = tmp_path / "targets.json"
    path.write_text(json.dumps(entries))
    return path


def weights(net):
    return torch.cat([v.flatten().float() for v in net.state_dict().values()])


def answers(net):
    with torch.no_grad():
        return net.eval()(IMAGES)


def test_the_twelve_are_in_the_published_order():
    assert tuple(COUNTS) == tuple(target.name for target in read_targets())
    assert not any(target.pretrained for target in TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=list(COUNTS))
def test_the_twelve_have_the_published_counts(target):
    net = target.build(1000, seed=0)
    found = parameters(net), multiply_adds(net, torch.zeros(1, 3, net.size, net.size))
    published = [round(1e6 * millions) for millions in COUNTS[target.name][:2]]
    assert found == COUNTS[target.name][2:]
    for ours, theirs in zip(found, published, strict=True):
        assert abs(ours / theirs - 1) < 0.1


@pytest.mark.parametrize("entry", [TINY, "lenet5", "convnet", "shufflenet_v2_x0_5"])
def test_weights_depend_on_the_seed_only(tmp_path, entry):
    (target,) = read_targets(listed(tmp_path, entry))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    net = target.build(4, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = target.build(4, seed=3), target.build(4, seed=4)
    assert torch.equal(weights(net), weights(again))
    assert not torch.equal(weights(net), weights(other))
    assert net.training
    assert net(IMAGES).shape == (3, 4)
    assert net.size == target.settings["size"] == 32


def test_a_list_of_targets_from_a_file(tmp_path):
    targets = read_targets(
        listed(
            tmp_path,
            "resnet18",
            {"net": "resnet18", "size": 64, "name": "larger"},
            "lenet5",
            {"net": "lenet5", "size": 32, "name": "lenet-b"},
            "alexnet",
            TINY | {"size": 48},
            "inception_v3",
            "regnet_y_400mf",
            "s7edge_lat@29ms",
        )
    )
    assert [(t.name, t.settings["net"], t.settings["size"]) for t in targets] == [
        ("resnet18", "resnet18", 32),
        ("larger", "resnet18", 64),
        ("lenet5", "lenet5", 32),
        ("lenet-b", "lenet5", 32),
        ("alexnet", "alexnet", 64),
        ("tiny@1ms", "ofa_mobilenet", 48),
        ("inception_v3", "inception_v3", 224),
        ("regnet_y_400mf", "regnet_y_400mf", 32),
        ("s7edge_lat@29ms", "ofa_mobilenet", 128),
    ]
    assert targets[-1] is TARGETS[-1]
    assert all(json.loads(json.dumps(t.settings)) == t.settings for t in targets)
    without = {k: v for k, v in TINY.items() if k != "widths"}
    (plain,) = read_targets(listed(tmp_path, without))
    assert plain.settings["widths"] == TARGETS[0].settings["widths"]
    same = build_edge("resnet18", 3, 64, seed=9)
    assert torch.equal(weights(targets[1].build(3, seed=9)), weights(same))


@pytest.mark.parametrize(
    ("entry", "telling"),
    [
        ("resnt18", "net 'resnt18' is unknown; near: resnet18"),
        ({"net": "lenet5", "size": 64}, "size 64: lenet5 works at 32 px only"),
        ({"net": "vgg11", "size": 16}, "net vgg11 cannot run at 16 px: "),
        ({"net": "resnet18", "size": "32"}, "size '32': give whole px"),
        ({"net": "resnet18", "sise": 32}, "'sise' is not known here; there are name, net, size"),
        (TINY | {"resolution": 32}, "'resolution' is not known here"),
        (TINY | {"name": "a/b"}, "\"name\" 'a/b': give 1 to 100 letters"),
        (TINY | {"depths": [1, 2, 1]}, "depths: has 3 numbers, needs 5"),
        (TINY | {"kernels": [3, 5, 3, 7, 3, 2]}, "kernels: 2 is even"),
        (TINY | {"size": 8}, "size 8: give whole px from 16"),
        (7, "give a name"),
    ],
)
def test_bad_entries(tmp_path, entry, telling):
    path = listed(tmp_path, "lenet5", entry)
    with one_line_error(start=f"{path}: entry 1: {telling}"):
        read_targets(path)


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("[" * 100_000, "not JSON"),
        ("[]", "give a list of networks"),
        ('{"net": "lenet5"}', "give a list of networks"),
        ('["lenet5", "lenet5"]', "entry 1: entry 0 is called lenet5 too"),
    ],
)
def test_bad_lists(tmp_path, text, telling):
    path = tmp_path / "targets.json"
    path.write_text(text)
    with one_line_error(telling, start=f"{path}: "):
        read_targets(path)


def test_init_weights_loads_torchvisions_weights(tmp_path, downloads):
    path = listed(tmp_path, "lenet5", "squeezenet1_1")
    theirs = build_edge("squeezenet1_1", 1000, 32, seed=7).net.state_dict()
    downloads(theirs)
    lenet, plain = read_targets(path)
    assert not plain.pretrained
    assert read_targets(path, init="weights")[0] == lenet
    target = read_targets(path, init="weights")[1]
    assert target.pretrained
    assert target.settings == plain.settings | {"weights": "IMAGENET1K_V1"}
    state = target.build(4, 0).net.state_dict()
    same = [k for k, v in state.items() if v.shape == theirs[k].shape]
    assert set(state) - set(same) == {"classifier.1.weight", "classifier.1.bias"}
    assert all(torch.equal(state[k], theirs[k]) for k in same)

    downloads()
    with one_line_error("squeezenet1_1: ", "no route to host", "--init scratch"):
        read_targets(path, init="weights")
    with pytest.raises(ValueError, match="--init weights has no effect: no target has any"):
        read_targets(listed(tmp_path, "lenet5", "convnet", TINY), init="weights")
