"""Time of a training step relative to a lower bound (floor) for the device.

  python -m benchmarks.floor
  python -m benchmarks.floor --device cuda --nets lenet5 alexnet vit --compile --out floor.json

The floor of a step is the larger of two times: its arithmetic at the rate of large matrix products
(float32 or bfloat16, as in the step), and its bytes at the bandwidth of a large copy, both measured
in this run. Arithmetic and bytes are undercounted, so that no step can be faster:

  arithmetic  2 flops per multiply-add; for a batch, the edge net's forward, backward (twice that)
              and predictions after the step, and the rejectors' forward and backward
  bytes       36 per parameter of the edge net: read by forward, backward and predictions, the
              gradient written and read, momentum and parameter read and written; 28 per parameter
              of the local net and the rejectors, which make no predictions after the step

Ways: `plain` trains one setting with the loop of sweep.py, with data already on the device; the
others run train_edgenet_async.py's loop with one setting (S = 1), the paper's 42 (S = 1) or its 12
(four S), eagerly or with the flags that the row names; `batch by batch` evaluates the copies of
S > 1 once per batch, as a plain script does. All ways alternate; medians over the rounds are
reported. Finally the time of the paper's protocol of 42 + 12 settings is extrapolated from the
steps of 15 epochs over 45,000 images.
"""

import copy
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F

import data
import experiment
import train_edgenet_async
import train_localnet
from benchmarks.points import about, add_common, random_part, seconds, take_turns
from benchmarks.sweep import BATCH, plain_edge, sgd
from deferral.risk import PAPER_COSTS
from experiment.cuda_graph import StepGraph
from learning_to_help.settings import Setting
from learning_to_help.steps import EdgeStep, Rejectors
from models.cost import multiply_adds, parameters
from models.edgenet import build_edge, edge_size
from models.inference import predict
from models.localnet import LeNet5
from models.rejector import Rejector

SETTINGS = {
    1: [Setting(1, 1.25, 0.25)],
    42: [Setting(1, *pair) for pair in PAPER_COSTS],
    12: [Setting(s, *p) for s in (1, 100, 1000, 0) for p in ((1, 0.25), (1.25, 0), (1.25, 0.25))],
}
STEPS_OF_PROTOCOL = 15 * -(-45_000 // BATCH)


def measured(work, device, times=5) -> float:
    """The least of `times` measurements of the seconds of `work()`, after a warm-up."""
    work()
    return min(seconds(work, device) for _ in range(times))


def rates(device) -> dict[str, float]:
    """Flops per second of large products (float32, bf16) and bytes per second of a large copy."""
    side = 8192 if device.type == "cuda" else 2048
    rate = {}
    for name, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        rate[name] = 2 * side**3 / measured(lambda a=a, b=b: a @ b, device)
    values = 2**28 if device.type == "cuda" else 2**26
    a, b = torch.ones(values, device=device), torch.empty(values, device=device)
    rate["bytes"] = 2 * 4 * values / measured(lambda: b.copy_(a), device)
    return rate


def floor_ms(rate, flops, moved, kind) -> float:
    return 1e3 * max(flops / rate[kind], moved / rate["bytes"])


def local_ways(device, steps) -> dict:
    """{(way, settings): (function for an epoch of `steps` steps, dtype)} of the local net."""
    batches = data.Batches(random_part(steps * BATCH), BATCH, device, shuffle=True)
    ways = {}
    for way in ("plain", "eager", "graph") if device.type == "cuda" else ("plain", "eager"):
        net = LeNet5(10).to(device)
        if way == "plain":
            optimizer = sgd(net, 1e-3)

            def epoch(net=net, optimizer=optimizer):
                for _, images, labels in batches:
                    optimizer.zero_grad()
                    F.cross_entropy(net(images), labels).backward()
                    optimizer.step()
        else:
            step = train_localnet.training_step(net, sgd(net, 1e-3, fused=True))
            step = StepGraph(step, device, way == "graph")

            def epoch(net=net, step=step):
                train_localnet.train_one_epoch(net, step, batches, 0, "")

        ways[way, 0] = epoch, "float32"
    return ways


def edge_ways(name, device, steps, compiled, counts) -> dict:
    """The same for an edge net; each way trains a copy of it."""
    part, size = random_part(steps * BATCH), edge_size(name, 32)
    first = build_edge(name, 10, size, 0)
    batches = data.Batches(part, BATCH, device, shuffle=True)
    local = LeNet5(10).to(device).eval()
    logits = predict(local, data.Batches(part, 500, device))

    def plain():
        edge = copy.deepcopy(first).to(device)
        nets = local, edge, copy.deepcopy(edge).eval(), Rejector().to(device)
        optimizers = sgd(edge, 1e-3), sgd(nets[3], 1.6e-3)
        costs = [torch.tensor([[c]], device=device) for c in (1.25, 0.25)]
        return lambda: plain_edge(nets, optimizers, ((x, y) for _, x, y in batches), *costs, device)

    def ours(settings, ahead=True, **how):
        edge = copy.deepcopy(first).to(device)
        edge_step = EdgeStep(edge, sgd(edge, 1e-3, fused=True), BATCH, **how)
        flags = {"seed": 0, "lr": 1.6e-3, "momentum": 0.9, "ask": edge_step.ask}
        rejectors = Rejectors(settings, edge, device, graph=how["graph"], **flags)
        if not ahead:
            rejectors.copies.images_ahead = 1
        return lambda: train_edgenet_async.train_one_epoch(
            edge_step, rejectors, batches, logits, 0, ""
        )

    ways = {("plain", 1): (plain(), "float32")}
    graph = device.type == "cuda"
    flags = {"eager": {"graph": False}, "bf16": {"graph": graph, "bf16": True}}
    if graph:
        flags["graph"] = {"graph": True}
    if compiled:
        flags["compile"] = {"graph": graph, "compiled": True}
        flags["bf16 compile"] = {"graph": graph, "compiled": True, "bf16": True}
    for way, how in flags.items():
        for count in counts if way in ("eager", "graph", "bf16 compile") else (1,):
            kind = "bf16" if "bf16" in way else "float32"
            ways[way, count] = ours(SETTINGS[count], **how), kind
    if 12 in counts:
        ways["batch by batch", 12] = ours(SETTINGS[12], ahead=False, graph=graph), "float32"
    return ways


def work_of(name, device, settings) -> tuple[float, float]:
    """Lower bounds (flops, bytes) of a step."""
    if name == "lenet5":
        lenet = LeNet5(10).to(device)
        flops = 2 * BATCH * 3 * multiply_adds(lenet, torch.zeros(1, 3, 32, 32, device=device))
        return flops, 28 * parameters(lenet)
    net = build_edge(name, 10, edge_size(name, 32), 0).to(device)
    image = torch.zeros(1, 3, 32, 32, device=device)
    stack = Rejector().to(device)
    adds = 4 * multiply_adds(net, image) + 3 * settings * multiply_adds(stack, image)
    return 2 * BATCH * adds, 36 * parameters(net) + 28 * settings * parameters(stack)


def protocol(rows) -> list[dict]:
    """Hours of 42 + 12 settings on one data set, extrapolated from ms per step; plain: 54 runs."""
    hours = []
    for row in rows:
        if row["settings"] != 42:
            continue
        match = [
            r for r in rows if (r["net"], r["way"], r["settings"]) == (row["net"], row["way"], 12)
        ]
        plain = [r["ms"] for r in rows if (r["net"], r["way"]) == (row["net"], "plain")]
        if match:
            our_hours = STEPS_OF_PROTOCOL * (row["ms"] + match[0]["ms"]) / 3.6e6
            plain_hours = STEPS_OF_PROTOCOL * 54 * plain[0] / 3.6e6
            hours.append(
                {
                    "net": row["net"],
                    "way": row["way"],
                    "hours": our_hours,
                    "plain_hours": plain_hours,
                }
            )
    return hours


def main(argv=None):
    parser = experiment.Parser(__doc__)
    parser.add_argument(
        "--nets", nargs="+", default=["lenet5", "alexnet"], help="nets, such as vit"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps per round (lenet5: ten times)")
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    add_common(parser, rounds=5)
    args = parser.parse_args(argv)
    device = experiment.pick_device(args.device)
    torch.manual_seed(0)
    rate = rates(device)
    print(f"{experiment.hardware(device)}, torch {torch.__version__}, batch {BATCH}")
    print(
        f"{rate['float32'] / 1e12:.2f} Tflop/s float32, {rate['bf16'] / 1e12:.2f} bf16, "
        f"{rate['bytes'] / 1e9:.1f} GB/s"
    )
    print(f"{'':30} {'ms':>9} {'floor':>9} {'ms/floor':>9} {'plain/ms':>9}")
    rows = []
    for net in args.nets:
        steps = args.steps * (10 if net == "lenet5" else 1)
        ways = (
            local_ways(device, steps)
            if net == "lenet5"
            else edge_ways(net, device, steps, args.compile, [*SETTINGS])
        )
        epochs = {key: (epoch, steps) for key, (epoch, _) in ways.items()}
        times = take_turns(epochs, args.rounds, device)
        for (way, count), (_, kind) in ways.items():
            ms = statistics.median(times[way, count])
            plain = statistics.median(next(v for (w, _), v in times.items() if w == "plain"))
            floor = floor_ms(rate, *work_of(net, device, count), kind)
            rows.append(
                {"net": net, "way": way, "settings": count, "ms": ms, "floor_ms": floor,
                 "times_floor": ms / floor, "plain_over_ms": plain / ms,
                 "rounds_ms": times[way, count]}
            )  # fmt: skip
            name = f"{net} {way}" + (f", {count} settings" if count else "")
            print(
                f"{name:30} {ms:9.2f} {floor:9.3f} {ms / floor:9.2f} {plain / ms:9.2f}", flush=True
            )
        del ways, epochs
    hours = protocol(rows)
    for row in hours:
        print(
            f"{row['net']} {row['way']}: 42 + 12 settings in {row['hours']:.2f} h, "
            f"54 plain runs in {row['plain_hours']:.1f} h (extrapolated)"
        )
    if args.out:
        result = about(device, batch=BATCH, rates=rate, rows=rows, protocol=hours)
        experiment.write_json(Path(args.out), result)


if __name__ == "__main__":
    main()
