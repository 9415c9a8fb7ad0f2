"""Train a network with exits by one of the methods base (BranchyNet), l2w and boosted.

  python -m early_exit.train --dataset digits --arch msdnet --method base --epochs 10
  python -m early_exit.train --dataset cifar100 --arch msdnet --n_blocks 7 --method l2w \\
      --augment flip_crop --save_dir results/runs/cifar100/l2w
  torchrun --nproc_per_node 4 -m early_exit.train --dataset /data/imagenet --stream ...
  python -m early_exit.train --dataset SST-2 --data_root /data/glue --arch bert --epochs 3 \\
      --model_path bert-base-uncased --optimizer adamw --schedule linear --warmup 0.1

base: Teerapittayanon et al., ICPR 2016. l2w: Han et al., ECCV 2022, with an exact meta-gradient in
forward mode. boosted: Yu et al., AAAI 2023. Defaults are those of the papers on CIFAR (300 epochs,
batch 64, lr 0.1). BERT reads a GLUE task from a folder in GLUE's own layout (its dev.tsv is test
here; `pip install -r requirements-nlp.txt`). Writes {dataset}-{arch}.pth and, last,
{dataset}-{arch}.json. Evaluate with `python -m early_exit.eval`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

import data
import experiment
from data.batches import Steps
from data.flags import add_dataset_flag, add_split_flags
from data.text.glue import load_glue
from data.text.tokens import TokenDataset
from early_exit.flags import (
    add_arch_flags,
    add_training_flags,
    arch_settings,
    check_training_flags,
    factor,
    make_method,
)
from early_exit.inputs import (
    AnyDataset,
    InputFormat,
    add_text_flags,
    check_text_flags,
    input_size,
    load_data,
    make_batches,
    pixel_stats,
    texts_for_training,
    weight_files,
)
from early_exit.steps import Base
from experiment import number
from experiment.parallel import Workers
from experiment.within_epoch import WithinEpoch
from losses.early_exit import boosted_logits
from models.bert_exits import start_from
from models.exit_net import ExitNet
from models.exit_nets import EXIT_NETS


def parse_args(argv=None):
    parser = experiment.Parser(__doc__, torchrun=True)
    group = parser.add_argument_group("data")
    add_dataset_flag(group)
    add_split_flags(group)
    group.add_argument(
        "--stream", action="store_true", help="read a folder's images when they are needed"
    )
    group.add_argument(
        "--size",
        type=number(int, 8),
        help="px of the images (default: their own; 224 when streamed), or tokens of a text at "
        "most (default: 128)",
    )
    group.add_argument(
        "--augment",
        choices=data.AUGMENTATIONS,
        default="none",
        help="augmentation of training images in memory; streamed images are always cropped and "
        "flipped at random",
    )
    group.add_argument(
        "--workers", type=number(int, 0), help="processes that read images, with --stream"
    )
    add_text_flags(parser)
    add_arch_flags(parser, argv)
    add_training_flags(parser)
    parser.add_argument("--save_dir", default="results/runs/early-exit", help="run directory")
    parser.add_common(seed=0, logs=True, saves=True)
    args = parser.parse_args(argv)
    given = parser.given(args, argv)
    check_text_flags(parser, args, given, EXIT_NETS[args.arch].reads)
    check_training_flags(parser, args, given)
    if not args.stream:
        parser.refuse(given, ["workers"], "goes with --stream")
    if args.seeds:
        parser.refuse(given, ["seed"], "--seeds takes its place; leave one out")
    return args


def train_one_epoch(
    method: Base,
    batches: Steps,
    epoch: int,
    schedule: Callable[[int], None],
    label: str,
    within: WithinEpoch,
) -> torch.Tensor:
    """One pass over the training batches; returns the mean cross-entropy at each exit, [E].

    schedule: called with the batch's number, from 0, before each step. within: the state in the
    middle of an epoch.
    """
    method.net.train()
    method.begin_epoch(within.first)
    sizes, least = batches.global_sizes(), method.min_samples * method.workers.world
    sums = torch.zeros(method.net.num_exits, device=batches.device)
    for i, (_, images, labels) in within.steps(batches, epoch, label, {"losses": sums}):
        if sizes[i] >= least:  # not a last batch too small to share
            schedule(i)
            sums += method.step(images, labels, sizes[i])
    samples = sum(size for size in sizes if size >= least)
    return method.workers.add({"sums": sums})["sums"] / samples


@torch.no_grad()
def accuracies(net: torch.nn.Module, batches: Steps, t: float) -> list[float]:
    """Accuracy of each exit; of the ensembles G_k = f_k + t G_(k-1) for t > 0."""
    net.eval()
    correct = torch.zeros(1, dtype=torch.int64, device=batches.device)
    for _, images, labels in batches.epoch(0):
        correct = correct + (boosted_logits(net(images), t).argmax(-1) == labels).sum(1)
    return (correct / len(batches.labels)).tolist()


def begin(
    net: ExitNet, weights: dict[str, torch.Tensor] | None, path: str | None, vocab_size: int
) -> str:
    """Load the weights of a BERT's folder, if there are any; returns a message about the start."""
    if weights is None or path is None:
        return (
            f"random weights, and {vocab_size} WordPieces learnt from the training texts; "
            "--model_path starts from a BERT"
        )
    pooler = start_from(net, weights, path)
    return f"begins with the BERT of {path}" + ("" if pooler else ", which has no pooler")


def load_inputs(
    args: argparse.Namespace, settings: dict[str, Any], reads: str
) -> tuple[AnyDataset, dict[str, Any], dict[str, torch.Tensor] | None]:
    """The data set, the settings of its network, and weights to start from or None."""
    source = args.dataset, args.data_root
    if reads != "text":
        images = load_data(*source, args.val_size, args.split_seed, args.stream)
        return images, settings, None
    texts = load_glue(*source, args.task, args.val_size, args.split_seed)
    return texts_for_training(texts, settings, args.model_path, args.size)


def checkpoint_of(
    args: argparse.Namespace,
    dataset: AnyDataset,
    net: ExitNet,
    settings: dict[str, Any],
    inputs: InputFormat,
) -> dict[str, Any]:
    """The trained network and everything that early_exit.eval needs to know about it."""
    checkpoint = {
        "kind": "early_exit",
        "arch": args.arch,
        "settings": settings | {"pretrained": False} if "pretrained" in settings else settings,
        "method": args.method,
        "ensemble_reweight": args.ensemble_reweight if args.method == "boosted" else 0.0,
        "num_classes": len(dataset.classes),
        "dataset": dataset.name,
        "data": dataset.fingerprint(),
        "val_size": args.val_size,
        "split_seed": args.split_seed,
        "seed": args.seed,
        "epochs": args.epochs,
        "state_dict": {k: v.cpu() for k, v in net.state_dict().items()},
        "stream": args.stream,
        "size": inputs.size,
        "mean": inputs.mean,
        "std": inputs.std,
    }
    if isinstance(dataset, TokenDataset):
        checkpoint |= {"task": args.task, "tokenizer": dataset.tokenizer}
    return checkpoint


def finish(
    run: experiment.Run, checkpoint: dict[str, Any], net: ExitNet, t: float, val: Steps, test: Steps
) -> None:
    """Write the checkpoint, then the result."""
    digest = experiment.save_checkpoint(run.dir / f"{run.stem}.pth", checkpoint)
    correct = accuracies(net, test, t)
    run.finish({"val": accuracies(net, val, t), "test": correct, "sha256": digest})
    exits = " ".join(f"{100 * a:.1f}" for a in correct)
    print(f"{run.dir / run.stem}.pth: {exits} % on test, exit by exit")


def train(args, workers):
    """Train one network, and write its checkpoint and result."""
    with workers.one_line_errors():
        device = workers.pick_device(args.device)
        name = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, name)
        run = experiment.Run(args.save_dir, paths.stem(args.arch), args)
        arch = EXIT_NETS[args.arch]
        dataset, settings, weights = load_inputs(args, arch_settings(args, arch), arch.reads)
        model_path = args.model_path if arch.reads == "text" else None
        complete = run.is_complete(dataset.fingerprint(), weight_files(model_path))
    if workers.of_first(complete):
        return print(f"{run.result}: complete")
    with workers.one_line_errors():
        size = input_size(dataset.train, args.size)
        mean, std = pixel_stats(dataset.train)
        inputs = InputFormat(size, mean, std, args.workers, fixed_length=args.compile)
        batches = make_batches(
            dataset.train, args.batch_size, device, inputs,
            shuffle=True, seed=args.seed, train=True, augment=data.AUGMENTATIONS[args.augment],
            rank=workers.rank, world=workers.world, group_by_length=args.group_by_length,
        )  # fmt: skip
        val, test = (make_batches(p, 250, device, inputs) for p in (dataset.val, dataset.test))
        experiment.seed_everything(args.seed)
        net = arch.from_settings(settings, len(dataset.classes), size)
        start_message = ""
        if arch.reads == "text":
            start_message = begin(net, weights, model_path, settings["vocab_size"])
    net = net.to(device)
    method = make_method(args, net, size, device, workers)  # it waits for the other processes
    with workers.one_line_errors():
        if max(batches.global_sizes()) < method.min_samples * workers.world:
            raise ValueError(
                f"--batch_size {args.batch_size}, {len(batches.labels)} training images: "
                f"{args.method} needs {method.min_samples * workers.world} samples a batch (on "
                f"{workers.world} processes)"
            )
        state, path = None, paths.checkpoint(args.arch)
        if workers.rank == 0:
            state = run.start(device, dataset.fingerprint(), [path], processes=workers.world)
    done = 0
    if state := workers.of_first(state):
        method.load_state(state)
        done = state["epoch"]
    with workers.one_line_errors():

        def save_within(epoch: int, entry: dict[str, Any]) -> None:
            run.save_state(epoch - 1, method.state() | {"within": entry})

        within = WithinEpoch(device, state, save_within, args.save_every, workers)
    if start_message:
        print(f"{run.stem}: {start_message}", flush=True)

    t = args.ensemble_reweight if args.method == "boosted" else 0.0
    total = args.epochs * len(batches)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        experiment.seed_everything(args.seed, epoch)
        workers.differ()

        def schedule(i: int, epoch: int = epoch) -> None:
            steps = (epoch - 1) * len(batches) + i
            method.set_lr(factor(args.schedule, steps / total, args.warmup))

        losses = train_one_epoch(method, batches, epoch, schedule, f"epoch {epoch}", within)
        with workers.one_line_errors():
            if workers.rank:
                continue
            correct = accuracies(net, val, t)
            run.end_epoch(
                epoch,
                args.epochs,
                within.seconds + time.perf_counter() - start,
                method.state(),
                loss=losses.sum().item(),
                val_first=correct[0],
                val_mean=sum(correct) / len(correct),
                val_last=correct[-1],
            )
    if workers.rank == 0:
        checkpoint = checkpoint_of(args, dataset, net, settings, inputs)
        finish(run, checkpoint, net, t, val, test)
    workers.wait()
    return None


@experiment.script
def main(argv=None):
    whole = parse_args(argv)
    with Workers.of_torchrun() as workers:
        for args in experiment.each_seed(whole):
            train(args, workers)


if __name__ == "__main__":
    main()
