"""An exit as a local net answers what the network's exit answers, and carries nothing else."""

import copy

import pytest
import torch

import data
from data.parts import Part
from early_exit.inference import Inference
from early_exit.inputs import InputFormat, make_batches
from models.checkpoints import exit_local, local_net
from models.cost import exit_multiply_adds, multiply_adds
from models.exit_local import ExitLocal, ExitName, exit_name
from models.exit_nets import EXIT_NETS
from tests.early_exit.toy import SMALL, Toy, make_net, settings_of
from tests.made import one_line_error

ARCHS = [name for name, net in EXIT_NETS.items() if net.reads == "images"]
STATS = {"mean": [0.3, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
# What an exit carries on without, by the beginnings of names, of these networks.
GONE = {
    ("msdnet", 1): ("blocks.1.", "blocks.2.", "classifier.1.", "classifier.2."),
    ("msdnet", 2): ("blocks.2.", "classifier.0.", "classifier.2."),
    ("ranet", 1): ("scale_flows.1.", "scale_flows.2.", "classifier.1.", "classifier.2."),
    ("resnet", 2): ("layer3.", "layer4.", "heads.0.", "heads.2.", "heads.3."),
    ("resnet", 4): ("heads.0.", "heads.1.", "heads.2."),
    ("vit", 1): (
        "encoder.layers.encoder_layer_1.", "encoder.layers.encoder_layer_2.", "encoder.ln.",
        "norms.1.", "heads.1.", "heads.2.",
    ),
    ("vit", 3): ("norms.", "heads.0.", "heads.1."),
}  # fmt: skip


def test_all_of_them_are_tried():
    assert set(ARCHS) == set(SMALL)


def part(size, count=5, channels=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), generator=generator)
    rows = torch.arange(count)
    return Part(images.to(torch.uint8), rows % 4, rows)


def take(net, exit, t=0.0, size=32):
    return ExitLocal(copy.deepcopy(net), exit, size=size, ensemble_reweight=t, **STATS).eval()


def checkpoint(arch, t=0.0):
    """What early_exit.train writes, as far as the network needs it."""
    described = {"settings": settings_of(arch, **SMALL[arch]), "num_classes": 4, "size": 32}
    described |= {"kind": "early_exit", "arch": arch, "ensemble_reweight": t, **STATS}
    return described | {"state_dict": make_net(arch).state_dict()}


@pytest.mark.parametrize(
    ("arch", "size", "channels"),
    [*((arch, 32, 3) for arch in ARCHS), ("resnet", 20, 1), ("resnet", 45, 3)],
)
def test_it_is_the_exit(arch, size, channels):
    """Through batches as each study makes them; smaller and larger images, and grey ones."""
    net, images = make_net(arch), part(size, channels=channels)
    ours = next(iter(data.Batches(images, 5, "cpu")))[1]
    theirs = next(iter(make_batches(images, 5, "cpu", InputFormat(32, **STATS))))[1]
    for t in (0.0, 0.7):
        inference = Inference(net, torch.device("cpu"), t)
        with torch.no_grad():
            expected = inference.exits(theirs)
            for k, logits in enumerate(expected, start=1):
                torch.testing.assert_close(take(net, k, t)(ours), logits, rtol=1e-4, atol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 0.1


@pytest.mark.parametrize(("arch", "exit"), GONE)
def test_what_it_carries(arch, exit):
    whole = make_net(arch)
    left = {k.removeprefix("net.") for k in take(whole, exit).state_dict()}
    gone = {k for k in whole.state_dict() if k.startswith(GONE[arch, exit])}
    assert all(any(k.startswith(prefix) for k in gone) for prefix in GONE[arch, exit])
    assert left == set(whole.state_dict()) - gone


def test_a_boosted_exit_keeps_the_heads_before_it():
    left = take(make_net("vit"), 2, 0.5).state_dict()
    assert {"net.heads.0.weight", "net.norms.0.weight", "net.heads.1.weight"} <= set(left)
    assert not any(k.startswith(("net.heads.2", "net.encoder.ln")) for k in left)


def test_later_blocks_are_not_run():
    net = Toy()
    local = take(net, 2, size=2)
    for seen in local.net.seen:
        seen.clear()
    local(torch.rand(3, 3, 2, 2))
    assert local.net.seen == [[3], [3], [], []]
    assert (local.exit, local.num_exits) == (2, 4)


@pytest.mark.parametrize("arch", ["resnet", "vit"])
def test_it_costs_what_the_exit_costs(arch):
    net, image = make_net(arch), torch.zeros(1, 3, 32, 32)
    costs = exit_multiply_adds(net, image)
    boosted = [multiply_adds(take(net, k, 0.5), image) for k in range(1, net.num_exits + 1)]
    assert boosted == costs
    # Without boosting the heads before it are not computed.
    first, second = (multiply_adds(take(net, k), image) for k in (1, 2))
    assert first == costs[0]
    assert 0 < second < costs[1]


@pytest.mark.parametrize(("arch", "t"), [*((arch, 0.0) for arch in ARCHS), ("resnet", 0.5)])
def test_features(arch, t):
    net = make_net(arch)
    local, images = take(net, 2, t), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits, features = local.with_features(images)
        assert torch.equal(logits, local(images))
        head = net.classifier[1].linear if hasattr(net, "classifier") else net.heads[1]
        before = take(net, 1)(images)
        torch.testing.assert_close(head(features) + t * before, logits)


@pytest.mark.parametrize("name", ["msdnet:2", "ranet:3", "resnet:1", "vit:last"])
def test_a_local_checkpoint_is_complete(name):
    """It needs no other file, and all its entries are needed."""
    wanted, images = exit_name(name), torch.rand(3, 3, 32, 32)
    local, kept = exit_local(checkpoint(wanted.arch, 0.5), wanted, "a.pth")
    assert kept["net"] == f"{wanted.arch}:{wanted.number or 3}"
    again = local_net({"kind": "local"} | kept, 4, "b.pth")
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(images), local(images))


def test_names():
    assert exit_name("msdnet:2") == ExitName("msdnet", 2)
    assert exit_name("vit:last") == ExitName("vit", None)
    assert [str(exit_name(text)) for text in ("vit:3", "vit:last")] == ["vit:3", "vit:last"]


@pytest.mark.parametrize("text", ["msdnet", "msdnet:", "msdnet:0", "msdnet:-1", "vgg:2", "vit:2:1"])
def test_bad_names(text):
    with one_line_error("is no exit: give NETWORK:NUMBER, as msdnet:2"):
        exit_name(text)


def test_a_network_that_reads_text(monkeypatch):
    class Reader(Toy):
        reads = "text"

    monkeypatch.setitem(EXIT_NETS, "reader", Reader)
    with pytest.raises(ValueError, match="reader reads text, and a local net has to read images"):
        exit_name("reader:1")


def without(key):
    return {k: v for k, v in checkpoint("msdnet").items() if k != key}


BAD = {
    "too late": (lambda: checkpoint("msdnet"), "msdnet:4", "exit 4: the network has exits 1 to 3"),
    "another": (lambda: checkpoint("msdnet"), "vit:1", "is a msdnet, not the vit of vit:1"),
    "no kind": (lambda: without("kind"), "msdnet:1", "has no kind; give a checkpoint"),
    "an edge": (lambda: checkpoint("msdnet") | {"kind": "edge"}, "msdnet:1", "is of kind 'edge'"),
    "no size": (lambda: without("size"), "msdnet:1", "lacks size; train it again"),
    "weights": (
        lambda: checkpoint("msdnet") | {"state_dict": make_net("vit").state_dict()},
        "msdnet:1",
        "not a msdnet of 4 classes",
    ),
    "flags": (
        lambda: checkpoint("msdnet") | {"settings": settings_of("vit")},
        "msdnet:1",
        "its settings of msdnet differ from the flags",
    ),
    "unbuildable": (
        lambda: checkpoint("msdnet") | {"settings": settings_of("msdnet", gr_factor="1-2")},
        "msdnet:1",
        "--gr_factor has 2 scales",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case):
    make, name, telling = BAD[case]
    with one_line_error(telling, start="a.pth: "):
        exit_local(make(), exit_name(name), "a.pth")


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        ({"net": "msdnet:4"}, "exits 1 to 3"),
        ({"net": "vgg:1"}, "local net 'vgg:1' is no exit"),
        ({"net": "msdnet:3"}, "not a msdnet:3 of 3 exits: net.blocks.2"),
        ({"num_classes": 5}, "made for 5 classes"),
        ({"settings": {}}, "differ from the flags"),
    ],
)
def test_bad_local_nets(change, telling):
    _, kept = exit_local(checkpoint("msdnet"), exit_name("msdnet:2"), "a.pth")
    with pytest.raises(ValueError, match=telling) as e:
        local_net({"kind": "local"} | kept | change, 4, "b.pth")
    assert str(e.value).startswith("b.pth: ")
    with pytest.raises(ValueError, match=r"b.pth: lacks mean"):
        local_net({"kind": "local"} | {k: v for k, v in kept.items() if k != "mean"}, 4, "b.pth")
