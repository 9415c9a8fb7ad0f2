"""Train a rejector after both nets are fixed, on images that neither was trained on.

  python train_rejector.py --dataset digits --save_dir results/runs/first
  python train_rejector.py --dataset cifar10 --save_dir results/runs/first \\
      --rejector_input features both --rejector_net small large

`--rejector amortized` is one rejector for all costs: it estimates P(m right | x) and
P(e right | x), and the Bayes rule of Wu et al. (ICLR 2025) answers for any (c_1, c_e) without
further training (models/amortized.py). Its student learns from the edge's probabilities on the
nets' training images. Its combiner is fitted on the images that `--rejector_val_size` kept from
both nets (on val if that was 0), because both nets are right too often on their training images.
Its calibration is fitted on val. `--rejector per_cost` fits a linear rejector for each cost pair
and surrogate on the same student instead, for comparison.

train_localnet.py and train_edgenet_async.py come first, with the same --dataset and --save_dir, and
with --stream where they had it; features and logits of all images are kept in memory, images not.
Writes {dataset}-rejector-{input}.pth for each input, {dataset}-rejector-{input}-{net}.pth for each
other --rejector_net, and, last, {dataset}-rejector.json; eval_all.py adds the estimates to the
predictions. On one CPU core for CIFAR-10: a minute on features, some 10 with small, 25 with
large.
"""

import itertools
import math
import time
from pathlib import Path

import torch

import data
import experiment
from data.flags import add_dataset_flag
from experiment import number
from learning_to_help import amortized, released
from learning_to_help.flags import add_cost_flags, check_bounded, cost_pairs
from learning_to_help.inputs import add_stream_flags, check_data, check_stream_flags, load
from losses.surrogates import DEFAULT, KNOWING_COSTS
from models.amortized import INPUTS, REJECTOR_NETS, STUDENTS, AmortizedRejector
from models.checkpoints import edge_net, local_net
from models.cost import multiply_adds, parameters
from models.localnet import LeNet5

REJECTORS = ("amortized", "per_cost")


def parse_args(argv=None):
    lenet, student = amortized.LENET_RECIPE, amortized.STUDENT_RECIPE
    parser = experiment.Parser(__doc__)
    group = parser.add_argument_group("data")
    add_dataset_flag(group)
    group.add_argument("--save_dir", default="results/runs/default", help="the run directory")
    add_stream_flags(group)
    group = parser.add_argument_group("rejector")
    group.add_argument(
        "--rejector",
        choices=REJECTORS,
        nargs="+",
        default=["amortized"],
        help="one rejector for all costs, or one for each cost pair",
    )
    group.add_argument(
        "--rejector_input",
        choices=INPUTS,
        nargs="+",
        default=["features"],
        help="features: the local net's features and logits, computed anyway; image: a network of "
        "its own on the image, as in the paper; both: both",
    )
    group.add_argument(
        "--rejector_net",
        choices=REJECTOR_NETS,
        nargs="+",
        default=["lenet5"],
        help="the network on the image: lenet5, or a depthwise separable one of at most a third of "
        "LeNet-5's multiply-adds (small) or as many (large), which the edge net teaches better",
    )
    add_cost_flags(group)
    group.add_argument(
        "--surrogates",
        choices=KNOWING_COSTS,
        nargs="+",
        default=[DEFAULT],
        help="losses of --rejector per_cost",
    )
    group = parser.add_argument_group("training of the student")
    group.add_argument(
        "--epochs",
        type=number(int, 1),
        help=f"passes over train; {lenet.epochs} if not given, {student.epochs} of small and large",
    )
    group.add_argument("--batch_size", type=number(int, 1), default=128, help="images a step")
    group.add_argument(
        "--lr",
        type=number(float, 0, above=True),
        help="highest learning rate, of AdamW and a cosine schedule or, of small and large, of SGD "
        f"and one cycle; {lenet.lr:g} if not given, {student.lr:g} of small and large",
    )
    group.add_argument(
        "--augment",
        choices=data.AUGMENTATIONS,
        help=f"augmentation of the images; {lenet.augment} if not given, {student.augment} of "
        "small and large: give none where a mirror image means something else, as of digits",
    )
    parser.add_common(seed=43)
    args = parser.parse_args(argv)
    given = parser.given(args, argv)
    if "per_cost" not in args.rejector:
        names = ("cost_1", "cost_e", "costs", "surrogates")
        parser.refuse(given, names, "goes with --rejector per_cost")
    if args.seeds:
        parser.refuse(given, ["seed"], "--seeds takes its place; leave one out")
    if args.rejector_input == ["features"]:
        parser.refuse(given, ["rejector_net"], "goes with --rejector_input image or both")
    if args.rejector_net == ["lenet5"]:  # args.json records the values of the only recipe
        vars(args).update(recipe_of("lenet5", args)._asdict())
    check_stream_flags(parser, args, argv)
    check_bounded(parser, "surrogates", args.surrogates, cost_pairs(args))
    return args


def recipe_of(net, args):
    """The recipe of a network on the image, with the flags that are given in its place."""
    recipe = amortized.STUDENT_RECIPE if net in STUDENTS else amortized.LENET_RECIPE
    given = {name: getattr(args, name) for name in recipe._fields}
    return recipe._replace(**{k: value for k, value in given.items() if value is not None})


def students(inputs, nets):
    """Input and network of every student, by the end of its checkpoint's name."""
    pairs = [(kind, net) for kind in inputs for net in (["lenet5"] if kind == "features" else nets)]
    return {kind if net == "lenet5" else f"{kind}-{net}": (kind, net) for kind, net in pairs}


def read_nets(args):
    """The data set, local net and edge net of a run directory, and the SHA-256 of both files."""
    name, save_dir = data.stem(args.dataset), Path(args.save_dir)
    checkpoints, digests = [], {}
    for kind in ("local", "edge"):
        path = experiment.RunPaths(save_dir, name).checkpoint(f"{kind}net")
        if not path.exists():
            script = "train_localnet.py" if kind == "local" else "train_edgenet_async.py"
            raise ValueError(f"{path}: not there; {script} makes it")
        checkpoints.append(experiment.load_checkpoint(path))
        digests |= {f"{kind}_file": path.name, f"{kind}_sha256": experiment.sha256(path)}
    edge = checkpoints[1]
    dataset = load(args, *released.split_of(edge))
    for checkpoint, kind in zip(checkpoints, ("local", "edge"), strict=True):
        path = str(save_dir / digests[f"{kind}_file"])
        otherwise = f"--dataset {args.dataset}: is not what {path} was trained on"
        check_data(checkpoint, dataset, path, otherwise)
    nets = [
        build(checkpoint, len(dataset.classes), str(save_dir / digests[f"{kind}_file"]))
        for build, checkpoint, kind in zip(
            (local_net, edge_net), checkpoints, ("local", "edge"), strict=True
        )
    ]
    return dataset, *nets, digests


def device_cost(net: AmortizedRejector) -> dict[str, int]:
    """Parameters and multiply-adds that the rejector adds to those of the local net."""
    device = net.combiner.weight.device
    shapes = (3, LeNet5.size, LeNet5.size), (net.num_classes,), (net.num_features,)
    inputs = [torch.zeros(1, *shape, device=device) for shape in shapes]
    return {"parameters": parameters(net), "multiply_adds": multiply_adds(net, *inputs)}


@experiment.script
def main(argv=None):
    for args in experiment.each_seed(parse_args(argv)):
        train(args)


def train(args):
    """Fit the rejector of every input in one run and write the checkpoints and the result."""
    pairs = cost_pairs(args)
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        run_paths = experiment.RunPaths(args.save_dir, data.stem(args.dataset))
        run = experiment.Run(args.save_dir, run_paths.stem("rejector"), args)
        dataset, local, edge, belongs_to = read_nets(args)
        nets = {belongs_to[f"{k}_file"]: belongs_to[f"{k}_sha256"] for k in ("local", "edge")}
        if run.is_complete(dataset.fingerprint(), nets):
            return print(f"{run.result}: complete")
        local, edge = local.to(device), edge.to(device)
        parts = {"train": dataset.train, "val": dataset.val}
        parts["held"] = dataset.rejector if len(dataset.rejector.labels) else dataset.val
        kinds = students(args.rejector_input, args.rejector_net)
        paths = {name: run_paths.checkpoint(f"rejector-{name}") for name in kinds}
        pattern = run_paths.pattern("rejector-*.pth")
        state = run.start(device, dataset.fingerprint(), paths.values(), [pattern])

    batches = {k: data.image_batches(part, 500, device) for k, part in parts.items()}
    answers = {k: amortized.both_answers(local, edge, b) for k, b in batches.items()}
    right = {
        k: amortized.both_right(logits, edge_logits, batches[k].labels)
        for k, (logits, _, edge_logits) in answers.items()
    }
    # A killed run goes on after the last student that it finished.
    done = state or {"epoch": 0, "files": {}, "seconds": {}}
    files, seconds = done["files"], done["seconds"]
    for name in [name for name in kinds if name not in seconds]:
        kind, net_name = kinds[name]
        start, recipe = time.perf_counter(), recipe_of(net_name, args)
        shuffled = data.image_batches(
            parts["train"], args.batch_size, device, shuffle=True, seed=args.seed,
            augment=data.AUGMENTATIONS[recipe.augment],
        )  # fmt: skip
        experiment.seed_everything(args.seed)
        _, features, edge_logits = answers["train"]
        net = AmortizedRejector(kind, len(dataset.classes), features.shape[1], net=net_name).to(
            device
        )
        losses = amortized.train_student(
            net, shuffled, local, edge_logits, features, right["train"],
            epochs=recipe.epochs, lr=recipe.lr,
        )  # fmt: skip
        for epoch, loss in enumerate(losses, 1):
            if not math.isfinite(loss):
                experiment.fail(f"loss is {loss} in epoch {epoch}: training diverged; lower --lr")
            print(f"{run.stem} {name}  epoch {epoch}/{recipe.epochs}  loss {loss:.4g}", flush=True)
        described = amortized.describe_all(net, local, batches["held"])
        checkpoint = {}
        if "amortized" in args.rejector:
            amortized.fit_combiner(net, described, right["held"])
            on_val = net.combiner(amortized.describe_all(net, local, batches["val"]))
            amortized.calibrate(net, on_val.detach(), right["val"])
        seconds[name] = time.perf_counter() - start
        if "per_cost" in args.rejector:
            logits, _, edge_logits = answers["held"]
            fitted = amortized.fit_per_cost(
                described, logits, edge_logits, batches["held"].labels, args.surrogates, pairs
            )
            checkpoint |= dict(zip(("per_cost_weight", "per_cost_bias"), fitted, strict=True))
            settings = [(s, *pair) for s, pair in itertools.product(args.surrogates, pairs)]
            checkpoint["per_cost"] = [list(setting) for setting in settings]
        checkpoint |= {
            "kind": "amortized",
            "amortized": "amortized" in args.rejector,
            "input": kind,
            "net": net_name,
            "num_classes": net.num_classes,
            "num_features": net.num_features,
            "hidden": net.hidden,
            "seed": args.seed,
            "seconds": seconds[name],
            "fitted_on": f"{len(described)} images kept from both nets"
            if len(dataset.rejector.labels)
            else f"{len(described)} images of val",
            **device_cost(net),
            **belongs_to,
            "state_dict": {k: v.cpu() for k, v in net.state_dict().items()},
        }
        files[paths[name].name] = experiment.save_checkpoint(paths[name], checkpoint)
        done["epoch"] += 1  # a student
        experiment.save_checkpoint(run.state_file, done)
    run.finish({"seconds": seconds, "sha256": files})
    return print(f"{run.dir}: {', '.join(files)}")


if __name__ == "__main__":
    main()
