"""Train the fixed local net m of learning to help (Wu et al., ICLR 2025): SGD on cross-entropy.

  python train_localnet.py --dataset digits --save_dir results/runs/first
  python train_localnet.py --dataset cifar10 --save_dir results/runs/first
  python train_localnet.py --dataset cifar10 --save_dir results/runs/first --local_net msdnet:2 \\
      --exits_path results/runs/early-exit
  torchrun --nproc_per_node 4 train_localnet.py --dataset cifar10 --batch_size 64 ...

Defaults are the paper's: LeNet-5, 10 epochs, batch 16, lr 1e-3, momentum 0.9, no augmentation.
CIFAR-10 takes a minute on a GPU and two on 2 CPU cores and gives 60 to 63 % on val. Under torchrun
the processes share each batch (experiment/parallel.py).

--local_net msdnet:2 trains nothing: m is exit 2, counted from 1, of the network that
early_exit.train wrote to {dataset}-msdnet.pth; msdnet:last is its last exit. Any architecture of
early_exit.train that reads images works. The later steps of learning to help then use that exit.

--stream reads a folder of pictures while it trains, for those that do not fit into memory; every
later step then takes it too (docs/learning_to_help.md).

Writes {dataset}-localnet.pth and, last, {dataset}-localnet.json.
"""

import time
from pathlib import Path

import torch
import torch.nn.functional as F

import data
import experiment
from experiment.cuda_graph import StepGraph
from experiment.parallel import ALONE, Workers
from experiment.within_epoch import WithinEpoch
from learning_to_help import exit_as_local as exits
from learning_to_help import finetune, inputs, local_flags
from models.any_local import build_local, is_local
from models.anynet import load_weights, weights_file
from models.cost import multiply_adds, parameters
from models.exit_local import exit_name
from models.inference import predict


def parse_args(argv=None):
    return local_flags.parse_args(__doc__, argv)


def training_step(net, optimizer, workers=ALONE):
    """A function that makes a step on images [B, 3, H, W] and labels [B] and returns its loss.

    Of several workers each gives its part of the batch; the step and the loss are the whole's.
    """

    def step(images, labels):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        loss = workers.average(net.parameters(), loss, len(labels))
        optimizer.step()
        workers.copy_first(net.buffers())  # batch norm's running statistics
        return loss.detach()

    return step


def train_one_epoch(net, step, batches, epoch, label, within=None) -> float:
    """One pass over the training batches; returns the mean loss a step.

    within: the state in the middle of an epoch.
    """
    within = within or WithinEpoch()
    net.train()
    total = torch.zeros((), device=batches.device)
    for _, (_, images, labels) in within.steps(batches, epoch, label, {"loss": total}):
        total += step(images, labels)
    return total.item() / len(batches)


def accuracy(net, batches, labels) -> float:
    return (predict(net, batches).argmax(-1) == labels).float().mean().item()


def take_exit(args):
    """Write an exit of a network of early_exit.train as the local net, without training."""
    name = exit_name(args.local_net)
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        prefix = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, prefix)
        run = experiment.Run(args.save_dir, paths.stem("localnet"), args)
        source = exits.find(Path(args.exits_path or args.save_dir), prefix, name.arch)
        taken = exits.read(source, name)
        dataset = data.load(args.dataset, args.data_root, args.val_size, args.split_seed)
        exits.check_data(taken, dataset, source)
        if run.is_complete(dataset.fingerprint(), {source.name: source}):
            return print(f"{run.result}: complete")
        path = paths.local
        run.start(device, dataset.fingerprint(), [path])

    net, trained = taken.net.to(device), taken.trained
    val, test = (data.Batches(part, 500, device) for part in (dataset.val, dataset.test))
    checkpoint = {
        "kind": "local",
        "local_classes": "all",
        "dataset": dataset.name,
        "rejector_val_size": 0,
        **{key: trained[key] for key in ("data", "val_size", "split_seed", "seed", "method")},
        **taken.origin,
        **taken.kept,
    }
    result = {
        "net": taken.kept["net"],
        "parameters": parameters(net),
        "multiply_adds": multiply_adds(net, torch.zeros(1, 3, net.size, net.size, device=device)),
        "val_accuracy": accuracy(net, val, val.labels),
        "test_accuracy": accuracy(net, test, test.labels),
        "sha256": experiment.save_checkpoint(path, checkpoint),
    }
    run.finish(result | taken.origin)
    print(
        f"{path}: {result['net']} of {net.num_exits} exits, {result['test_accuracy']:.1%} on test"
    )
    return None


def train(args, workers):
    """Train one local net and write its checkpoint and the result."""
    with workers.one_line_errors():
        device = workers.pick_device(args.device)
        paths = experiment.RunPaths(args.save_dir, data.stem(args.dataset))
        run = experiment.Run(args.save_dir, paths.stem("localnet"), args)
        dataset = inputs.load(args, args.val_size, args.split_seed, args.rejector_val_size)
        weights = {}
        if args.local_weights:
            weights[Path(args.local_weights).name] = weights_file(args.local_weights)
        complete = run.is_complete(dataset.fingerprint(), weights)
    if workers.of_first(complete):
        return print(f"{run.result}: complete")
    with workers.one_line_errors():
        num_classes = len(dataset.classes)
        train = dataset.train
        if args.local_classes is not None:
            kept = data.parse_classes(args.local_classes, num_classes)
            train = data.keep_classes(train, kept)
        batches = data.image_batches(
            train, args.batch_size, device, shuffle=True, seed=args.seed,
            **workers.sharing(args.batch_size),
        )  # fmt: skip
        val = data.image_batches(dataset.val, 500, device)

        experiment.seed_everything(args.seed)
        scaling = finetune.chosen_scaling(
            args.local_net, args.local_mean, args.local_std, False, args.local_weights
        )
        net = build_local(args.local_net, num_classes, args.local_size, scaling=scaling)
        if args.local_weights:
            print(load_weights(net, args.local_weights))
        net = net.to(device)
        # What is trained, and what it sees: the net and images, or its last layer and features.
        trained, inputs_of, val_inputs = net, batches, val
        if args.train_head_only:
            parts = [(batches, data.image_batches(train, 500, device)), (val, val)]
            trained, (inputs_of, val_inputs) = finetune.head_and_features(net, net.size, parts)
        groups = finetune.parameter_groups(trained, net.size, args.lr, args.lr_trunk)
        optimizer = torch.optim.SGD(groups, momentum=args.momentum, fused=device.type != "mps")
        path = paths.local
        state = None
        if workers.rank == 0:
            state = run.start(device, dataset.fingerprint(), [path], processes=workers.world)
    state = workers.of_first(state)
    with workers.one_line_errors():
        done = 0
        if state:
            trained.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
            done = state["epoch"]
        graph = args.graph and workers.world == 1
        step = StepGraph(training_step(trained, optimizer, workers), device, graph)

    def state_now():
        return {"net": trained.state_dict(), "optimizer": optimizer.state_dict()}

    def save_within(epoch, entry):
        run.save_state(epoch - 1, state_now() | {"within": entry})

    with workers.one_line_errors():
        within = WithinEpoch(device, state, save_within, args.save_every, workers)
    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        experiment.seed_everything(args.seed, epoch)
        workers.differ()
        loss = train_one_epoch(trained, step, inputs_of, epoch, f"epoch {epoch}", within)
        with workers.one_line_errors():
            if workers.rank:
                continue
            val_accuracy = accuracy(trained, val_inputs, val.labels)
            run.end_epoch(
                epoch,
                args.epochs,
                within.seconds + time.perf_counter() - start,
                state_now(),
                loss=loss,
                val_accuracy=val_accuracy,
            )

    if workers.rank:
        return None
    if done == args.epochs:  # no epoch was left to train
        val_accuracy = accuracy(trained, val_inputs, val.labels)
    checkpoint = {
        "kind": "local",
        "net": args.local_net,
        "local_size": net.size,
        **scaling.entries("local"),
        "num_classes": num_classes,
        "local_classes": args.local_classes or "all",
        **inputs.recorded(dataset),
        "val_size": args.val_size,
        "split_seed": args.split_seed,
        "rejector_val_size": args.rejector_val_size,
        "seed": args.seed,
        "state_dict": {k: v.cpu() for k, v in net.state_dict().items()},
    }
    test = data.image_batches(dataset.test, 500, device)
    test_accuracy = accuracy(net, test, test.labels)
    digest = experiment.save_checkpoint(path, checkpoint)
    run.finish({"val_accuracy": val_accuracy, "test_accuracy": test_accuracy, "sha256": digest})
    print(f"{path}: {test_accuracy:.1%} on test")
    return None


@experiment.script
def main(argv=None):
    whole = parse_args(argv)
    with Workers.of_torchrun() as workers:
        for args in experiment.each_seed(whole):
            if whole.seeds and args.exits_path:
                args.exits_path = str(Path(args.exits_path) / Path(args.save_dir).name)
            train(args, workers) if is_local(args.local_net) else take_exit(args)


if __name__ == "__main__":
    main()
