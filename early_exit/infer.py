"""Early exit for real: what has left is not computed any further. Decisions, latency, throughput.

  python -m early_exit.infer --dataset digits --save_dir results/runs/early-exit
  python -m early_exit.infer --dataset digits --save_dir results/runs/early-exit --budget 6e6

Thresholds are those that early_exit.eval fitted on val: the points nearest to each --q, or for each
--budget the one that is right most often on val among those whose mean multiply-adds there keep to
it; or your own --thresholds. The test set is run with real early exit and each sample's exit is
compared with that on paper (the saved logits of all exits). Then latency at each of --batch_sizes,
row by row in turn, on the test images in their order: the network with all exits, its last exit
alone, and early exit at each point. Writes {dataset}-infer.json.
"""

import math

import numpy as np
import torch

import data
import experiment
from deferral import exits
from deferral import predictions as saved
from early_exit.inference import Inference, LastExit
from early_exit.latency import latencies
from early_exit.load import add_flags, check_flags, open_all
from experiment import number
from models.cost import multiply_adds as count


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    add_flags(parser, argv)
    group = parser.add_argument_group("points and timing")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--q",
        type=number(float, 1 / 20, exits.POINTS / 20),
        nargs="+",
        default=[0.5, 0.75, 1.0, 1.25],
        help="exit k takes a share proportional to q^k on val; to the next 0.05",
    )
    which.add_argument(
        "--budget",
        type=number(float, 0, above=True),
        nargs="+",
        help="mean multiply-adds an image, on val",
    )
    which.add_argument(
        "--thresholds",
        type=confidence,
        nargs="+",
        help="on max softmax, one an exit but for the last; inf: none leaves",
    )
    group.add_argument(
        "--batch_sizes", type=number(int, 1), nargs="+", default=[1, 256], help="timed"
    )
    group.add_argument(
        "--seconds", type=number(float, 0), default=20.0, help="of timing at each batch size"
    )
    parser.add_common(seed=0)
    args = parser.parse_args(argv)
    check_flags(parser, args)
    return args


def confidence(text: str) -> float:
    """An argparse type: a number from 0 up, or inf."""
    return math.inf if text == "inf" else number(float, 0)(text)


def operating_points(args, pred, multiply_adds) -> list[dict]:
    """What was asked for: {"q" (None for own thresholds), "thresholds" [E]} a point.

    Thresholds are on `exits.confidence`, those of the flag on max softmax, which is 1 more.
    """
    num_exits = len(pred.stage_logits)
    if args.thresholds:
        if len(args.thresholds) != num_exits - 1:
            raise ValueError(
                f"--thresholds: {len(args.thresholds)} for {num_exits} exits: give "
                f"{num_exits - 1}; the last exit takes what is left"
            )
        return [{"q": None, "thresholds": np.array([*args.thresholds, -np.inf]) - 1}]
    qs = np.arange(1, exits.POINTS + 1) / 20
    val = pred.part("val")
    sure = exits.confidence(val.stage_logits)
    thresholds = exits.fit_thresholds(sure, exits.shares(qs, num_exits))
    _, accuracy, cost = exits.spent(exits.stops(sure, thresholds), val.correct, multiply_adds)
    if args.budget:
        rows = [best_within(budget, accuracy, cost) for budget in args.budget]
    else:
        rows = [int(np.abs(qs - q).argmin()) for q in args.q]
    return [{"q": float(qs[i]), "thresholds": thresholds[i]} for i in dict.fromkeys(rows)]


def best_within(budget: float, accuracy: np.ndarray, cost: np.ndarray) -> int:
    """The point of highest val accuracy among those that cost at most `budget` on val.

    Of equals the cheapest. ValueError where there is none.
    """
    able = np.flatnonzero(cost <= budget)
    if not len(able):
        raise ValueError(
            f"--budget {budget:g}: the cheapest point takes {cost.min():,.0f} multiply-adds on val"
        )
    return int(able[np.lexsort((cost[able], -accuracy[able]))[0]])


def run_early(inference, batches, thresholds) -> tuple[np.ndarray, np.ndarray]:
    """Exit and whether right of each sample, int64 [N] and bool [N], with real early exit."""
    stop, right = [], []
    with inference.ready():
        for _, images, labels in batches.epoch(0):
            left, logits = inference.early(images, thresholds)
            stop.append(left.cpu())
            right.append((logits.argmax(-1) == labels).cpu())
    return torch.cat(stop).numpy(), torch.cat(right).numpy()


def check(inference, batches, test, point, multiply_adds) -> dict:
    """Real early exit on test beside what the saved logits `test` say of it."""
    stop, right = run_early(inference, batches, point["thresholds"])
    paper = exits.stops(exits.confidence(test.stage_logits), point["thresholds"])
    counts = np.bincount(stop, minlength=len(multiply_adds))
    return {
        "q": point["q"],
        "max_doubt": exits.max_doubt(point["thresholds"]),
        "shares": (counts / len(stop)).tolist(),
        "accuracy": float(right.sum() / len(right)),
        "multiply_adds": float(counts @ np.array(multiply_adds) / len(stop)),
        "differences": int((stop != paper).sum()),
    }


def print_report(result):
    known = {("early exit", p["q"]): p for p in result["points"]}
    known["all exits", None] = result["all_exits"]
    known["last exit alone", None] = result.get("last_exit_alone")
    print(
        f"{result['arch']}, {result['method']}, {result['dataset']}; {result['hardware']}"
        f"{', bfloat16' if result['bf16'] else ''}"
    )
    print(
        f"{'batch':>6}  {'':20}  {'multiply-adds':>14}  {'test':>7}  {'median ms':>9}  "
        f"{'90 % ms':>9}  {'images/s':>9}"
    )
    for row in result["latency"]:
        point = known[row["way"], row["q"]]
        way = row["way"] + ("" if row["q"] is None else f", q {row['q']:g}")
        print(
            f"{row['batch_size']:6}  {way:20}  {point['multiply_adds']:14,.0f}  "
            f"{point['accuracy']:7.2%}  {row['median_ms']:9.3f}  {row['p90_ms']:9.3f}  "
            f"{row['images_per_second']:9,.0f}"
        )
    total = sum(p["differences"] for p in result["points"])
    print(
        f"{total} of {len(result['points']) * result['test_images']} decisions differ from those "
        "on paper"
    )


def infer(args):
    """One network: its decisions against paper, its latency, and the JSON."""
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        name = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, name)
        run = experiment.Run(args.save_dir, paths.stem("infer"), args, remake=True)
        path, done = paths.predictions, paths.result("eval")
        if not (path.exists() and done.exists()):
            raise ValueError(f"{done}: not there; python -m early_exit.eval makes it")
        opened = open_all(args)
        inputs = opened.inputs() | {path.name: path}
        if run.is_complete(opened.fingerprint, inputs):
            return print(f"{run.result}: complete")
        pred = saved.load(path)
        if any(pred.settings.get(k) != value for k, value in opened.settings().items()):
            raise ValueError(
                f"{path}: is not of {opened.trained.path} and this data; "
                "python -m early_exit.eval --overwrite makes it again"
            )
        multiply_adds = pred.settings["multiply_adds"]
        points = operating_points(args, pred, multiply_adds)
        test = pred.part("test")
        batches = opened.batches(opened.dataset.test, args.batch_size, device, args.workers)
        run.start(device, opened.fingerprint)

    trained = opened.trained
    alone = LastExit(trained.net)
    last_alone = count(alone, trained.net.example(trained.size))
    inference = Inference(
        trained.net,
        device,
        trained.ensemble_reweight,
        bf16=args.bf16,
        channels_last=args.channels_last,
    )
    head, dirty = experiment.commit()
    result = {
        "dataset": name,
        "arch": trained.arch,
        "method": trained.method,
        "seed": trained.about.get("seed"),
        "bf16": args.bf16,
        "channels_last": args.channels_last,
        "commit": head + (" with changes" if dirty else ""),
        "hardware": experiment.hardware(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "test_images": len(test.labels),
    }
    full = {"accuracy": exits.anytime(pred, multiply_adds)[-1]["accuracy"]}
    result["all_exits"] = full | {"multiply_adds": multiply_adds[-1]}
    if not trained.ensemble_reweight:
        result["last_exit_alone"] = full | {"multiply_adds": last_alone}
    with experiment.one_line_errors():  # streamed pictures are read only now
        result["points"] = [check(inference, batches, test, p, multiply_adds) for p in points]
        result["latency"] = latencies(inference, opened, points, args.batch_sizes, args.seconds)
    run.finish(result)
    print_report(result)
    print(run.result)
    return None


@experiment.script
def main(argv=None):
    for args in experiment.each_seed(parse_args(argv)):
        infer(args)


if __name__ == "__main__":
    main()
