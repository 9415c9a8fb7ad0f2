"""What graphs and torch.compile may hold, and that nothing is read back to the host."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deferral.exits import shares as shares_of_exits
from early_exit import train
from early_exit.flags import graphable, make_method
from early_exit.methods import L2W, has_dropout
from experiment.parallel import Workers
from models.exit_nets import EXIT_NETS
from models.weight_net import WeightNet
from tests.early_exit.toy import SMALL, settings_of
from tests.made import noise_batches

SIZES = [6] * 6 + [5, 6, 6]  # a smaller last batch, and a replay of each graph after it
RATES = [1 / (1 + i) for i in range(len(SIZES))]
FEW = {"n_blocks": 2, "base": 1, "step": 1, "n_channels": 2, "growth_rate": 2}


def network(arch="msdnet"):
    torch.manual_seed(0)
    settings = settings_of(arch, **(FEW if arch == "msdnet" else SMALL[arch]))
    return EXIT_NETS[arch].from_settings(settings, 4, 32).train()


def method_of(kind, graph=None):
    net = network()
    how = {"momentum": 0.9, "weight_decay": 0.01, "nesterov": True, "fused": True}
    common = net, net, torch.optim.SGD(net.parameters(), 0.05, **how), Workers()
    if kind is not L2W:
        return kind(*common, graph=graph)
    weight_net = WeightNet(2, hidden=8)
    return L2W(
        *common, graph=graph,
        weight_net=weight_net,
        meta_optimizer=torch.optim.Adam(weight_net.parameters(), 1e-3, fused=True),
        shares=shares_of_exits(0.75, 2),
        meta_interval=2,
    )  # fmt: skip


def run(method, sizes=SIZES, rates=RATES):
    """All sums that the steps give, and all weights afterwards."""
    found = []
    for (images, labels), rate in zip(noise_batches(sizes, 4, 32), rates, strict=True):
        method.set_lr(rate)
        found.append(method.step(images, labels, len(images)).clone())
    nets = [method.net, *([method.weight_net] if isinstance(method, L2W) else [])]
    return torch.stack(found), [x for net in nets for x in net.state_dict().values()]


def test_optimizer_state_for_graphs_is_on_the_device():
    """Of a state that was saved by a run without graphs, Adam's count of steps too."""
    method = method_of(L2W)
    run(method, SIZES[:1], RATES[:1])
    method.meta_optimizer = torch.optim.Adam(method.weight_net.parameters(), 1e-3)
    method.meta_optimizer.step()
    assert any("step" in state for state in method.meta_optimizer.state.values())
    with FakeTensorMode(allow_non_fake_inputs=True):
        method.steer(torch.device("cuda"))
        for optimizer in method.optimizers():
            (group,) = optimizer.param_groups
            assert group["lr"].device.type == "cuda"
            assert isinstance(group["initial_lr"], float)
            assert group.get("capturable", True)
            for state in optimizer.state.values():
                assert "step" not in state or state["step"].device.type == "cuda"


def make(*flags):
    args = train.parse_args(list(flags))
    net = network(args.arch) if args.arch in SMALL else None
    return args, net


@pytest.mark.parametrize(
    ("flags", "can"),
    [
        (["--method", "base", "--optimizer", "adamw"], True),
        (["--method", "boosted"], True),
        (["--method", "l2w"], True),
        (["--method", "l2w", "--optimizer", "adamw"], False),
        (["--method", "l2w", "--save_memory"], False),
    ],
)
def test_what_a_graph_can_hold(flags, can):
    args, net = make(*flags)
    assert graphable(args, net) is can
    assert make_method(args, net, 32, torch.device("cpu"), Workers()).graph is None
    with_dropout = torch.nn.Sequential(net, torch.nn.Dropout(0.1))
    assert has_dropout(with_dropout)
    assert not has_dropout(net)
    assert graphable(args, with_dropout) is (can and args.method != "l2w")


def stand_in(calls):
    """For torch.compile: what it is given, and the sizes of the batches that it then sees."""

    def compile(function):
        def run(*args):
            calls.append((function.__name__, len(args[-1])))
            return function(*args)

        return run

    return compile


@pytest.mark.parametrize(
    ("method", "passes"),
    [("base", ["losses"]), ("boosted", ["losses"]), ("l2w", ["both", "elsewhere", "losses_along"])],
)
def test_what_is_compiled(method, passes, monkeypatch):
    """Every pass, for one batch size; another one runs eagerly and is the same step."""
    calls, flags = [], ["--method", method, "--lr", "0.05", "--compile"]
    monkeypatch.setattr(torch, "compile", stand_in(calls))
    args, net = make(*flags)
    compiled = make_method(args, net, 32, torch.device("cpu"), Workers())
    args, net = make(*flags[:-1])
    plain = make_method(args, net, 32, torch.device("cpu"), Workers())
    sizes, rates = [8, 6, 8], [1, 0.5, 0.3]
    torch.testing.assert_close(run(compiled, sizes, rates)[0], run(plain, sizes, rates)[0])
    assert {name for name, _ in calls} == set(passes)
    assert {size for _, size in calls} == {4 if method == "l2w" else 8}


def test_dropout_stays_out_of_what_is_compiled(monkeypatch):
    """torch.compile draws for itself: the pass over a half and its derivative must be one."""
    calls = []
    monkeypatch.setattr(torch, "compile", stand_in(calls))
    flags = ["--method", "l2w", "--arch", "vit", "--compile"]
    args = train.parse_args(flags)
    net = EXIT_NETS["vit"].from_settings(settings_of("vit", **SMALL["vit"], vit_dropout=0.2), 4, 32)
    method = make_method(args, net.train(), 32, torch.device("cpu"), Workers())
    run(method, [8], [1])
    assert calls == [("elsewhere", 4)] * 2  # over the other half, twice
