"""Choose which samples of the pool to label next (Tang and Huang, NeurIPS 2022, section 4).

  python -m active_learning.al_select --al_iter 0 --dataset mnist --initial_size 3000
  python -m active_learning.al_select --method DIAM --dataset mnist --al_iter 1 \\
      --batch_size 1500 --model_num 12

Round 0 is a random set, the same for every method of a seed. Round R > 0 adds --batch_size samples
that the method picks by the outputs of the targets trained on round R - 1 for the unlabelled
samples, without random crops. Methods (active_learning/strategies.py): random, entropy, margin,
least_conf, coreset, CAL, DIAM, DIAM_qp, risk, which labels for a cascade, and released, what the
paper's release computes as entropy, margin and least_conf: a random choice. Writes one file of
index sets a round and method (active_learning/index_sets.py).
"""

import sys
import time

import numpy as np

import experiment
from active_learning import index_sets, trained
from active_learning.committee import Committee
from active_learning.options import (
    CASCADE_FLAGS,
    SPEED_FLAGS,
    add_cascade_flags,
    add_speed_flags,
    add_study_flags,
    cascade,
    parse,
    studies,
)
from active_learning.strategies import METHODS, select
from active_learning.trained import numbers_of
from experiment import number

POOL_RAN_OUT = 3  # exit status


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    add_study_flags(parser)
    group = parser.add_argument_group("labels")
    group.add_argument("--batch_size", type=number(int, 1), default=1500, help="new labels a round")
    group.add_argument(
        "--initial_size", type=number(int, 1), default=3000, help="labels in round 0"
    )
    group.add_argument(
        "--forget",
        action="store_true",
        help="afterwards delete the weights of all nets trained on the last round's labels; their "
        "predictions stay",
    )
    group.add_argument(
        "--may_end",
        action="store_true",
        help=f"exit with status {POOL_RAN_OUT} if fewer than --batch_size samples are left, which "
        "ends the study without error",
    )
    group.add_argument(
        "--DIAMq", type=number(float, 0), default=1.0, help="q, weight of DIAM_qp's first key"
    )
    add_cascade_flags(parser)
    add_speed_flags(parser)
    parser.add_common(seed=0)
    args = parse(parser, argv)
    later = ("batch_size", "forget", "may_end", "DIAMq", *CASCADE_FLAGS, *SPEED_FLAGS)
    if args.al_iter == 0:
        parser.refuse(args.given, later, "has no effect at --al_iter 0, whose labels are random")
    else:
        parser.refuse(args.given, ["initial_size"], f"has no effect at --al_iter {args.al_iter}")
    if args.al_iter == 1:
        reason = "has no effect at --al_iter 1: the nets of round 0 are every method's"
        parser.refuse(args.given, ["forget"], reason)
    if "DIAM_qp" not in args.method:
        parser.refuse(args.given, ["DIAMq"], "has no effect without --method DIAM_qp")
    if "risk" not in args.method:
        parser.refuse(args.given, CASCADE_FLAGS, "has no effect without --method risk")
    if all(METHODS[method].needs <= {"votes"} for method in args.method):
        reason = f"has no effect on {' and '.join(args.method)}, which runs no net"
        parser.refuse(args.given, SPEED_FLAGS, reason)
    return args


def begin(study, args):
    """Round 0, which all methods share: one of the same size is kept, another is refused."""
    size = len(study.pool.labels)
    place = study.place(args.method[0])
    labels = index_sets.initial(place, size, args.initial_size)
    path = place.path(0)
    if path.exists() and not args.overwrite:
        existing = index_sets.load(place, 0, size)
        if existing.digest != labels.digest:
            raise ValueError(
                f"{path}: holds {len(existing.labelled)} labels, not --initial_size "
                f"{args.initial_size}; all methods begin with it, so use another --save_dir"
            )
        return print(f"{path}: complete")
    experiment.lock(path.parent)
    labels.save(path)
    return print(f"{path}: {len(labels.labelled)} labelled, {len(labels.unlabelled)} unlabelled")


def is_due(study, method, args) -> bool:
    """Whether to select this round. ValueError if it exists and no flag says what to do."""
    path = study.place(method).path(args.al_iter)
    if not path.exists() or args.overwrite:
        return True
    if not args.resume:
        raise ValueError(f"{path}: exists; --resume keeps it, --overwrite replaces it")
    about = study.index_set(method, args.al_iter).about
    if about.get("flags") != flags_of(method, args):
        raise ValueError(f"{path}: was made with {about.get('flags')}; --overwrite replaces it")
    nets = trained.digests(study, study.index_set(method, args.al_iter - 1))
    if METHODS[method].needs and about.get("nets", nets) != nets:
        raise ValueError(f"{path}: was chosen by other networks; --overwrite replaces it")
    print(f"{path}: complete")
    return False


def flags_of(method, args) -> dict:
    """Everything a selection depends on, beside the networks."""
    flags = ["batch_size"]
    flags += CASCADE_FLAGS if method == "risk" else ["DIAMq"] if method == "DIAM_qp" else []
    return {name: getattr(args, name) for name in flags}


def check_left(before, args):
    """End, with --may_end without error, if a method has fewer samples left than a batch."""
    for method, labels in before.items():
        left = len(labels.unlabelled)
        if args.batch_size <= left:
            continue
        if not args.may_end:
            raise ValueError(
                f"--batch_size {args.batch_size}: {left} samples are unlabelled before round "
                f"{args.al_iter} of {method}; give fewer, or stop before it"
            )
        print(
            f"the pool ran out: {left} samples are unlabelled before round {args.al_iter} of "
            f"{method}, fewer than --batch_size {args.batch_size}",
            file=sys.stderr,
        )
        raise SystemExit(POOL_RAN_OUT)


def grow(study, method, labels, committee, args):
    """Selects the next round of one method and writes its file."""
    with experiment.one_line_errors():
        ends = cascade(study, committee.multiply_adds, args)
        pool, forward_seconds = committee.pool(method, ends, (args.cost_1, args.cost_e))
        pool = pool._replace(qp_weight=args.DIAMq)
        start = time.perf_counter()
        rng = np.random.default_rng([study.seed, args.al_iter])
        picks = select(method, pool, args.batch_size, rng)
    seconds = forward_seconds + time.perf_counter() - start
    place = study.place(method)
    grown = index_sets.grown(
        place, labels, picks,
        select_seconds=seconds, flags=flags_of(method, args), nets=trained.digests(study, labels),
        commit=experiment.commit_with_changes(),
    )  # fmt: skip
    path = place.path(args.al_iter)
    with experiment.one_line_errors():
        experiment.lock(path.parent)
        if path.exists() and not args.overwrite:
            raise ValueError(f"{path}: another process has just written it; --resume keeps it")
    grown.save(path)
    print(
        f"{path}: {len(grown.labelled)} labelled, {len(grown.unlabelled)} "
        f"unlabelled, {seconds:.1f} s",
        flush=True,
    )


def select_round(study, args):
    """Selects a round of every method; methods with the same labels share the targets' outputs."""
    with experiment.one_line_errors():
        if args.al_iter == 0:
            return begin(study, args)
        before = {
            method: study.index_set(method, args.al_iter - 1)
            for method in dict.fromkeys(args.method)
            if is_due(study, method, args)
        }
        check_left(before, args)
    numbers = numbers_of(args.bf16, args.channels_last, study.device)
    for digest in dict.fromkeys(labels.digest for labels in before.values()):
        methods = [method for method, labels in before.items() if labels.digest == digest]
        with experiment.one_line_errors():
            committee = Committee(study, before[methods[0]], numbers)
        for method in methods:
            grow(study, method, before[method], committee, args)
        # All methods and all T share round 0: a later call may need its networks.
        if args.forget and args.al_iter > 1:
            committee.forget()
    return None


@experiment.script
def main(argv=None):
    args = parse_args(argv)
    with experiment.one_line_errors():
        runs = list(studies(args))
    for study, one in runs:
        select_round(study, one)


if __name__ == "__main__":
    main()
