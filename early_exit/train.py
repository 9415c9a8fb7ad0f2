"""Train a network with exits: base (BranchyNet), l2w or boosted, on any of the networks.

  python -m early_exit.train --dataset digits --arch msdnet --method base --epochs 10
  python -m early_exit.train --dataset cifar100 --arch msdnet --n_blocks 7 --method l2w \\
      --augment flip_crop --save_dir results/runs/cifar100/l2w
  torchrun --nproc_per_node 4 -m early_exit.train --dataset /data/imagenet --stream ...
  python -m early_exit.train --dataset SST-2 --data_root /data/glue --arch bert --epochs 3 \
      --model_path bert-base-uncased --optimizer adamw --schedule linear --warmup 0.1

base: Teerapittayanon et al., ICPR 2016. l2w: Han et al., ECCV 2022, with an exact meta-gradient in
forward mode. boosted: Yu et al., AAAI 2023. Defaults are those of the
papers on CIFAR (300 epochs, batch 64, lr 0.1). BERT reads a GLUE task from a folder in GLUE's own
layout (its dev.tsv is test here; `pip install -r requirements-nlp.txt`). Writes
{dataset}-{arch}.pth and, last, {dataset}-{arch}.json; then `python -m early_exit.eval`.
"""

import contextlib
import time

import torch

import data
import experiment
from early_exit.arch_flags import add_arch_flags, arch_settings
from early_exit.flags import add_training_flags, check_training_flags, factor, make_method
from early_exit.inputs import all_stream, input_size, load_data, make_batches, pixel_stats
from early_exit.methods import L2W
from early_exit.parallel import Workers
from early_exit.texts import (
    add_text_flags,
    begin,
    check_text_flags,
    texts_for_training,
    weight_files,
)
from experiment import number
from experiment.cuda_graph import portable
from losses.early_exit import boosted_logits
from models.exit_nets import EXIT_NETS


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", default="digits", help=f"{', '.join(data.NAMES)}, DIR or .npz")
    group.add_argument(
        "--val_size",
        type=number(float, 0, above=True),
        default=0.1,
        help="cut from train: a share below 1 or a count",
    )
    group.add_argument("--split_seed", type=number(int, 0), default=0, help="of the val split")
    group.add_argument("--stream", action="store_true", help="read a folder's pictures as needed")
    group.add_argument(
        "--size",
        type=number(int, 8),
        help="px (default: as they are; streamed: 224), or tokens of a text at most (default: 128)",
    )
    group.add_argument(
        "--augment",
        choices=data.AUGMENTATIONS,
        default="none",
        help="of training images in memory; streamed ones are cropped at random and flipped",
    )
    group.add_argument("--workers", type=number(int, 0), help="processes that read, with --stream")
    add_text_flags(parser)
    add_arch_flags(parser, argv)
    add_training_flags(parser)
    parser.add_argument("--save_dir", default="results/runs/early-exit", help="the run directory")
    parser.add_common(seed=0, logs=True)
    args = parser.parse_args(argv)
    check_text_flags(parser, args, EXIT_NETS[args.arch].reads)
    check_training_flags(parser, args)
    return args


def train_one_epoch(method, batches, epoch, schedule, label) -> torch.Tensor:
    """One pass over the training batches; returns the mean cross-entropy at each exit, [E]."""
    method.net.train()
    method.begin_epoch()
    sums, seen = 0, 0
    steps = zip(batches.epoch(epoch), batches.global_sizes(), strict=True)
    for i, ((_, images, labels), total) in enumerate(
        experiment.progress(steps, len(batches), label)
    ):
        if total < method.least * method.workers.world:
            continue  # a last batch too small to share
        schedule(i)
        sums = sums + method.step(images, labels, total)
        seen += total
    return method.workers.add({"sums": sums})["sums"] / seen


@torch.no_grad()
def accuracies(net, batches, t) -> list[float]:
    """Accuracy of each exit, of the ensembles for t > 0."""
    net.eval()
    right = 0
    for _, images, labels in batches.epoch(0):
        right = right + (boosted_logits(net(images), t).argmax(-1) == labels).sum(1)
    return (right / len(batches.labels)).tolist()


def restore(state, method) -> int:
    """Fill the method from what `snapshot` gave; returns the epochs done."""
    method.net.load_state_dict(state["net"])
    method.optimizer.load_state_dict(state["optimizer"])
    if "weight_net" in state:
        method.weight_net.load_state_dict(state["weight_net"])
        method.meta_optimizer.load_state_dict(state["meta_optimizer"])
    return state["epoch"]


def snapshot(method) -> dict:
    state = {"net": method.net.state_dict(), "optimizer": portable(method.optimizer)}
    if isinstance(method, L2W):
        state["weight_net"] = method.weight_net.state_dict()
        state["meta_optimizer"] = portable(method.meta_optimizer)
    return state


def finish(args, run, dataset, net, settings, t, inputs, val, test):
    """The checkpoint, then the result."""
    checkpoint = {
        "kind": "early_exit",
        "arch": args.arch,
        "settings": settings | {"pretrained": False} if "pretrained" in settings else settings,
        "method": args.method,
        "ensemble_reweight": t,
        "num_classes": len(dataset.classes),
        "dataset": dataset.name,
        "data": dataset.fingerprint(),
        "val_size": args.val_size,
        "split_seed": args.split_seed,
        "seed": args.seed,
        "epochs": args.epochs,
        "state_dict": {k: v.cpu() for k, v in net.state_dict().items()},
        **{key: inputs[key] for key in ("stream", "size", "mean", "std")},
        **({"task": args.task, "tokenizer": dataset.tokenizer} if net.reads == "text" else {}),
    }
    digest = experiment.save_checkpoint(run.dir / f"{run.stem}.pth", checkpoint)
    correct = accuracies(net, test, t)
    run.finish({"val": accuracies(net, val, t), "test": correct, "sha256": digest})
    exits = " ".join(f"{100 * a:.1f}" for a in correct)
    print(f"{run.dir / run.stem}.pth: {exits} % on test, exit by exit")


def train(args, workers):
    """One run, to the checkpoint and the result."""
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        name = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, name)
        run = experiment.Run(args.save_dir, paths.stem(args.arch), args)
        arch = EXIT_NETS[args.arch]
        settings, theirs = arch_settings(args, arch), None
        if arch.reads == "text":
            dataset, settings, theirs = texts_for_training(args, settings)
        else:
            what = args.dataset, args.data_root, args.val_size, args.split_seed
            dataset = load_data(*what, args.stream, fall_back=True)
        if run.is_complete(dataset.fingerprint(), weight_files(args)):
            return print(f"{run.result}: complete") if workers.rank == 0 else None
        size = input_size(dataset.train, args.size)
        device = workers.start(device)
        stream = all_stream(dataset, workers, device)
        if stream and not args.stream and workers.rank == 0:
            print(f"{dataset.name} does not fit into memory: streamed as by --stream", flush=True)
        mean, std = pixel_stats(dataset.train)
        inputs = {"stream": stream, "size": size, "mean": mean, "std": std}
        inputs["workers"], inputs["fixed_length"] = args.workers, args.compile
        batches = make_batches(
            dataset.train, args.batch_size, device,
            shuffle=True, seed=args.seed, train=True, augment=data.AUGMENTATIONS[args.augment],
            rank=workers.rank, world=workers.world, **inputs,
        )  # fmt: skip
        val, test = (make_batches(p, 250, device, **inputs) for p in (dataset.val, dataset.test))
        experiment.seed_everything(args.seed)
        net = arch.from_settings(settings, len(dataset.classes), size)
        if arch.reads == "text":
            begun = begin(net, theirs, args.model_path, settings["vocab_size"])
        net = net.to(device)
        method = make_method(args, net, size, device, workers)
        least = method.least * workers.world
        if max(batches.global_sizes()) < least:
            raise ValueError(
                f"--batch_size {args.batch_size}, {len(batches.labels)} training images: "
                f"{args.method} needs {least} samples a batch (on {workers.world} processes)"
            )
        workers.wait()  # all have looked at the run directory before it changes
        state, path = None, paths.checkpoint(args.arch)
        if workers.rank == 0:
            state = run.start(device, dataset.fingerprint(), [path])
        workers.wait()
        if workers.rank and args.resume and run.state_file.exists():
            state = experiment.load_checkpoint(run.state_file)
        done = restore(state, method) if state else 0
        workers.wait()
        if arch.reads == "text" and workers.rank == 0:
            print(f"{run.stem}: {begun}", flush=True)

    t = args.ensemble_reweight if args.method == "boosted" else 0.0
    total = args.epochs * len(batches)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        experiment.seed_everything(args.seed, epoch)
        workers.differ()

        def schedule(i, epoch=epoch):
            done = (epoch - 1) * len(batches) + i
            method.set_lr(factor(args.schedule, done / total, args.warmup))

        # Streamed pictures are read only now, and one of them may be broken.
        with experiment.one_line_errors() if stream else contextlib.nullcontext():
            losses = train_one_epoch(method, batches, epoch, schedule, f"epoch {epoch}")
            correct = accuracies(net, val, t) if workers.rank == 0 else []
        if workers.rank == 0:
            run.end_epoch(
                epoch,
                args.epochs,
                time.perf_counter() - start,
                snapshot(method),
                loss=losses.sum().item(),
                val_first=correct[0],
                val_mean=sum(correct) / len(correct),
                val_last=correct[-1],
            )
        workers.wait()
    if workers.rank == 0:
        finish(args, run, dataset, net, settings, t, inputs, val, test)
    workers.wait()
    return None


@experiment.script
def main(argv=None):
    workers = Workers()
    try:
        for args in experiment.each_seed(parse_args(argv)):
            train(args, workers)
    finally:
        workers.stop()


if __name__ == "__main__":
    main()
