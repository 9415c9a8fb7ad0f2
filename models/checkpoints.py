"""Checkpoints to networks: ours (weights and what they are), or the release's bare state dicts.

A checkpoint of ours is {"kind": "local" | "edge" | "rejector", "state_dict": ..., what it was made
with}. The L2H release writes one bare state dict with `rejector.*` and `edge_net.*`, and another
for the local net. All errors are ValueError of one line that begins with the file's name.
"""

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.edgenet import build_edge, edge_size
from models.localnet import LOCAL_NETS
from models.rejector import Rejector

State = dict[str, Tensor]


def is_state_dict(checkpoint: dict) -> bool:
    return bool(checkpoint) and all(isinstance(v, Tensor) for v in checkpoint.values())


def kind_of(checkpoint: dict, where: str) -> str:
    """ "local", "edge", "rejector" (ours), or "release" for a bare dict of rejector and edge."""
    if checkpoint.get("kind") in ("local", "edge", "rejector") and "state_dict" in checkpoint:
        return checkpoint["kind"]
    if is_state_dict(checkpoint):
        if any(k.startswith(("rejector.", "edge_net.")) for k in checkpoint):
            return "release"
        if "conv1.weight" in checkpoint and "fc3.weight" in checkpoint:
            return "local"
        return "edge"
    raise ValueError(f"{where}: a checkpoint, but not of a local net, an edge net or a rejector")


def fill(net: nn.Module, state: State, where: str, what: str) -> nn.Module:
    """Load `state` strictly, with an error of one line that says what does not fit."""
    own = net.state_dict()
    bad = [f"{k} is missing" for k in own if k not in state]
    bad += [f"{k} is not part of it" for k in state if k not in own]
    bad += [
        f"{k} is {list(state[k].shape)}, not {list(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if bad:
        more = f" and {len(bad) - 2} more" if len(bad) > 2 else ""
        raise ValueError(f"{where}: not a {what}: {'; '.join(bad[:2])}{more}")
    if not all(torch.isfinite(v).all() for v in state.values()):
        raise ValueError(f"{where}: holds weights that are not finite")
    net.load_state_dict(state)
    return net.eval()


def _expect(checkpoint: dict, kind: str, where: str) -> None:
    found = kind_of(checkpoint, where)
    if found != kind:
        raise ValueError(f"{where}: is a checkpoint of kind {found!r}, not {kind!r}")


def _check_classes(found: int, num_classes: int, where: str) -> None:
    if found != num_classes:
        raise ValueError(f"{where}: made for {found} classes, the data set has {num_classes}")


def local_net(checkpoint: dict, num_classes: int, where: str) -> nn.Module:
    """The local net of a checkpoint, for data of `num_classes`."""
    _expect(checkpoint, "local", where)
    if is_state_dict(checkpoint):
        state, name = checkpoint, "lenet5"
    else:
        state, name = checkpoint["state_dict"], checkpoint["net"]
        _check_classes(checkpoint["num_classes"], num_classes, where)
    if name not in LOCAL_NETS:
        raise ValueError(f"{where}: local net {name!r} is unknown; {', '.join(LOCAL_NETS)}")
    if "fc3.weight" in state:
        _check_classes(len(state["fc3.weight"]), num_classes, where)
    return fill(LOCAL_NETS[name](num_classes), state, where, name)


def edge_net(checkpoint: dict, num_classes: int, where: str) -> nn.Module:
    """The edge net of a checkpoint of ours, for data of `num_classes`."""
    _expect(checkpoint, "edge", where)
    if is_state_dict(checkpoint):
        raise ValueError(f"{where}: a bare state dict without rejector.* and edge_net.* names")
    _check_classes(checkpoint["num_classes"], num_classes, where)
    net = build_edge(checkpoint["net"], num_classes, checkpoint["edge_size"])
    return fill(net, checkpoint["state_dict"], where, checkpoint["net"])


def rejector_net(checkpoint: dict, where: str) -> nn.Module:
    """The rejector of a checkpoint of ours."""
    _expect(checkpoint, "rejector", where)
    return fill(Rejector(), checkpoint["state_dict"], where, "rejector")


def release_nets(state: State, num_classes: int, where: str) -> tuple[nn.Module, nn.Module]:
    """(rejector, edge net) of the release's bare state dict: alexnet or vit, told by the names."""
    rejector, edge = under(state, "rejector."), under(state, "edge_net.")
    if not rejector or not edge:
        raise ValueError(f"{where}: needs names under both rejector.* and edge_net.*")
    if any(k.startswith("vit.") for k in edge):
        name, head = "vit", "heads.weight"
        edge = {k: v for k, v in edge.items() if not k.startswith("vit.heads.")}  # never used there
    else:
        name, head = "alexnet", "classifier.6.weight"
    if head in edge:
        _check_classes(len(edge[head]), num_classes, where)
    net = build_edge(name, num_classes, edge_size(name, 32))
    return fill(Rejector(), rejector, where, "rejector"), fill(net, edge, where, name)


def under(state: State, prefix: str) -> State:
    """The part of a state dict below `prefix`, without it and without DataParallel's `module.`."""
    plain = {re.sub(r"^module\.", "", k): v for k, v in state.items()}
    return {k.removeprefix(prefix): v for k, v in plain.items() if k.startswith(prefix)}


@torch.no_grad()
def predict(net: nn.Module, batches: Iterable) -> Tensor:
    """Logits of `net` in eval mode on all batches: [N, K], or [R, N, 2] of stacked rejectors.

    Batches give (rows, images, labels). The mode that the net was in is restored.
    """
    mode = net.training
    net.eval()
    logits = torch.cat([net(images) for _, images, _ in batches], dim=-2)
    net.train(mode)
    return logits
