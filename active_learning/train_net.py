"""Train target models on the labels of a round (Tang and Huang, NeurIPS 2022, section 5).

  python -m active_learning.train_net --dataset mnist --method DIAM --al_iter 0 --model_num 12
  python -m active_learning.train_net --net_id 3 --dataset mnist --al_iter 2 --method random
  python -m active_learning.train_net --dataset digits --targets my.json --model_num 2 \\
      --method DIAM CAL
  torchrun --nproc_per_node 4 -m active_learning.train_net --dataset mnist --al_iter 0

Every target is trained from its initial weights (--init): SGD with Nesterov momentum, a cosine
schedule, label smoothing, and random resized crops (the defaults are the paper's settings). In
round 0, and for the methods that need them, the predictions ("votes") for the unlabelled samples
are kept after each of the last --DIS_frac of the epochs. A net trained on the same labels with the
same settings is kept. Needs the labels that al_select.py --al_iter R writes. Under torchrun each
target is trained by one of the processes, so the files are the same as without.
"""

import argparse
import json
import math
import time
import zlib

import numpy as np
import torch
import torch.nn.functional as F

import data
import experiment
from active_learning import trained
from active_learning.options import (
    add_speed_flags,
    add_study_flags,
    net_ids,
    parse,
    studies,
)
from active_learning.strategies import METHODS
from active_learning.target_models import OFA
from data.augment import random_resized_crop
from experiment import number
from experiment.parallel import Workers
from models.cost import multiply_adds, parameters


def parse_args(argv=None):
    parser = experiment.Parser(__doc__, torchrun=True)
    add_study_flags(parser)
    group = parser.add_argument_group("training")
    group.add_argument("--net_id", type=number(int, 0), nargs="+", help="targets (default: all T)")
    group.add_argument("--epochs", type=number(int, 1), default=20, help="passes over the labels")
    group.add_argument("--batch_size", type=number(int, 1), default=120, help="images a step")
    group.add_argument(
        "--lr",
        type=number(float, 0, above=True),
        default=7.5e-3,
        help="initial learning rate of SGD",
    )
    group.add_argument(
        "--momentum", type=number(float, 0, 1), default=0.9, help="Nesterov momentum"
    )
    group.add_argument(
        "--weight_decay",
        type=number(float, 0),
        default=3e-5,
        help="of all weights except batch norm and biases",
    )
    group.add_argument(
        "--label_smoothing", type=number(float, 0, 1), default=0.1, help="label smoothing"
    )
    group.add_argument(
        "--bn_momentum",
        type=number(float, 0, 1, above=True),
        default=0.1,
        help="momentum of batch norm's running mean and variance, in every target",
    )
    group.add_argument(
        "--dropout", type=number(float, 0, 1), default=0.1, help="dropout before the head"
    )
    group.add_argument(
        "--crop_scale",
        type=number(float, 0, 1, above=True),
        nargs=2,
        default=[0.08, 1.0],
        metavar=("LOW", "HIGH"),
        help="share of an image that a training crop covers; 1 1 for none",
    )
    group.add_argument(
        "--mDIS",
        action=argparse.BooleanOptionalAction,
        help="keep votes (default: in round 0 and for methods that need them)",
    )
    group.add_argument(
        "--DIS_frac",
        type=number(float, 0, 1, above=True),
        default=0.5,
        help="share of the epochs that vote, the last ones",
    )
    add_speed_flags(parser)
    parser.add_common(seed=0, logs=True)
    args = parse(parser, argv)
    if args.crop_scale[0] > args.crop_scale[1]:
        parser.error("--crop_scale: the lower share first")
    voting_methods = [method for method in args.method if "votes" in METHODS[method].needs]
    if args.mDIS is False:
        parser.refuse(args.given, ["DIS_frac"], "has no effect with --no-mDIS")
    elif voting_methods and voting_epochs(args) < 2:
        parser.error(
            f"{voting_methods[0]} needs predictions from at least two epochs; raise --epochs or "
            "--DIS_frac"
        )
    return args


def voting_epochs(args) -> int:
    """The number of epochs, the last ones, after which votes are kept."""
    return math.ceil(
        round(args.DIS_frac * args.epochs, 9)
    )  # 0.07 of 100 is 7, not 7.000000000000001


def make_optimizer(net, lr, momentum, weight_decay, device):
    """SGD without weight decay on vectors: biases and the weights of batch norm."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr, momentum, nesterov=momentum > 0, fused=device.type != "mps")


def set_bn_momentum(net, momentum):
    """Sets it in every layer: some nets have 0.01, too low for the tens of steps of a round.

    (mobilenet_v3_small on 200 MNIST digits, 80 steps: 8 % on val with 0.01, 75 % with 0.1.)
    """
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


def train_one_epoch(net, optimizer, schedule, batches, epoch, smoothing, numbers) -> float:
    """One pass over the labelled samples; returns the mean loss a step."""
    net.train()
    total = torch.zeros((), device=numbers.device)
    for _, images, labels in batches.epoch(epoch):
        if numbers.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with numbers.autocast():
            logits = net(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.detach()
    return total.item() / len(batches)


def train_target(study, parts, target, labels, votes, args, numbers):
    """Trains one target on one set of labels and writes its files, unless they are complete.

    parts: pool, val and test on the device. votes: whether to keep them.
    """
    device, classes = study.device, len(study.dataset.classes)
    settings = training_settings(study, target, labels, args, numbers)
    with experiment.one_line_errors():
        run = experiment.Run(trained.folder(study, target, labels), "net", settings)
        if run.is_complete(study.fingerprint):
            complete = trained.find(study, target, labels)
            if votes:
                complete.votes(len(labels.unlabelled))
            return print(f"{run.dir}: complete")
        net = target.build(classes, weight_seed(study.seed, target), args.dropout)
        set_bn_momentum(net, args.bn_momentum)
        mean, std = trained.pixel_stats(target)
        crop = tuple(args.crop_scale)
        augment = None if crop == (1.0, 1.0) else random_resized_crop(net.size, crop)
        rows = trained.part_of(parts["pool"], labels.labelled)
        batches = data.Batches(
            rows, args.batch_size, device,
            shuffle=True, seed=study.seed, augment=augment, mean=mean, std=std,
        )  # fmt: skip
        cost = multiply_adds(net, torch.zeros(1, 3, net.size, net.size))
        names = ("votes.npz", "net.pth", "predictions.npz")
        run.start(device, study.fingerprint, [run.dir / name for name in names])
    net = numbers.place(net)
    optimizer = make_optimizer(net, args.lr, args.momentum, args.weight_decay, device)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(batches))
    rest = trained.part_of(parts["pool"], labels.unlabelled)
    first_vote = args.epochs - voting_epochs(args) + 1
    epoch_votes, seconds, began = [], {"train": 0.0, "votes": 0.0}, time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        start = time.perf_counter()
        experiment.seed_everything(study.seed, epoch)
        loss = train_one_epoch(
            net, optimizer, schedule, batches, epoch, args.label_smoothing, numbers
        )
        trained_at = time.perf_counter()
        if votes and epoch >= first_vote:
            unlabelled = trained.eval_batches(target, rest, device)
            epoch_votes.append(trained.logits(net, unlabelled, numbers).argmax(-1).cpu())
        seconds["train"] += trained_at - start
        seconds["votes"] += time.perf_counter() - trained_at
        run.end_epoch(epoch, args.epochs, time.perf_counter() - start, loss=loss)
    finish(study, parts, run, target, net, labels, epoch_votes, numbers, seconds | {"cost": cost})
    print(f"{run.dir}: {time.perf_counter() - began:.1f} s")
    return None


def training_settings(study, target, labels, args, numbers) -> argparse.Namespace:
    """Everything the trained weights depend on, and the flags that `Run` reads."""
    names = ["epochs", "batch_size", "lr", "momentum", "weight_decay", "label_smoothing"]
    names += ["dropout", "bn_momentum", "crop_scale", "DIS_frac", "val_size", "split_seed"]
    settings = {name: getattr(args, name) for name in names}
    settings |= {"target": target.settings, "labels": labels.digest, "seed": study.seed}
    settings |= {"bf16": numbers.bf16, "channels_last": numbers.channels_last}
    return argparse.Namespace(
        **settings, dataset=study.dataset.name, log_to=args.log_to,
        resume=not args.overwrite, overwrite=args.overwrite,
    )  # fmt: skip


def weight_seed(seed: int, target) -> int:
    """Seed of the initial weights; two targets of one shape start from different weights."""
    entropy = [seed, zlib.crc32(target.name.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def finish(study, parts, run, target, net, labels, epoch_votes, numbers, measured):
    """Writes votes, predictions for val and test, weights, and last the result."""
    if epoch_votes:
        votes = torch.stack(epoch_votes).numpy().astype(np.int16)
        experiment.write_npz(run.dir / "votes.npz", votes=votes)
    logits = {}
    for split in ("val", "test"):
        batches = trained.eval_batches(target, parts[split], numbers.device)
        logits[split] = trained.logits(net, batches, numbers).cpu().numpy()
    if not all(np.isfinite(values).all() for values in logits.values()):
        experiment.fail(f"{run.dir}: logits are not finite; lower the --lr")
    both = [study.dataset.val, study.dataset.test]
    about = {
        "dataset": study.dataset.name,
        "classes": study.dataset.classes,
        "rejectors": [],
    }
    experiment.write_npz(
        run.dir / "predictions.npz",
        labels=np.concatenate([part.labels.numpy() for part in both]),
        stage_logits=np.concatenate([logits["val"], logits["test"]])[None],
        split=np.repeat(np.array([0, 1], np.int8), [len(part.labels) for part in both]),
        index=np.concatenate([part.index.numpy() for part in both]),
        scores=np.zeros((0, sum(len(part.labels) for part in both)), np.float32),
        settings=np.array(json.dumps(about)),
    )
    state = {k: v.cpu().contiguous() for k, v in net.state_dict().items()}
    digest = experiment.save_checkpoint(run.dir / "net.pth", {"state_dict": state})
    run.finish(
        {
            "target": target.settings,
            "name": target.name,
            "parameters": parameters(net),
            "multiply_adds": measured["cost"],
            "labels": len(labels.labelled),
            "data": study.fingerprint,
            "seed": study.seed,
            "sha256": digest,
            "train_seconds": measured["train"],
            "vote_seconds": measured["votes"],
            "bf16": numbers.bf16,
            "channels_last": numbers.channels_last,
            "hardware": experiment.hardware(numbers.device),
        }
    )


def check_effect(targets, given):
    """ValueError if a flag on the command line has no effect on any target."""
    if "dropout" in given and all(target.settings["net"] != OFA for target in targets):
        raise ValueError("--dropout has no effect: no target is a net of the once-for-all space")
    if "bn_momentum" in given:
        layers = (m for target in targets for m in target.build(2, 0).modules())
        if not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in layers):
            raise ValueError("--bn_momentum has no effect: no target has batch norm")


def trainings(study, args):
    """What to train in a round, once for equal labels: [(target, labels, keep votes)].

    ValueError or OSError if the flags name what is not there.
    """
    wanted = net_ids(study, args.net_id)
    check_effect([study.targets[i] for i in wanted], args.given)
    sets = {method: study.index_set(method, args.al_iter) for method in args.method}
    voting = {m for m in args.method if "votes" in METHODS[m].needs or args.al_iter == 0}
    found = []
    for digest in dict.fromkeys(labels.digest for labels in sets.values()):
        methods = [method for method, labels in sets.items() if labels.digest == digest]
        labels = sets[methods[0]]
        votes = bool(voting & set(methods)) if args.mDIS is None else args.mDIS
        votes = votes and len(labels.unlabelled) > 0  # none are left if the pool ran out
        for net_id in wanted:
            # In round 0 unseen targets vote too: they may be in the committee of a larger T.
            keep = votes and (net_id < study.model_num or args.al_iter == 0)
            found.append((study.targets[net_id], labels, keep))
    return found


def train_round(study, args, chosen):
    """Trains `chosen`, some of the `trainings` of a round."""
    numbers = trained.numbers_of(args.bf16, args.channels_last, study.device)
    parts = {"pool": study.pool, "val": study.dataset.val, "test": study.dataset.test}
    parts = {name: trained.on_device(part, study.device) for name, part in parts.items()}
    for target, labels, keep in chosen:
        train_target(study, parts, target, labels, keep, args, numbers)


@experiment.script
def main(argv=None):
    args = parse_args(argv)
    workers = Workers.of_torchrun()
    # Afterwards no process waits for another one: a target may take hours.
    with workers, workers.one_line_errors():
        args.device = str(workers.pick_device(args.device))
        rounds = [(study, one, trainings(study, one)) for study, one in studies(args)]
        total = sum(len(found) for *_, found in rounds)
        if workers.world > total:
            raise ValueError(
                f"{workers.world} processes for {total} networks to train; start at most as many"
            )
    before = 0
    for study, one, found in rounds:
        if mine := found[(workers.rank - before) % workers.world :: workers.world]:
            train_round(study, one, mine)
        before += len(found)


if __name__ == "__main__":
    main()
