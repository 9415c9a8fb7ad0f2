"""Builds networks from checkpoints of this repository or from the L2H release's state dicts.

A checkpoint of this repository is {"kind": "local" | "edge" | "rejector", "state_dict": ..., and
the settings of the network and its training}. The L2H release writes a bare state dict with the
prefixes `rejector.` and `edge_net.`, and another one for the local net. Every error is a one-line
ValueError that begins with the file's name.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn

from models.any_local import build_local, is_local
from models.anynet import is_any
from models.edgenet import build_edge, edge_size
from models.exit_local import ExitLocal, ExitName, exit_name
from models.exit_net import ExitNet
from models.exit_nets import EXIT_NETS, flag_names
from models.localnet import LOCAL_NETS
from models.rejector import Rejector
from models.scaling import saved_scaling
from models.weights import State, fill, is_state_dict, restore, under

# What ExitLocal needs beside the network; early_exit.train and local checkpoints save these keys.
EXIT_INPUTS = ("size", "mean", "std", "ensemble_reweight")


def kind_of(checkpoint: dict, where: str) -> str:
    """Returns "local", "edge" or "rejector", or "release" for the release's rejector and edge."""
    if checkpoint.get("kind") in ("local", "edge", "rejector") and "state_dict" in checkpoint:
        return checkpoint["kind"]
    if is_state_dict(checkpoint):
        if any(k.startswith(("rejector.", "edge_net.")) for k in checkpoint):
            return "release"
        if "conv1.weight" in checkpoint and "fc3.weight" in checkpoint:
            return "local"
        return "edge"
    raise ValueError(f"{where}: not a checkpoint of a local net, an edge net or a rejector")


def _expect(checkpoint: dict, kind: str, where: str) -> None:
    actual = kind_of(checkpoint, where)
    if actual != kind:
        raise ValueError(f"{where}: is a checkpoint of kind {actual!r}, not {kind!r}")


def _check_classes(outputs: int, num_classes: int, where: str) -> None:
    if outputs != num_classes:
        raise ValueError(f"{where}: made for {outputs} classes, the data set has {num_classes}")


def local_net(checkpoint: dict, num_classes: int, where: str) -> nn.Module:
    """Builds the local net of a checkpoint, for data with `num_classes` classes."""
    _expect(checkpoint, "local", where)
    if is_state_dict(checkpoint):
        state, name = checkpoint, "lenet5"
    else:
        state, name = checkpoint["state_dict"], checkpoint["net"]
        _check_classes(checkpoint["num_classes"], num_classes, where)
    if ":" in name and not is_any(name):
        return _saved_exit(checkpoint, where)
    if name not in LOCAL_NETS:
        if not is_local(name):
            raise ValueError(f"{where}: local net {name!r} is unknown; {', '.join(LOCAL_NETS)}")
        size, scaling = checkpoint["local_size"], saved_scaling(checkpoint, "local")
        make = partial(build_local, name, num_classes, size, scaling=scaling)
        return restore(make, state, where, name)
    if "fc3.weight" in state:
        _check_classes(len(state["fc3.weight"]), num_classes, where)
    return fill(LOCAL_NETS[name](num_classes), state, where, name)


def exit_net(
    arch: str, settings: dict[str, Any], num_classes: int, size: int, state: State, where: str
) -> ExitNet:
    """Builds the network with exits that these settings describe; `state` has all its weights."""
    if not is_state_dict(state):
        raise ValueError(f"{where}: state_dict does not map names to tensors")
    net = _new_exit_net(arch, settings, num_classes, size, where)
    return fill(net, under(state, ""), where, f"{arch} of {num_classes} classes")


def exit_local(checkpoint: dict, name: ExitName, where: str) -> tuple[ExitLocal, dict[str, Any]]:
    """Takes one exit out of a checkpoint of early_exit.train, for use as a local net.

    Returns it and the entries of the checkpoint from which `local_net` builds it again: `net`, as
    msdnet:2, num_classes, settings, EXIT_INPUTS and state_dict.
    """
    kind = checkpoint.get("kind")
    if kind != "early_exit":
        what = "has no kind" if kind is None else f"is of kind {kind!r}"
        raise ValueError(f"{where}: {what}; give a checkpoint that early_exit.train wrote")
    copied = ("settings", "num_classes", *EXIT_INPUTS)
    _expect_keys(checkpoint, ("arch", "state_dict", *copied), where)
    arch = checkpoint["arch"]
    if arch != name.arch:
        raise ValueError(f"{where}: is a {arch}, not the {name.arch} of {name}")
    settings, num_classes, size = (checkpoint[k] for k in ("settings", "num_classes", "size"))
    net = exit_net(arch, settings, num_classes, size, checkpoint["state_dict"], where)
    local = _exit(net, name.number or net.num_exits, checkpoint, where)
    about = {"net": f"{arch}:{local.exit}"} | {k: checkpoint[k] for k in copied}
    return local, about | {"state_dict": local.state_dict()}


def _saved_exit(checkpoint: dict, where: str) -> nn.Module:
    """Builds an exit from the checkpoint entries that `exit_local` returned."""
    _expect_keys(checkpoint, ("settings", *EXIT_INPUTS), where)
    try:
        name = exit_name(checkpoint["net"])
    except ValueError as e:
        raise ValueError(f"{where}: local net {e}") from None
    settings, num_classes, size = (checkpoint[k] for k in ("settings", "num_classes", "size"))
    net = _new_exit_net(name.arch, settings, num_classes, size, where)
    local = _exit(net, name.number or net.num_exits, checkpoint, where)
    return fill(local, checkpoint["state_dict"], where, f"{name} of {net.num_exits} exits")


def _exit(net: ExitNet, number: int, checkpoint: dict, where: str) -> ExitLocal:
    try:
        return ExitLocal(net, number, **{k: checkpoint[k] for k in EXIT_INPUTS})
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None


def _new_exit_net(
    arch: str, settings: dict[str, Any], num_classes: int, size: int, where: str
) -> ExitNet:
    """Builds a network with exits, with random weights."""
    if arch not in EXIT_NETS:
        raise ValueError(f"{where}: network {arch!r} is unknown; {', '.join(EXIT_NETS)}")
    unmatched = set(flag_names(EXIT_NETS[arch])) ^ set(settings)
    if unmatched:
        raise ValueError(
            f"{where}: its settings of {arch} differ from the flags of this version: "
            f"--{', --'.join(sorted(unmatched))}"
        )
    if "pretrained" in settings:  # concerns the start of training; `fill` loads the weights
        settings = settings | {"pretrained": False}
    try:
        return EXIT_NETS[arch].from_settings(settings, num_classes, size)
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None


def _expect_keys(checkpoint: dict, keys: Iterable[str], where: str) -> None:
    if missing := [k for k in keys if k not in checkpoint]:
        raise ValueError(f"{where}: lacks {', '.join(missing)}; train it again")


def edge_net(checkpoint: dict, num_classes: int, where: str) -> nn.Module:
    """Builds the edge net of a checkpoint of this repository, for `num_classes` classes."""
    _expect(checkpoint, "edge", where)
    if is_state_dict(checkpoint):
        raise ValueError(f"{where}: a bare state dict without names under rejector. and edge_net.")
    _check_classes(checkpoint["num_classes"], num_classes, where)
    name = checkpoint["net"]
    size, scaling = checkpoint["edge_size"], saved_scaling(checkpoint, "edge")
    make = partial(build_edge, name, num_classes, size, scaling=scaling)
    return restore(make, checkpoint["state_dict"], where, name)


def rejector_net(checkpoint: dict, where: str) -> nn.Module:
    """Builds the rejector of a checkpoint of this repository."""
    _expect(checkpoint, "rejector", where)
    return restore(Rejector, checkpoint["state_dict"], where, "rejector")


def release_nets(state: State, num_classes: int, where: str) -> tuple[nn.Module, nn.Module]:
    """(rejector, edge net) of the release's bare state dict; names tell alexnet from vit."""
    rejector, edge = under(state, "rejector."), under(state, "edge_net.")
    if not rejector or not edge:
        raise ValueError(f"{where}: needs names that start with rejector. and with edge_net.")
    if any(k.startswith("vit.") for k in edge):
        name, head = "vit", "heads.weight"
        edge = {
            k: v for k, v in edge.items() if not k.startswith("vit.heads.")
        }  # the release never uses it
    else:
        name, head = "alexnet", "classifier.6.weight"
    if head in edge:
        _check_classes(len(edge[head]), num_classes, where)
    make = partial(build_edge, name, num_classes, edge_size(name, 32))
    return restore(Rejector, rejector, where, "rejector"), restore(make, edge, where, name)
