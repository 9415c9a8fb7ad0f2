"""Train the fixed local net m of learning to help (Wu et al., ICLR 2025): SGD on cross-entropy.

  python train_localnet.py --dataset digits --save_dir results/runs/first
  python train_localnet.py --dataset cifar10 --save_dir results/runs/first

Defaults are the paper's: LeNet-5, 10 epochs, batch 16, lr 1e-3, momentum 0.9, no augmentation.
CIFAR-10 takes a minute on a GPU and two on 2 CPU cores and gives 60 to 63 % on val.
Writes {dataset}-localnet.pth and, last, {dataset}-localnet.json.
"""

import time

import torch
import torch.nn.functional as F

import data
import experiment
from experiment import number
from models.checkpoints import predict
from models.localnet import LOCAL_NETS


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
    group.add_argument(
        "--rejector_val_size",
        type=number(float, 0),
        default=0,
        help="kept from train for train_rejector.py: a share below 1 or a count; 0 for none",
    )
    group.add_argument("--local_classes", help="train on these classes only, as 0-8 or 0,2,5-7")
    group = parser.add_argument_group("training")
    group.add_argument("--local_net", choices=LOCAL_NETS, default="lenet5", help="architecture")
    group.add_argument("--epochs", type=number(int, 1), default=10, help="passes over train")
    group.add_argument("--batch_size", type=number(int, 1), default=16, help="images a step")
    group.add_argument("--lr", type=number(float, 0, above=True), default=1e-3, help="of SGD")
    group.add_argument("--momentum", type=number(float, 0, 1), default=0.9, help="of SGD")
    group.add_argument("--save_dir", default="results/runs/default", help="the run directory")
    parser.add_common(seed=42, logs=True)
    return parser.parse_args(argv)


def train_one_epoch(net, optimizer, batches, epoch, label) -> float:
    """One pass over the training batches; returns the mean loss a step."""
    net.train()
    total = torch.zeros((), device=next(net.parameters()).device)
    for _, images, labels in experiment.progress(batches.epoch(epoch), len(batches), label):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item() / len(batches)


def accuracy(net, batches, labels) -> float:
    return (predict(net, batches).argmax(-1) == labels).float().mean().item()


def train(args):
    """One run, to the checkpoint and the result."""
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        run = experiment.Run(args.save_dir, f"{data.stem(args.dataset)}-localnet", args)
        if run.complete:
            return print(f"{run.result}: complete")
        split = args.val_size, args.split_seed, args.rejector_val_size
        dataset = data.load(args.dataset, args.data_root, *split)
        num_classes = len(dataset.classes)
        train = dataset.train
        if args.local_classes is not None:
            kept = data.parse_classes(args.local_classes, num_classes)
            train = data.keep_classes(train, kept)
        batches = data.Batches(train, args.batch_size, device, shuffle=True, seed=args.seed)
        val = data.Batches(dataset.val, 500, device)

        experiment.seed_everything(args.seed)
        net = LOCAL_NETS[args.local_net](num_classes).to(device)
        optimizer = torch.optim.SGD(
            net.parameters(), args.lr, args.momentum, fused=device.type != "mps"
        )
        state = run.start(device, dataset.fingerprint())
        done = 0
        if state:
            net.load_state_dict(state["net"])
            optimizer.load_state_dict(state["optimizer"])
            done = state["epoch"]

    for epoch in range(done + 1, args.epochs + 1):
        start = time.perf_counter()
        experiment.seed_everything(args.seed, epoch)
        loss = train_one_epoch(net, optimizer, batches, epoch, f"epoch {epoch}")
        val_accuracy = accuracy(net, val, val.labels)
        run.end_epoch(
            epoch,
            args.epochs,
            time.perf_counter() - start,
            {"net": net.state_dict(), "optimizer": optimizer.state_dict()},
            loss=loss,
            val_accuracy=val_accuracy,
        )

    path = run.dir / f"{dataset.name}-localnet.pth"
    checkpoint = {
        "kind": "local",
        "net": args.local_net,
        "num_classes": num_classes,
        "local_classes": args.local_classes or "all",
        "dataset": dataset.name,
        "data": dataset.fingerprint(),
        "val_size": args.val_size,
        "split_seed": args.split_seed,
        "rejector_val_size": args.rejector_val_size,
        "seed": args.seed,
        "state_dict": {k: v.cpu() for k, v in net.state_dict().items()},
    }
    digest = experiment.save_checkpoint(path, checkpoint)
    test = data.Batches(dataset.test, 500, device)
    test_accuracy = accuracy(net, test, test.labels)
    run.finish({"val_accuracy": val_accuracy, "test_accuracy": test_accuracy, "sha256": digest})
    print(f"{path}: {test_accuracy:.1%} on test")
    return None


def main(argv=None):
    for args in experiment.each_seed(parse_args(argv)):
        train(args)


if __name__ == "__main__":
    main()
