"""The vision transformer with exits against torchvision's, and its flags."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, vit_b_16

from models.cost import parameters
from models.localnet import resize
from models.vit_exits import NAMED, SHAPE, ViTExits
from tests.made import one_line_error, settings_of

TINY = dict(zip(SHAPE, (8, 32, 3, 4, 48), strict=True))


def tiny(size=32, num_classes=10, **changed):
    return ViTExits.from_settings(settings_of("vit", **TINY | changed), num_classes, size)


def torchvision_of(net, k):
    """torchvision's network up to exit k, with copies of its weights."""
    full = VisionTransformer(net.size, 8, 3, 4, 32, 48, net.encoder.dropout.p, num_classes=10)
    full.load_state_dict(
        {n: v for n, v in net.state_dict().items() if not n.startswith(("heads", "norms"))}
        | {f"heads.head.{n}": v for n, v in net.heads[k].state_dict().items()}
    )
    full.encoder.layers = full.encoder.layers[: net.bounds[k + 1]]
    if k < net.num_exits - 1:
        full.encoder.ln.load_state_dict(net.norms[k].state_dict())
    return full


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("gradients", [True, False])
def test_every_exit_is_torchvisions_network_cut_there(mode, gradients):
    torch.manual_seed(0)
    net, images = tiny(exits="1-2-3", vit_dropout=0.2), torch.randn(3, 3, 32, 32)
    for norm in [*net.norms, net.encoder.ln]:  # they all start at 1 and 0, and would be exchanged
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    getattr(net, mode)()
    for k in range(3):
        theirs = getattr(torchvision_of(net, k), mode)()
        with torch.set_grad_enabled(gradients):
            torch.manual_seed(1)  # the same dropout
            ours = net(images)[k]
            torch.manual_seed(1)
            # The heads draw nothing, so that the draws of the layers are in the same places.
            assert torch.allclose(ours, theirs(images), rtol=0, atol=1e-6)


def test_parameters_at_the_defaults():
    tokens, d, mlp = 65, 128, 256
    layer = 3 * d * (d + 1) + d * (d + 1) + (d + 1) * mlp + (mlp + 1) * d + 2 * 2 * d
    total = d * (48 + 1) + d + tokens * d + 6 * layer + 3 * (2 * d + 10 * (d + 1))
    assert parameters(ViTExits.from_settings(settings_of("vit"), 10, 32)) == total == 814_238


def test_a_named_network_has_torchvisions_parameters():
    with torch.device("meta"):
        net = ViTExits.from_settings(settings_of("vit", vit_name="vit_b_16"), 10, 32)
        theirs = vit_b_16().state_dict()
    assert net.size == 224
    assert net.bounds == [0, 4, 8, 12]
    # torchvision documents 86,567,656 for 1000 classes; here three heads and two more norms
    assert parameters(net) == 86_567_656 - 1000 * 769 + 3 * 10 * 769 + 2 * 2 * 768
    ours = {k: v.shape for k, v in net.state_dict().items() if not k.startswith(("norms", "heads"))}
    assert ours == {k: v.shape for k, v in theirs.items() if not k.startswith("heads")}


@pytest.mark.parametrize("name", NAMED)
def test_named_sizes_are_torchvisions(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        theirs = get_model(name)
    attention = theirs.encoder.layers[0].self_attention
    assert NAMED[name] == {
        "patch_size": theirs.patch_size,
        "hidden_dim": theirs.hidden_dim,
        "num_layers": len(theirs.encoder.layers),
        "num_heads": attention.num_heads,
        "mlp_dim": theirs.mlp_dim,
    }


@pytest.mark.parametrize(
    ("layers", "bounds"), [(1, [0, 1]), (2, [0, 1, 2]), (3, [0, 1, 2, 3]), (4, [0, 2, 3, 4])]
)
def test_default_exits_follow_each_third(layers, bounds):
    assert tiny(num_layers=layers).bounds == bounds


def test_images_are_resized():
    net = tiny(vit_size=16).eval()
    assert net.encoder.pos_embedding.shape == (1, 5, 32)
    images = torch.randn(2, 3, 32, 32)
    for a, b in zip(net(images), net(resize(images, 16)), strict=True):
        assert torch.equal(a, b)
    assert tiny()(torch.randn(2, 3, 20, 20))[0].shape == (2, 10)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exits": "1-2"}, "--exits 1-2: the last one must be 3, the number of layers"),
        ({"patch_size": 5}, "--patch_size 5 does not divide images of 32 px"),
        ({"vit_size": 30}, "--patch_size 8 does not divide images of 30 px"),
        ({"hidden_dim": 30}, "--hidden_dim 30 is not a multiple of --num_heads 4"),
        ({"pretrained": True}, "ImageNet weights exist for networks of --vit_name only"),
        ({"vit_name": "vit_x"}, "--vit_name vit_x: unknown; vit_b_16"),
        ({"vit_name": "vit_b_16"}, "--patch_size 8: vit_b_16 has 16; omit one"),
    ],
)
def test_impossible_settings(changed, message):
    with one_line_error(message):
        tiny(**changed)


def test_weights_that_cannot_be_downloaded(downloads):
    downloads()
    with one_line_error("vit_b_16 cannot be downloaded (no route to host)"):
        ViTExits.from_settings(settings_of("vit", vit_name="vit_b_16", pretrained=True), 10, 32)


@pytest.fixture
def start_from(monkeypatch, downloads):
    """start_from(weights): a network with pretrained weights of vit_b_16, as small as TINY."""

    def start(theirs, **changed):
        monkeypatch.setitem(NAMED, "vit_b_16", TINY)
        downloads(theirs)
        return tiny(vit_name="vit_b_16", pretrained=True, **changed)

    return start


def test_a_start_from_torchvisions_weights(start_from):
    theirs = VisionTransformer(224, 8, 3, 4, 32, 48).state_dict()
    net = start_from(theirs)
    ours = net.state_dict()
    assert net.training
    assert all(torch.equal(ours[k], v) for k, v in theirs.items() if not k.startswith("heads"))
    assert net.heads[0].weight.any()


def test_position_embeddings_of_another_size_are_interpolated(start_from):
    theirs = VisionTransformer(56, 8, 3, 4, 32, 48).state_dict()
    # A grid of 7 x 7 that falls by a step a row: at 4 x 4, corners on corners, by two.
    rows = torch.arange(7.0).repeat_interleave(7)
    theirs["encoder.pos_embedding"][0, 1:] = -rows[:, None]
    net = start_from(theirs, vit_size=32)
    position = net.encoder.pos_embedding[0]
    assert torch.equal(position[0], theirs["encoder.pos_embedding"][0, 0])
    assert torch.allclose(position[[1, 2, 13, 16]].mean(1), torch.tensor([0.0, 0, -6, -6]))
    assert torch.allclose(position[5:13].mean(1).view(2, 4).sum(0), torch.tensor(-6.0))
    assert torch.equal(net.conv_proj.weight, theirs["conv_proj.weight"])


def test_weights_that_do_not_fit(start_from):
    theirs = VisionTransformer(224, 8, 3, 4, 32, 48).state_dict()
    del theirs["encoder.ln.bias"]
    with pytest.raises(ValueError, match=r"weights of vit_b_16: .*encoder.ln.bias is missing"):
        start_from(theirs)
