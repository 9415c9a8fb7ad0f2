"""A network gets the images scaled as those that it was trained with."""

import pytest
import torch
from torchvision.models import get_model

import experiment
import train_edgenet_async
import train_localnet
from learning_to_help.finetune import chosen_scaling
from models.any_local import build_local
from models.checkpoints import edge_net, local_net
from models.edgenet import build_edge
from models.scaling import HALF, Scaling, torchvision_scaling
from tests.made import one_line_error, quiet

IMAGENET = Scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NET, SIZE = "squeezenet1_1", 64
BUILD = {"edge": build_edge, "local": build_local}
READ = {"edge": edge_net, "local": local_net}
FILE = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.Conv2d(3, 6, 5, 3), nn.Flatten(), nn.Linear(600, num_classes))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "nets.py").write_text(FILE)
    return f"{tmp_path / 'nets.py'}:tiny"


def pixels(size):
    """Images in 0..1."""
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def scaled(x, mean, std):
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


@pytest.mark.parametrize("kind", ["edge", "local"])
@pytest.mark.parametrize("scaling", [IMAGENET, Scaling((0.4,), (0.2,)), HALF])
@pytest.mark.parametrize("which", ["torchvision", "file"])
def test_a_network_and_its_checkpoint_rescale(kind, scaling, which, own):
    """The images of this project have 0.5; a checkpoint without mean and std is of such a one."""
    name, size = (NET, SIZE) if which == "torchvision" else (own, 32)
    net = BUILD[kind](name, 5, size, seed=1, scaling=scaling).eval()
    inner = net
    while hasattr(inner, "net"):
        inner = inner.net
    mean, std = (value or [0.5] for value in scaling)
    x = pixels(size)
    with torch.no_grad():
        expected, logits = inner(scaled(x, mean, std)), net(scaled(x, [0.5], [0.5]))
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    checkpoint = {"kind": kind, "net": name, "num_classes": 5, f"{kind}_size": size}
    checkpoint |= scaling.entries(kind) | {"state_dict": net.state_dict()}
    assert (f"{kind}_mean" in checkpoint) is (scaling != HALF)
    with torch.no_grad():
        again = READ[kind](checkpoint, 5, "file")(scaled(x, [0.5], [0.5]))
    assert torch.equal(again, logits)


def test_torchvision_s_weights_have_the_scaling_that_torchvision_states():
    assert torchvision_scaling("resnet18") == IMAGENET
    assert chosen_scaling("resnet18", None, None, True, None) == IMAGENET
    assert chosen_scaling("resnet18", [0.1], [0.2], True, None) == ((0.1,), (0.2,))
    assert chosen_scaling("resnet18", None, None, False, None) == HALF


@pytest.mark.parametrize("name", ["alexnet", "vit"])
def test_the_paper_s_networks_have_the_release_s(name):
    assert chosen_scaling(name, None, None, True, None) == HALF


def test_googlenet_s_weights_were_trained_with_half():
    """What torchvision's own network makes of ImageNet's scaling before its first layer."""
    assert torchvision_scaling("googlenet") == HALF
    theirs = get_model("googlenet", aux_logits=False, init_weights=False, transform_input=True)
    ours = get_model("googlenet", aux_logits=False, init_weights=False).eval()
    ours.load_state_dict(theirs.state_dict())
    x = pixels(64)
    with torch.no_grad():
        expected = theirs.eval()(scaled(x, *IMAGENET))
        torch.testing.assert_close(ours(scaled(x, [0.5], [0.5])), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["edge", "local"])
def test_weights_of_a_file_bring_their_scaling(kind, npz, tmp_path):
    """Those of other projects ImageNet's; a checkpoint of this one what it was trained with."""
    main = train_edgenet_async.main if kind == "edge" else train_localnet.main
    weights = tmp_path / "w.pth"
    torch.save(get_model(NET, num_classes=1000).state_dict(), weights)

    def run(folder, file, *flags):
        here = ["--dataset", npz, "--save_dir", tmp_path / folder, "--epochs", 0, *flags]
        here += [f"--{kind}_net", NET, f"--{kind}_size", SIZE, f"--{kind}_weights", file]
        quiet(main, *here, *(["--edge_only"] if kind == "edge" else []))
        path = tmp_path / folder / f"tiny-{kind}net.pth"
        checkpoint = experiment.load_checkpoint(path)
        return path, [tuple(checkpoint.get(f"{kind}_{what}", ())) for what in ("mean", "std")]

    first, scaling = run("first", weights)
    assert scaling == [*IMAGENET]
    own = [f"--{kind}_mean", 0.4, f"--{kind}_std", 0.1, 0.2, 0.3]
    second, scaling = run("second", first, *own)
    assert scaling == [(0.4,), (0.1, 0.2, 0.3)]
    assert run("third", second)[1] == scaling
    plain = experiment.load_checkpoint(second)
    del plain[f"{kind}_mean"], plain[f"{kind}_std"]  # as of an older version
    torch.save(plain, tmp_path / "old.pth")
    fourth, scaling = run("fourth", tmp_path / "old.pth")
    assert scaling == [(), ()]
    old, new = plain["state_dict"], experiment.load_checkpoint(fourth)["state_dict"]
    names = [name.rpartition("net.")[2] for name in old]
    assert [name.rpartition("net.")[2] for name in new] == names
    assert all(map(torch.equal, old.values(), new.values()))


@pytest.mark.parametrize(
    ("flags", "telling"),
    [
        (["--KIND_mean", 0.5], "--KIND_std is missing"),
        (["--KIND_std", 0.5], "--KIND_mean is missing"),
        (["--KIND_mean", 0.5, "--KIND_std", 0], "--KIND_std"),
        (["--KIND_mean", "nan", "--KIND_std", 0.5], "--KIND_mean"),
        (["--KIND_mean", 0.5, "--KIND_std", "nan"], "--KIND_std"),
        (["--KIND_mean", 123.7, "--KIND_std", 58.4], "--KIND_mean"),
        (["--KIND_mean", 0.4, 0.5, "--KIND_std", 0.2], "--KIND_mean: 2 numbers"),
        (["--KIND_mean", 0.4, "--KIND_std", 0.2], "leave its mean and std out"),
    ],
)
@pytest.mark.parametrize("kind", ["edge", "local"])
def test_bad_flags(kind, flags, telling, npz, tmp_path, refused):
    run = tmp_path / "run"
    here = ["--dataset", npz, "--save_dir", run, *(str(f).replace("KIND", kind) for f in flags)]
    if kind == "edge":
        refused(
            train_edgenet_async.main, *here, "--edge_only", telling=telling.replace("KIND", kind)
        )
    else:
        refused(train_localnet.main, *here, telling=telling.replace("KIND", kind))
    assert not run.exists()


def test_the_paper_s_networks_take_no_other_scaling():
    with one_line_error("edge net convnet takes images of mean 0.5"):
        build_edge("convnet", 4, 32, scaling=IMAGENET)
    with one_line_error("local net lenet5 takes images of mean 0.5"):
        build_local("lenet5", 4, scaling=IMAGENET)
