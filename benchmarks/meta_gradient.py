"""Time and peak memory of L2W's meta-gradient in forward mode and by double backward.

  python -m benchmarks.meta_gradient
  python -m benchmarks.meta_gradient --device cuda --batch_size 256 --out meta_gradient-cuda.json

MSDNet with 5 exits in train mode, half batches of 32 CIFAR-sized images. Each round times five
ways:

  forward       the meta-gradient as with `--save_memory`, without the real step
  double        the same by backward() through the graph of the pseudo-step's backward (usual way)
  pruned        the same by autograd.grad for the weight net only, which computes less
  forward step  a half batch as in training: the real step shares the forward pass
  double step   a half batch with `double`: the real step has its own forward pass

Ratios are medians over `double`, or over `pruned` where named. On a CPU, seconds are the CPU time
of the process, so that other load matters little; else they are wall time. Peak memory counts
tensors beyond those at the start; on a CPU it comes from the profiler. Ends with an error if the
gradients differ.
"""

import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

import experiment
from benchmarks.points import about, add_common, peak_bytes
from deferral.exits import exit_counts
from deferral.exits import shares as shares_of_exits
from early_exit.methods import L2W, Half
from experiment.parallel import Workers
from losses.early_exit import assign_exits, doubts, exit_losses
from models.msdnet import MSDNet
from models.weight_net import WeightNet, sample_weights


def double_backward(method: L2W, a: Half, b: Half, pruned: bool = True) -> tuple[Tensor, ...]:
    """The weight net's gradients as the authors compute them, through the pseudo-step's backward.

    For one process; the exits of samples do not depend on the weights. pruned: compute no gradients
    of the network's own weights, unlike a plain backward() from the meta loss.
    """
    net, group = method.net, method.optimizer.param_groups[0]
    params = dict(net.named_parameters())
    buffers = {name: x.clone() for name, x in net.named_buffers()}
    logits = functional_call(net, {**params, **buffers}, (a.images,))
    losses = exit_losses(logits, a.labels, method.label_smoothing)
    scores = method.weight_net(losses.detach(), 1 - doubts(logits).detach())
    weights = sample_weights(scores, method.epsilon, method.dimension)
    loss = (weights * losses).mean(0).sum()
    gradients = torch.autograd.grad(
        loss, list(params.values()), create_graph=True, materialize_grads=True
    )
    stepped = {}
    for (name, p), g in zip(params.items(), gradients, strict=True):
        if isinstance(method.optimizer, torch.optim.AdamW):
            stepped[name] = adam_step(p.detach(), g, group, method.optimizer.state.get(p, {}))
            continue
        d = g + group["weight_decay"] * p.detach()
        if group["momentum"]:
            old = method.optimizer.state[p].get("momentum_buffer")
            v = d if old is None else group["momentum"] * old + d
            d = d + group["momentum"] * v if group["nesterov"] else v
        stepped[name] = p.detach() - group["lr"] * d
    buffers = {name: x.clone() for name, x in net.named_buffers()}
    logits = functional_call(net, {**stepped, **buffers}, (b.images,))
    losses_b = exit_losses(logits, b.labels, method.label_smoothing)
    counts = exit_counts(len(b.images), method.shares).tolist()
    exits = assign_exits(doubts(logits).detach(), counts)
    present = [k for k in range(losses_b.shape[1]) if (exits == k).any()]
    meta = torch.stack([losses_b[exits == k, k].mean() for k in present]).sum()
    if pruned:
        return torch.autograd.grad(meta, list(method.weight_net.parameters()))
    method.meta_optimizer.zero_grad()
    meta.backward()
    net.zero_grad()
    return tuple(p.grad for p in method.weight_net.parameters() if p.grad is not None)


def adam_step(p: Tensor, g: Tensor, group: dict, state: dict) -> Tensor:
    """p after a step of AdamW (Loshchilov and Hutter, ICLR 2019), differentiable in g."""
    beta_1, beta_2 = group["betas"]
    t = int(state.get("step", 0)) + 1
    m = beta_1 * state.get("exp_avg", 0) + (1 - beta_1) * g
    v = beta_2 * state.get("exp_avg_sq", 0) + (1 - beta_2) * g**2
    root = torch.where(v > 0, v, 1).sqrt() * (v > 0)  # the square root has no derivative at 0
    spread = root / (1 - beta_2**t) ** 0.5 + group["eps"]
    step = group["lr"] / (1 - beta_1**t) * m / spread
    return p - group["lr"] * group["weight_decay"] * p - step


def make(device: torch.device, batch: int, dtype: torch.dtype = torch.float32):
    """The L2W method on an MSDNet with 5 exits for CIFAR-10, and two halves of `batch` samples."""
    parser = experiment.Parser(None)
    MSDNet.add_flags(parser.add_argument_group())
    torch.manual_seed(0)
    net = MSDNet.from_settings(vars(parser.parse_args([])), 10, 32).to(device, dtype).train()
    weight_net = WeightNet(net.num_exits).to(device, dtype)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9, weight_decay=1e-4)
    meta_optimizer = torch.optim.Adam(weight_net.parameters(), 1e-4)
    method = L2W(
        net, net, optimizer, Workers(),
        weight_net=weight_net, meta_optimizer=meta_optimizer,
        shares=shares_of_exits(0.75, net.num_exits), save_memory=True,
    )  # fmt: skip
    halves = [
        Half(
            torch.randn(batch, 3, 32, 32, device=device, dtype=dtype),
            torch.randint(0, 10, (batch,), device=device),
            batch,
            first,
        )
        for first in (0, batch)
    ]
    return method, *halves


def ways(method: L2W, a: Half, b: Half) -> dict:
    """The functions to time, by name."""

    def plain_step():
        double_backward(method, a, b, pruned=False)
        method.meta_optimizer.step()
        logits = method.model(method.laid_out(a.images))
        losses = exit_losses(logits, a.labels)
        with torch.no_grad():
            weights = method.weights([losses, 1 - doubts(logits)])
        method.update((weights * losses).sum(), a.total)

    def step():
        method.save_memory = False
        method.half(a, b, True)
        method.save_memory = True

    return {
        "forward": lambda: method.train_weight_net(a, b),
        "double": lambda: double_backward(method, a, b, pruned=False),
        "pruned": lambda: double_backward(method, a, b),
        "forward step": step,
        "double step": plain_step,
    }


def seconds(run, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def check(device: torch.device) -> float:
    """Largest difference of the two gradients in float64, over the largest gradient."""
    method, a, b = make(device, 4, torch.float64)
    expected = double_backward(method, a, b)
    method.meta_optimizer.step = lambda: None
    method.train_weight_net(a, b)
    actual = [p.grad for p in method.weight_net.parameters()]
    largest = max(float(e.abs().max()) for e in expected)
    difference = max(float((e - g).abs().max()) for e, g in zip(expected, actual, strict=True))
    if not difference < 1e-8 * largest:
        raise SystemExit(
            f"error: the gradients differ by {difference:.1e}, the largest is {largest:.1e}"
        )
    return difference / largest


def main(argv=None):
    parser = experiment.Parser(__doc__)
    add_common(parser, rounds=7)
    parser.add_argument("--batch_size", type=int, default=32, help="images of a half batch")
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    hardware = experiment.hardware(device)
    print(f"{hardware}, torch {torch.__version__}, half batches of {args.batch_size}")
    difference = check(device)
    print(f"in float64 the gradients differ by {difference:.1e} of the largest")
    timed = ways(*make(device, args.batch_size))
    times = {name: [] for name in timed}
    for run in timed.values():
        run()  # the first call warms up
    for _ in range(args.rounds):
        for name, run in timed.items():
            times[name].append(seconds(run, device))
    peak = {name: peak_bytes(run, device) for name, run in timed.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    for name in timed:
        print(f"{name:13} {1000 * median[name]:8.1f} ms  {peak[name] / 2**20:8.1f} MiB")
    ratios = {
        "time": median["forward"] / median["double"],
        "memory": peak["forward"] / peak["double"],
        "time, pruned": median["forward"] / median["pruned"],
        "memory, pruned": peak["forward"] / peak["pruned"],
        "step time": median["forward step"] / median["double step"],
        "step memory": peak["forward step"] / peak["double step"],
    }
    print("ratios: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    if args.out:
        numbers = {"seconds": times, "peak_bytes": peak, "ratios": ratios}
        sizes = {"batch_size": args.batch_size, "difference": difference}
        experiment.write_json(Path(args.out), about(device, **sizes, **numbers))


if __name__ == "__main__":
    main()
