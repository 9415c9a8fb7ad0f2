"""Train the edge net e, and beside it one rejector r for every cost and every S, in one pass.

Stage switching of learning to help (Wu et al., ICLR 2025), synchronous and asynchronous: each batch
makes an edge step on L1 and then a rejector step on L2, from the predictions of the rejectors' copy
of the edge (learning_to_help/steps.py). The edge does not depend on c_1, c_e or S, so it is trained
once; the local net m is fixed and predicts each image once; all rejectors are one stacked module.

  python train_edgenet_async.py --dataset digits --save_dir results/runs/first --cost_1 1 1.25 \\
      --cost_e 0 0.25 --async_freq 1 100 0
  python train_edgenet_async.py --dataset cifar10 --save_dir results/runs/first --costs 1.25:0.25
  python train_edgenet_async.py --dataset digits --save_dir results/runs/first \\
      --async_freq 1 100 --adaptive 0.02 0.1 --outage 100:400
  torchrun --nproc_per_node 4 train_edgenet_async.py --dataset cifar10 --batch_size 64 ...

train_localnet.py comes first, with the same --dataset and --save_dir. Writes {dataset}-edgenet.pth,
{dataset}-edgenet-async-{S}-cost_1-{c1}-cost_e-{ce}.pth for each setting (with an extra surrogate's
name at the end), {dataset}-losses.npz and, last, {dataset}-edgenet.json; eval_all.py comes next.
--stream reads a folder of pictures while it trains; one forward of the edge still serves all.
A further call with other costs or S adds their rejectors to the same edge net, which it trains
again and compares; one call with all settings takes no longer than each of these. Under torchrun
the processes share each batch (experiment/parallel.py).
"""

import argparse
import math
import time

import numpy as np
import torch

import data
import experiment
from experiment import number
from experiment.cuda_graph import autocast, portable, set_lr, steer
from experiment.parallel import Workers
from learning_to_help import finetune, steps
from learning_to_help.added import plan
from learning_to_help.flags import add_flags, check_flags, settings_of
from learning_to_help.inputs import (
    add_stream_flags,
    check_stream_flags,
    load,
    print_where,
    read_local,
    recorded,
)
from learning_to_help.steps import EdgeStep, Rejectors, probe_images
from learning_to_help.val_log import Progress
from models.anynet import load_weights, weights_file
from models.edgenet import EDGE_NETS, build_edge, edge_size, prefers_channels_last
from models.inference import predict


def parse_args(argv=None):
    parser = experiment.Parser(__doc__, torchrun=True)
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", default="digits", help=f"{', '.join(data.NAMES)}, DIR or .npz")
    group.add_argument(
        "--val_size",
        type=number(float, 0, above=True),
        default=0.1,
        help="val images, cut from train as for the local net: a share below 1 or a count",
    )
    group.add_argument(
        "--rejector_val_size",
        type=number(float, 0),
        default=0,
        help="train images kept for train_rejector.py, as for the local net: a share or a count",
    )
    group.add_argument("--split_seed", type=number(int, 0), default=0, help="seed of the val split")
    group.add_argument("--save_dir", default="results/runs/default", help="the run directory")
    group.add_argument("--local_path", help="local net to copy into SAVE_DIR")
    add_stream_flags(group)
    add_flags(parser)
    group = parser.add_argument_group("edge net")
    group.add_argument(
        "--edge_net",
        default="alexnet",
        help=f"{', '.join(EDGE_NETS)}, a classifier of torchvision by its name, timm/NAME, or "
        "FILE.py:FUNCTION (num_classes to a module)",
    )
    group.add_argument(
        "--edge_weights",
        metavar="FILE",
        help="start from these weights (.pth, .safetensors); a last layer of other classes is new",
    )
    group.add_argument(
        "--edge_size",
        type=number(int, 1),
        help="input side in px; depends on the net if not given",
    )
    finetune.add_scaling_flags(group, "edge")
    group.add_argument(
        "--pretrained",
        action=argparse.BooleanOptionalAction,
        help="start from ImageNet weights; by default only vit does",
    )
    group = parser.add_argument_group("training")
    group.add_argument(
        "--epochs",
        type=number(int, 0),
        default=15,
        help="passes over train; 0, with --edge_only, keeps the weights of --edge_weights",
    )
    group.add_argument(
        "--batch_size",
        type=number(int, 1),
        default=16,
        help="images a step, over all processes of torchrun",
    )
    group.add_argument(
        "--lr",
        type=number(float, 0, above=True),
        help="learning rate of the edge; 1e-3 if not given, 1.6e-3 with --joint, as in the release",
    )
    finetune.add_flags(group)
    group.add_argument(
        "--lr_rejector",
        type=number(float, 0, above=True),
        default=1.6e-3,
        help="learning rate of the rejectors",
    )
    group.add_argument(
        "--momentum",
        type=number(float, 0, 1),
        default=0.9,
        help="SGD momentum of edge net and rejectors",
    )
    group.add_argument(
        "--weight_decay", type=number(float, 0), default=0, help="weight decay of the edge net"
    )
    group.add_argument(
        "--schedule",
        choices=("constant", "cosine"),
        default="constant",
        help="all learning rates: constant as in the paper, or falling to 0 along a half cosine",
    )
    group.add_argument(
        "--augment",
        choices=data.AUGMENTATIONS,
        default="none",
        help="augmentation of the edge's images; the rejectors see the original images",
    )
    group.add_argument(
        "--progress_every",
        type=number(int, 0),
        metavar="BATCHES",
        help="batches between evaluations of every rejector on val, 0 for none; at the end of each "
        "epoch if not given",
    )
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--bf16",
        action="store_true",
        help="run the edge's forward passes in bfloat16; weights and rejectors stay float32",
    )
    group.add_argument(
        "--channels_last",
        action=argparse.BooleanOptionalAction,
        help="memory order of the edge's feature maps; if not given, used on a CPU for nets with "
        "depthwise convolutions",
    )
    group.add_argument("--compile", action="store_true", help="compile the edge with torch.compile")
    group.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="on CUDA: launch each step as one CUDA graph; no effect under torchrun",
    )
    parser.add_common(seed=43, logs=True, saves=True)
    args = parser.parse_args(argv)
    if args.pretrained is None:
        args.pretrained = args.edge_net == "vit" and not args.edge_weights
    check_flags(parser, args, argv)
    finetune.check_flags(parser, args, parser.given(args, argv))
    finetune.check_scaling_flags(parser, args, "edge")
    check_stream_flags(parser, args, argv)
    if args.save_every is not None:
        parser.one_process("--save_every writes the state of one process")
    if args.edge_weights and args.pretrained:
        parser.error("--edge_weights and --pretrained: both are weights to start from")
    if args.epochs == 0 and not (args.edge_only and (args.edge_weights or args.pretrained)):
        parser.error("--epochs 0 goes with --edge_only and --edge_weights or --pretrained")
    if args.lr is None:
        args.lr = 1.6e-3 if args.joint else 1e-3
    if args.seeds and args.local_path:
        parser.error(
            "--seeds: each run has its own local net in SAVE_DIR/seed-N; leave --local_path out"
        )
    return args


def train_one_epoch(
    edge_step,
    rejectors,
    batches,
    local_logits,
    epoch,
    label,
    schedule=lambda i: None,
    progress=None,
    pictures=None,
    within=None,
):
    """One pass over the training batches; returns L1 [T] and L2 [T, R] of its steps, on the CPU.

    rejectors and local_logits [N, K], of every training image, are None with --edge_only;
    schedule(i) is called before step i of the epoch; progress, unless None, evaluates val when it
    is due; pictures are the batches of images where `batches` has features; within is the state
    in the middle of an epoch. Only progress and an adaptive copy's probe wait for the device.
    """
    edge, within = edge_step.edge, within or experiment.WithinEpoch()
    edge.train()
    if progress:
        progress.start()
    l1 = torch.zeros(len(batches), device=batches.device)
    l2 = torch.zeros(len(batches), rejectors.net.count if rejectors else 0, device=batches.device)
    if rejectors:
        rows_of_batches = [*map(batches.share, batches.rows(epoch))]
        rejectors.copies.start_epoch(rows_of_batches, batches.plain, within.first)
    sums = {"l1": l1, "l2": l2}
    for i, (rows, images, labels) in within.steps(batches, epoch, label, sums):
        schedule(i)
        if rejectors:
            plain = images if batches.augment is None else batches.plain(rows)
            local = local_logits[rows]
            seen = pictures.plain(rows) if pictures else None
            l1[i], l2[i] = steps.step(i, edge_step, rejectors, images, plain, labels, local, seen)
        else:
            l1[i], _ = edge_step(images, labels)
        if progress:
            progress.after_batch(edge, rejectors)
    if progress:
        progress.stop(rejectors)
    return l1.cpu(), l2.cpu()


def train(args, workers):
    """Train the edge and all rejectors of one run and write their checkpoints and the result."""
    with workers.one_line_errors():
        device = workers.pick_device(args.device)
        name = data.stem(args.dataset)
        run, settings, stems, added_to = plan(args, name, settings_of(args))
        dataset = load(args, args.val_size, args.split_seed, args.rejector_val_size)
        paths = experiment.RunPaths(run.dir, name)
        edge_path, local_path = paths.edge, paths.local
        # A run without rejectors reads no local net, but an earlier run here may have rejectors.
        local, local_bytes, inputs = None, None, run.entry().get("inputs", {})
        if settings:
            local, local_bytes, inputs = read_local(args.local_path, dataset, run)
        if args.edge_weights:
            weights = weights_file(args.edge_weights)
            inputs = inputs | {weights.name: experiment.sha256(weights)}
        if added_to:
            inputs[edge_path.name] = added_to.sha256
            added_to.check_inputs(inputs)
        complete = run.is_complete(dataset.fingerprint(), inputs)
    if workers.of_first(complete):
        return print(f"{run.result}: complete")
    with workers.one_line_errors():
        num_classes = len(dataset.classes)
        size = args.edge_size or edge_size(args.edge_net, data.image_size(dataset.train))
        scaling = finetune.chosen_scaling(
            args.edge_net, args.edge_mean, args.edge_std, args.pretrained, args.edge_weights
        )
        edge = build_edge(args.edge_net, num_classes, size, args.seed, args.pretrained, scaling)
        if args.edge_weights:
            print(load_weights(edge, args.edge_weights))
        channels_last = args.channels_last
        if channels_last is None:
            channels_last = prefers_channels_last(edge, device)
        order = torch.channels_last if channels_last else torch.contiguous_format
        edge = edge.to(device, memory_format=order)
        augment = data.AUGMENTATIONS[args.augment]
        batches = data.image_batches(
            dataset.train, args.batch_size, device, shuffle=True, seed=args.seed, augment=augment,
            **workers.sharing(args.batch_size),
        )  # fmt: skip
        val = data.image_batches(dataset.val, 250, device)
        # What is trained, and what it sees: the edge and images, or its last layer and features.
        trained, inputs_of, val_inputs, pictures = edge, batches, val, None
        if args.train_head_only:
            parts = [(batches, data.image_batches(dataset.train, 250, device)), (val, val)]
            trained, (inputs_of, val_inputs) = finetune.head_and_features(
                edge, size, parts, autocast(device, args.bf16)
            )
            pictures, channels_last = batches, False
        optimizer = torch.optim.SGD(
            finetune.parameter_groups(trained, size, args.lr, args.lr_trunk),
            momentum=args.momentum,
            weight_decay=args.weight_decay,
            fused=device.type != "mps",
        )
        edge_step = EdgeStep(
            trained,
            optimizer,
            args.batch_size,
            bf16=args.bf16,
            channels_last=channels_last,
            compiled=args.compile,
            graph=args.graph,
            workers=workers,
        )
        local_logits = rejectors = progress = None
        if settings:
            # m is fixed, so it predicts each image once; these batches are freed afterwards.
            local_logits = predict(local.to(device), data.image_batches(dataset.train, 500, device))
            rejectors = Rejectors(
                settings,
                trained,
                device,
                seed=args.seed,
                lr=args.lr_rejector,
                momentum=args.momentum,
                graph=args.graph,
                outages=args.outage,
                probe=probe_images(val_inputs, args.probe_size, args.seed)
                if args.adaptive
                else None,
                probe_every=args.probe_every,
                ask=edge_step.ask,
                workers=workers,
            )
            if args.progress_every != 0 and workers.rank == 0:
                progress = Progress(
                    settings, predict(local, val), val, args.progress_every, val_inputs
                )

        losses_path = paths.losses(run.stem)
        outputs = [run.dir / f"{s.stem(name)}.pth" for s in settings] + [losses_path]
        outputs += [] if added_to else [edge_path]
        outputs += [local_path] if local_bytes else []
        patterns = [paths.pattern("edgenet*.pth")]
        optimizers = [optimizer] + ([rejectors.optimizer] if rejectors else [])
        rates = [[group["lr"] for group in sgd.param_groups] for sgd in optimizers]
        state = None
        if workers.rank == 0:
            fingerprint = dataset.fingerprint()
            state = run.start(device, fingerprint, outputs, patterns, stems, workers.world)
        print_where(batches, dataset.name)
        if local_bytes and workers.rank == 0:
            experiment.write_bytes(local_path, local_bytes)
    state = workers.of_first(state)
    with workers.one_line_errors():
        done, l1, l2 = 0, torch.zeros(0), torch.zeros(0, len(settings))
        if state:
            trained.load_state_dict(state["edge"])
            optimizer.load_state_dict(state["optimizer"])
            if rejectors:
                rejectors.load(state)
            if progress:
                progress.load(state)
            done, l1, l2 = state["epoch"], state["l1"], state["l2"]
        rates_on_device = args.schedule != "constant" and args.graph and device.type == "cuda"
        for sgd in optimizers:
            steer(sgd, device if rates_on_device else None)

    def state_now():
        state = {"edge": trained.state_dict(), "optimizer": portable(optimizer), "l1": l1, "l2": l2}
        for part in (rejectors, progress):
            state |= part.state() if part else {}
        return state

    def save_within(epoch, entry):
        if progress:
            progress.stop(rejectors)
        run.save_state(epoch - 1, state_now() | {"within": entry})
        if progress:
            progress.start()

    within = experiment.WithinEpoch(device, state, save_within, args.save_every)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        experiment.seed_everything(args.seed, epoch)
        workers.differ()
        before, total = (epoch - 1) * len(batches), args.epochs * len(batches)

        def schedule(i, before=before, total=total):
            if args.schedule == "cosine":
                share = (1 + math.cos(math.pi * (before + i) / total)) / 2
                for sgd, initial in zip(optimizers, rates, strict=True):
                    set_lr(sgd, [share * lr for lr in initial])

        label = f"epoch {epoch}"
        losses = train_one_epoch(
            edge_step,
            rejectors,
            inputs_of,
            local_logits,
            epoch,
            label,
            schedule,
            progress,
            pictures,
            within,
        )
        l1, l2 = torch.cat([l1, losses[0]]), torch.cat([l2, losses[1]])
        with workers.one_line_errors():
            if workers.rank:
                continue
            val_logits = (
                progress.after_epoch(trained, rejectors)
                if progress
                else predict(trained, val_inputs)
            )
            val_accuracy = (val_logits.argmax(-1) == val.labels).float().mean().item()
            metrics = {"edge_loss": losses[0].mean().item(), "edge_val_accuracy": val_accuracy}
            if rejectors:
                metrics["rejector_loss"] = losses[1].mean().item()
            if added_to:
                added_to.check_epoch(epoch, metrics["edge_loss"])
            seconds = within.seconds + time.perf_counter() - start
            run.end_epoch(epoch, args.epochs, seconds, state_now(), **metrics)

    if workers.rank:
        return None
    if args.epochs == 0:
        val_accuracy = (predict(edge, val).argmax(-1) == val.labels).float().mean().item()
    edge_checkpoint = {
        "kind": "edge",
        "net": args.edge_net,
        "edge_size": size,
        **scaling.entries("edge"),
        "num_classes": num_classes,
        **recorded(dataset),
        "val_size": args.val_size,
        "split_seed": args.split_seed,
        "rejector_val_size": args.rejector_val_size,
        "seed": args.seed,
        "state_dict": {k: v.cpu().contiguous() for k, v in edge.state_dict().items()},
    }
    files = {}
    if added_to:
        added_to.check(edge_checkpoint)
        edge_digest = added_to.sha256
    else:
        edge_digest = experiment.save_checkpoint(edge_path, edge_checkpoint)
        files[edge_path.name] = edge_digest
    belongs_to = {"edge_file": edge_path.name, "edge_sha256": edge_digest}
    if rejectors:
        belongs_to |= {"local_file": local_path.name, "local_sha256": experiment.sha256(local_path)}
    for r, setting in enumerate(settings):
        path = run.dir / f"{setting.stem(dataset.name)}.pth"
        checkpoint = {
            "kind": "rejector",
            "async_freq": setting.async_freq,
            "cost_1": setting.cost_1,
            "cost_e": setting.cost_e,
            "surrogate": setting.surrogate,
            "rival": setting.extra,
            **rejectors.copies.sent(setting.async_freq),
            "seed": args.seed,
            "dataset": dataset.name,
            **belongs_to,
            "state_dict": rejectors.net.unstack(r),
        }
        files[path.name] = experiment.save_checkpoint(path, checkpoint)
    experiment.write_npz(
        losses_path,
        loss_step=np.arange(len(l1)),
        loss_edge=l1.numpy(),
        loss_rejector=l2.numpy(),
        stems=np.array([s.stem(dataset.name) for s in settings], dtype=str),
        **(progress.arrays() if progress else {}),
    )
    run.finish({"edge_val_accuracy": val_accuracy, "epochs": args.epochs, "sha256": files})
    print(f"{run.dir}: {edge_path.name} and {len(settings)} rejectors")
    return None


@experiment.script
def main(argv=None):
    whole = parse_args(argv)
    with Workers.of_torchrun() as workers:
        for args in experiment.each_seed(whole):
            train(args, workers)


if __name__ == "__main__":
    main()
