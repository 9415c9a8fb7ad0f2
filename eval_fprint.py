"""Evaluate one checkpoint and print the report: local only, edge only, both, and both inverted.

  python eval_fprint.py --dataset digits \\
      --model_path results/runs/first/digits-edgenet-async-1-cost_1-1.25-cost_e-0.25.pth
  python eval_fprint.py --dataset cifar10 --save_dir results/run1/cifar10 \\
      --model_path cifar10-edgenet-async-1-cost_1-1.25-cost_e-0.25.pth
  python eval_fprint.py --dataset cifar10 --model release.pth --local_path cifar10-localnet.pth \\
      --cost_1 1.25 --cost_e 0.25

Takes a checkpoint of train_edgenet_async.py (with its edge and local net beside it), a bare state
dict of the L2H release (`rejector.*` and `edge_net.*`, alexnet or vit), an edge net alone, or a
local net alone. The local net {dataset}-localnet.pth is read from SAVE_DIR or, if that is not
given, from the checkpoint's folder; --local_path names another. The costs are those in the
checkpoint, or in the release's file name. All numbers are on test. A network that was trained with
--stream takes --stream and the same --stream_size here.
"""

from pathlib import Path

import numpy as np

import data
import experiment
from data.flags import add_dataset_flag
from deferral import rules
from deferral.calibrate import reject_rate_threshold, risk_threshold
from deferral.catalogue import RULES, SUMMARY
from deferral.counts import cascade_counts, stage_counts
from deferral.risk import costs, random_risk, risk, send_rate
from deferral.summary import Baselines
from experiment import number
from learning_to_help import released
from learning_to_help.inputs import add_stream_flags, check_data, check_stream_flags, load
from learning_to_help.settings import released_setting
from models.checkpoints import edge_net, kind_of, local_net, rejector_net, release_nets
from models.inference import predict_each

OF_REJECTOR = ("cost_1", "cost_e", "max_reject_rate", "max_risk")


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    group = parser.add_argument_group("what to evaluate")
    group.add_argument(
        "--model_path", "--model", required=True, help="the checkpoint; also looked for in SAVE_DIR"
    )
    group.add_argument("--save_dir", help="folder of {dataset}-localnet.pth, as in the L2H release")
    group.add_argument(
        "--local_path", help="another local net than SAVE_DIR's or the checkpoint folder's"
    )
    add_dataset_flag(group)
    group.add_argument(
        "--cost_1", type=number(float, 0), help="edge error cost; the checkpoint's if not given"
    )
    group.add_argument(
        "--cost_e", type=number(float, 0), help="query cost; the checkpoint's if not given"
    )
    group.add_argument(
        "--max_reject_rate",
        type=number(float, 0, 1, above=True),
        metavar="Q",
        help="also limit the reject rate to Q, by four rules fitted on val",
    )
    group.add_argument(
        "--max_risk",
        type=number(float, 0, above=True),
        metavar="R",
        help="also find a threshold whose risk is at most R",
    )
    group.add_argument(
        "--delta",
        type=number(float, 1e-9, 0.5),
        default=0.05,
        help="probability that a guaranteed threshold exceeds its bound",
    )
    group.add_argument("--batch_size", type=number(int, 1), default=250, help="images at once")
    add_stream_flags(group)
    parser.add_common(seed=43, many=False)
    args = parser.parse_args(argv)
    args.given = parser.given(args, argv)
    check_stream_flags(parser, args, argv)
    parser.refuse(args.given, ("overwrite", "resume"), "this script writes nothing")
    if args.save_dir and args.local_path:
        parser.error("--local_path: --save_dir names the local net's folder already; leave one out")
    if not args.max_reject_rate and not args.max_risk:
        parser.refuse(args.given, ("delta", "seed"), "goes with --max_reject_rate or --max_risk")
    return args


def find_model(model_path: str, save_dir: str | None) -> Path:
    """The path as given, or within `save_dir` if only that exists."""
    path = Path(model_path)
    if save_dir and not path.exists() and (Path(save_dir) / path).exists():
        return Path(save_dir) / path
    return path


def read_checkpoints(path: Path, local_path: str | None, folder: Path, name: str):
    """The checkpoints that `path` refers to, by kind: (checkpoint, its path).

    Kinds are local, edge, rejector and release. The local net is that of `local_path`, or else that
    of data set `name` in `folder`.
    """
    checkpoint = experiment.load_checkpoint(path)
    kind = kind_of(checkpoint, str(path))
    checkpoints = {kind: (checkpoint, str(path))}
    local = Path(
        local_path
        or folder / checkpoint.get("local_file", experiment.RunPaths(folder, name).local.name)
    )
    if kind == "rejector":
        for other, file in (("edge", path.parent / checkpoint["edge_file"]), ("local", local)):
            digest = checkpoint[f"{other}_sha256"]
            checkpoints[other] = experiment.load_checkpoint(file, digest), str(file)
    elif kind == "release" and (local.exists() or not path.stem.endswith(released.ONLY)):
        if not local.exists():
            raise ValueError(
                f"{path}: a bare state dict holds no local net, and {local} is not there; give "
                "--save_dir or --local_path"
            )
        checkpoints["local"] = experiment.load_checkpoint(local), str(local)
    return checkpoints


def costs_of(args, path: Path, checkpoints: dict) -> tuple[float, float] | None:
    """The rejector's (c_1, c_e): from the flags, else the checkpoint, else the release's file name.

    None if one is unknown. ValueError if a flag then has no effect.
    """
    recorded = checkpoints.get("rejector", ({}, ""))[0]
    if "release" in checkpoints:
        named = released_setting(path.stem)
        recorded = named._asdict() if named else {}
    pair = [
        recorded.get(name) if getattr(args, name) is None else getattr(args, name)
        for name in ("cost_1", "cost_e")
    ]
    if None not in pair:
        return tuple(pair)
    for name in ("cost_1", "cost_e", "max_risk"):
        if name in args.given:
            raise ValueError(
                f"--{name}: {path} does not name its costs; give both --cost_1 and --cost_e"
            )
    return None


def build_nets(checkpoints: dict[str, tuple[dict, str]], num_classes: int) -> dict:
    """The networks of the checkpoints by stage: "local", "edge" and "rejector"."""
    nets = {}
    if "local" in checkpoints:
        nets["local"] = local_net(checkpoints["local"][0], num_classes, checkpoints["local"][1])
    if "edge" in checkpoints:
        nets["edge"] = edge_net(checkpoints["edge"][0], num_classes, checkpoints["edge"][1])
    if "rejector" in checkpoints:
        nets["rejector"] = rejector_net(*checkpoints["rejector"])
    if "release" in checkpoints:
        state, where = checkpoints["release"]
        nets["rejector"], nets["edge"] = release_nets(state, num_classes, where)
        if Path(where).stem.endswith(released.ONLY):
            del nets["rejector"]  # never trained: its weights are random
    return nets


def print_stage(name, counts, classes):
    print(f"\n{name}: {counts['correct'] / counts['total']:.2%} of {counts['total']}")
    for k, row in counts["labels_map"].items():
        print(f"  {classes[int(k)]:>12}  {row['correct']:6} of {row['total']}")


def print_both(name, counts, classes):
    kept, sent = counts["predict_locally"], counts["predict_remotely"]
    rows = counts["labels_map"]
    right = [sum(row[key] for row in rows.values()) for key in ("local_correct", "remote_correct")]
    print(f"\n{name}: {counts['correct'] / counts['total']:.2%} of {counts['total']}")
    for place, part, total in (("LOCAL", right[0], kept), ("REMOTE", right[1], sent)):
        share = f"{part / total:.2%} right" if total else "none"
        print(f"  {place:6} {total:6} samples, {share}")
    print(f"  {'class':>12}  {'LOCAL':>14}  {'REMOTE':>14}  {'sent':>6}")
    for k, row in rows.items():
        local = f"{row['local_correct']} of {row['local_total']}"
        remote = f"{row['remote_correct']} of {row['remote_total']}"
        share = row["remote_total"] / (row["local_total"] + row["remote_total"])
        print(f"  {classes[int(k)]:>12}  {local:>14}  {remote:>14}  {share:6.1%}")


def print_risks(val, test, cost_1, cost_e):
    """Thresholds from val, risks on test. val and test: (logits, correct [2, N], scores)."""
    cost, correct = costs(cost_1, cost_e), test[1]
    stop = rules.threshold(test[2], 0.0)
    stops = Baselines(*val[:2], *test[:2]).stops(cost_1, cost_e) | {"rejector": stop}
    rate = send_rate(stop)
    rows = []
    for rule in SUMMARY:
        if rule.name == "random":
            rows.append((f"{rule.label}, same rate", random_risk(correct, rate, *cost), rate))
            continue
        rows.append((rule.label, risk(correct, stops[rule.key], *cost), send_rate(stops[rule.key])))
        if rule.name == "rejector":
            name = f"{rule.label} inverted"
            rows.append((name, risk(correct, 1 - stop, *cost), send_rate(1 - stop)))
    print(f"\nrisk at c_1 {cost_1:g}, c_e {cost_e:g}")
    for name, paid, sent in rows:
        print(f"  {name:29} {paid:.4f}  sends {sent:.1%}")


def print_bounded(val, test, rate, delta, seed):
    """Limit the reject rate to `rate`: thresholds on r's score, and the release's two rules."""
    stop = rules.threshold(test[2], 0.0)
    val_rate = send_rate(rules.threshold(val[2], 0.0))
    rng = np.random.default_rng(seed)
    print(f"\nreject rate held to {rate:g}; the guarantee is of {1 - delta:g}")
    stops = {
        "guaranteed": rules.threshold(test[2], reject_rate_threshold(val[2], rate, delta)),
        "empirical": rules.threshold(test[2], rules.rate_threshold(val[2], rate)),
        "bernoulli": rules.thin_or_top_up(stop, val_rate, rate, rng),
        "sliding_window": rules.sliding_window(stop, rate),
    }
    for name, stop in stops.items():
        right = np.where(stop == 1, test[1][1], test[1][0]).mean()
        print(f"  {RULES[name].label:29} {right:.2%} right  sends {send_rate(stop):.1%}")


def print_bounded_risk(val, test, cost, max_risk, delta, seed):
    """The threshold on r's score that bounds the risk on val, with probability 1 - delta."""
    cut = risk_threshold(val[2], val[1], *cost, max_risk, delta, seed)
    print(f"\nrisk held to {max_risk:g} with probability {1 - delta:g}")
    if cut is None:
        return print("  no threshold meets this bound on val")
    stop = rules.threshold(test[2], cut)
    return print(
        f"  threshold {cut:.4f}: {risk(test[1], stop, *cost):.4f}  sends {send_rate(stop):.1%}"
    )


@experiment.script
def main(argv=None):
    args = parse_args(argv)
    path = find_model(args.model_path, args.save_dir)
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        folder = Path(args.save_dir or path.parent)
        checkpoints = read_checkpoints(path, args.local_path, folder, data.stem(args.dataset))
        entries = {k: v for checkpoint, _ in checkpoints.values() for k, v in checkpoint.items()}
        dataset = load(args, *released.split_of(entries))
        for checkpoint, where in checkpoints.values():
            otherwise = f"--dataset {args.dataset}: is not what {where} was trained on"
            check_data(checkpoint, dataset, where, otherwise)
        nets = build_nets(checkpoints, len(dataset.classes))
        if "rejector" in nets:
            pair = costs_of(args, path, checkpoints)
        elif useless := args.given & (
            {*OF_REJECTOR} if "release" in checkpoints else {*OF_REJECTOR, "local_path"}
        ):
            raise ValueError(f"--{min(useless)}: {path} holds no trained rejector")

    parts = {"val": dataset.val, "test": dataset.test}
    modules, logits = [net.to(device) for net in nets.values()], {}
    for split, part in parts.items():
        batches = data.image_batches(part, args.batch_size, device)
        for name, values in zip(nets, predict_each(modules, batches), strict=True):
            logits[name, split] = values.cpu().numpy()
    labels, num_classes = dataset.test.labels.numpy(), len(dataset.classes)
    print(f"{path}\n{dataset.name}: {len(labels)} test images of {num_classes} classes")
    for name in ("local", "edge"):
        if name in nets:
            right = logits[name, "test"].argmax(-1) == labels
            print_stage(f"{name} only", stage_counts(labels, right, num_classes), dataset.classes)
    if "rejector" not in nets:
        return

    def collect(split):
        truth = parts[split].labels.numpy()
        correct = np.stack([logits[k, split].argmax(-1) == truth for k in ("local", "edge")])
        return logits["local", split], correct, np.diff(logits["rejector", split])[:, 0]

    val, test = collect("val"), collect("test")
    stop = rules.threshold(test[2], 0.0)
    for name, decision in (("both", stop), ("both inverted", 1 - stop)):
        counts = cascade_counts(labels, test[1], decision, num_classes)
        print_both(name, counts, dataset.classes)
    if pair:
        print_risks(val, test, *pair)
    else:
        print("\nthis rejector knows no costs: --cost_1 and --cost_e give the risks")
    if args.max_risk:
        bound = args.max_risk, args.delta, args.seed
        print_bounded_risk(val, test, costs(*pair), *bound)
    if args.max_reject_rate:
        print_bounded(val, test, args.max_reject_rate, args.delta, args.seed)
    if "release" in checkpoints and (pair or args.max_reject_rate):
        print(f"\nwarning: {released.OPTIMISTIC}")


if __name__ == "__main__":
    main()
