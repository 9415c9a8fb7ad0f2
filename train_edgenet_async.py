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

import math
import time

import numpy as np
import torch

import data
import experiment
from experiment.cuda_graph import autocast, portable, set_lr, steer
from experiment.parallel import Workers
from experiment.within_epoch import WithinEpoch
from learning_to_help import edge_flags, finetune, saved, steps
from learning_to_help.added import plan
from learning_to_help.flags import settings_of
from learning_to_help.inputs import load, read_local
from learning_to_help.steps import EdgeStep, Rejectors, probe_images
from learning_to_help.val_log import Progress
from models.anynet import load_weights, weights_file
from models.edgenet import build_edge, edge_size, prefers_channels_last
from models.inference import predict


def parse_args(argv=None):
    return edge_flags.parse_args(__doc__, argv)


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
    edge, within = edge_step.edge, within or WithinEpoch()
    edge.train()
    if progress:
        progress.start()
    l1 = torch.zeros(len(batches), device=batches.device)
    l2 = torch.zeros(len(batches), rejectors.net.count if rejectors else 0, device=batches.device)
    if rejectors:
        rows_of_batches = [*map(batches.share, batches.rows(epoch))]
        rejectors.copies.start_epoch(rows_of_batches, batches.plain, within.first)
    seen_by_rejectors = pictures.epoch(epoch, within.first) if pictures and rejectors else None
    sums = {"l1": l1, "l2": l2}
    for i, (rows, images, labels) in within.steps(batches, epoch, label, sums):
        schedule(i)
        if rejectors:
            plain = images if batches.augment is None else batches.plain(rows)
            local = local_logits[rows]
            seen = next(seen_by_rejectors)[1] if seen_by_rejectors else None
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

    with workers.one_line_errors():
        within = WithinEpoch(device, state, save_within, args.save_every, workers)
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
    if done == args.epochs:  # no epoch was left to train
        val_logits = predict(trained, val_inputs)
        val_accuracy = (val_logits.argmax(-1) == val.labels).float().mean().item()
    edge_checkpoint = saved.of_edge(edge, size, scaling, dataset, args)
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
        checkpoint = saved.of_rejector(rejectors, r, setting) | belongs_to
        checkpoint |= {"seed": args.seed, "dataset": dataset.name}
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
