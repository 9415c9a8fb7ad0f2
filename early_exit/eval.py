"""Evaluate a network with exits: predictions once, then every number from them.

  python -m early_exit.eval --dataset digits --save_dir results/runs/early-exit
  python -m early_exit.eval --dataset /data/imagenet --stream --save_dir results/runs/published \\
      --model_path msdnet-step7.pth.tar --arch msdnet --base 7 --step 7 --n_channels 32 \\
      --growth_rate 16 --gr_factor 1-2-4-4 --bn_factor 1-2-4-4

Anytime: the accuracy of each exit. Budgeted (Huang et al., ICLR 2018): each sample leaves at the
first exit whose confidence reaches its threshold. Thresholds are fitted on val, which is cut from
train, never trained on and never augmented; accuracy and multiply-adds are of test. A published net
may have been trained on images that are val here; then its thresholds are as optimistic as
--optimism shows for train.

Takes a run of early_exit.train (its {dataset}-{arch}.pth), or with --model_path a published state
dict. Writes {dataset}-predictions.npz, from which figures are made, and, last, {dataset}-eval.json.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

import data
import experiment
from data.batches import Batch, Steps
from data.text.tokens import TokenDataset
from deferral import budgets, exits
from deferral import predictions as saved
from early_exit.inference import Inference
from early_exit.inputs import AnyDataset
from early_exit.load import add_flags, check_flags, open_all
from models.cost import exit_multiply_adds, parameters, release_multiply_adds

PRINTED_P = (5, 10, 15, 20, 25, 30, 35)  # budgeted points in the printed report


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    add_flags(parser, argv)
    parser.add_argument(
        "--optimism",
        action="store_true",
        help="also fit thresholds on train and on test, to show how optimistic those are",
    )
    parser.add_common(seed=0)
    args = parser.parse_args(argv)
    check_flags(parser, args, argv)
    return args


def predict_all(
    inference: Inference, dataset: AnyDataset, batches: dict[str, Steps]
) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz: val and test, in that order, once each."""
    parts = (dataset.val, dataset.test)
    logits = [
        torch.cat(list(inference.predict(bar(batches[name], name))), dim=1)
        for name in ("val", "test")
    ]
    count = [len(part.labels) for part in parts]
    return {
        "labels": torch.cat([part.labels for part in parts]).numpy(),
        "stage_logits": torch.cat(logits, dim=1).numpy(),
        "split": np.repeat(np.array([0, 1], np.int8), count),
        "index": torch.cat([part.index for part in parts]).numpy(),
        "scores": np.zeros((0, sum(count)), np.float32),
    }


def bar(batches: Steps, label: str) -> Iterable[Batch]:
    """The batches of one epoch, with a progress bar."""
    return experiment.progress(batches.epoch(0), len(batches), label)


def confidence_and_correct(inference: Inference, batches: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and correctness [E, N] on the training set, whose logits would fill memory."""
    confidence, correct = [], []
    labels = batches.labels.cpu().split(batches.batch_size)
    for logits, label in zip(inference.predict(bar(batches, "train")), labels, strict=True):
        confidence.append(exits.confidence(logits.numpy()))
        correct.append((logits.argmax(-1) == label).numpy())
    return np.concatenate(confidence, axis=1), np.concatenate(correct, axis=1)


def optimism(
    pred: saved.Predictions, multiply_adds: Sequence[int], train: tuple[np.ndarray, np.ndarray]
) -> list[dict[str, Any]]:
    """Rows of `budgets.optimism`; train: of `confidence_and_correct`."""
    confidence, correct = {"train": train[0]}, {"train": train[1]}
    for name in ("val", "test"):
        part = pred.part(name)
        confidence[name], correct[name] = exits.confidence(part.stage_logits), part.correct
    return budgets.optimism(confidence, correct, multiply_adds)


def print_report(result: dict[str, Any], pred: saved.Predictions) -> None:
    counts = {name: int((pred.split == k).sum()) for name, k in saved.SPLITS.items()}
    print(
        f"{result['arch']}, {result['method']}, {result['dataset']}: {result['parameters']:,} "
        f"parameters, {counts['val']} val and {counts['test']} test samples"
    )
    other_metrics = [name for name in result.get("metrics", []) if name != "accuracy"]
    names = "".join(f"{name:>10}" for name in other_metrics)
    print(f"{'exit':>6}  {'multiply-adds':>14}  {'val':>7}  {'test':>7}{names}")
    for row in result["anytime"]:
        more = "".join(f"{row[name]:10.4f}" for name in other_metrics)
        print(
            f"{row['exit']:6}  {row['multiply_adds']:14,}  {row['val_accuracy']:7.2%}  "
            f"{row['accuracy']:7.2%}{more}"
        )
    print("budgeted, thresholds from val")
    print(f"{'q':>6}  {'multiply-adds':>14}  {'test':>7}{names}  leave at each exit")
    for row in result["budgeted"]:
        if row["p"] in PRINTED_P:
            shares = " ".join(f"{share:.0%}" for share in row["shares"])
            more = "".join(f"{row[name]:10.4f}" for name in other_metrics)
            print(
                f"{row['q']:6.2f}  {row['multiply_adds']:14,.0f}  {row['accuracy']:7.2%}{more}  "
                f"{shares}"
            )
    at_shares = [
        f"{float(share):.0%}: {'below the first exit' if value is None else f'{value:.2%}'}"
        for share, value in result["at_share"].items()
    ]
    print(f"at a share of the full cost: {', '.join(at_shares)}; area {result['area']:.4f}")
    if "optimism" in result:
        print_optimism(result["optimism"])


def print_optimism(rows: list[dict[str, Any]]) -> None:
    print("optimism: what thresholds promise on the rows they were fitted on, and give on test")
    print(f"{'q':>6}  {'from':5}  {'promised':>14}  {'':7}  {'test':>14}")
    for row in rows:
        if row["p"] in PRINTED_P[1::2]:
            print(
                f"{row['q']:6.2f}  {row['fitted_on']:5}  {row['promised_multiply_adds']:14,.0f}  "
                f"{row['promised_accuracy']:7.2%}  {row['multiply_adds']:14,.0f}  "
                f"{row['accuracy']:7.2%}"
            )


def evaluate(args):
    """Write the predictions and the JSON of one network."""
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        name = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, name)
        run = experiment.Run(args.save_dir, paths.stem("eval"), args, remake=True)
        path = paths.predictions
        opened = open_all(args)
        if run.is_complete(opened.fingerprint, opened.inputs()):
            return print(f"{run.result}: complete")
        names = ("train", "val", "test") if args.optimism else ("val", "test")
        batches = {
            k: opened.batches(getattr(opened.dataset, k), args.batch_size, device, args.workers)
            for k in names
        }
        run.start(device, opened.fingerprint, [path])

    trained, dataset = opened.trained, opened.dataset
    net = trained.net
    multiply_adds = exit_multiply_adds(net, net.example(trained.size))
    inference = Inference(
        net, device, trained.ensemble_reweight, bf16=args.bf16, channels_last=args.channels_last
    )
    with experiment.one_line_errors():  # streamed images are read only now
        arrays = predict_all(inference, dataset, batches)
        train = confidence_and_correct(inference, batches["train"]) if args.optimism else None
    if not np.isfinite(arrays["stage_logits"]).all():
        experiment.fail(f"{trained.path}: gives logits that are not finite")
    metrics = list(dataset.metrics) if isinstance(dataset, TokenDataset) else []
    settings = {
        "dataset": name,
        "arch": trained.arch,
        "method": trained.method,
        "seed": trained.about.get("seed"),
        "epochs": trained.about.get("epochs"),
        "network": trained.settings,
        "multiply_adds": multiply_adds,
        "parameters": parameters(net),
        "checkpoint": experiment.portable(trained.path),
        **opened.settings(),
        "inputs": {"data": opened.fingerprint, **run.inputs},
        "bf16": args.bf16,
        "commit": experiment.commit_with_changes(),
        "hardware": experiment.hardware(device),
    }
    if metrics:
        settings["metrics"] = metrics
    if trained.arch in ("msdnet", "ranet"):  # for which budgets are published
        released = release_multiply_adds(net, net.example(trained.size))
        settings["release_multiply_adds"] = released
    lists = {"classes": dataset.classes, "rejectors": []}
    experiment.write_npz(path, **arrays, settings=np.array(json.dumps(settings | lists)))
    pred = saved.load(path)
    result = settings | budgets.evaluate(pred, multiply_adds)
    if train is not None:
        result["optimism"] = optimism(pred, multiply_adds, train)
    run.finish(result)
    print_report(result, pred)
    print(f"{path}\n{run.result}")
    return None


@experiment.script
def main(argv=None):
    for args in experiment.each_seed(parse_args(argv)):
        evaluate(args)


if __name__ == "__main__":
    main()
