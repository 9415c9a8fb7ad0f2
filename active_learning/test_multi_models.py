"""Test accuracy of the targets of a round, and the risk of a cascade of two of them.

  python -m active_learning.test_multi_models --dataset mnist --method DIAM --al_iter 1
  python -m active_learning.test_multi_models --dataset mnist --method DIAM --al_iter 1 \\
      --model_num 4 --unseen 4 --cost_1 1 --cost_e 0.05

Reads the predictions that train_net.py wrote, so it needs no device. Writes in
SAVE_DIR/extracted_results/{T}/{dataset}/{method}/{round}
    performances.txt          a row a target: top-1 and top-5 in percent
    performances.json         the same and more, including the unseen targets and the cascade
    answers.npz               the class that each target gives each test image
    cascade-predictions.npz   logits of local and edge net, for python -m deferral.report
The cascade defers by a threshold on the local net's max softmax, fitted on val.
"""

import json

import numpy as np
import torch

import experiment
from active_learning import trained
from active_learning.options import (
    add_cascade_flags,
    add_study_flags,
    cascade,
    net_ids,
    studies,
)
from deferral import risk, rules
from experiment import number
from models.cost import multiply_adds


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    add_study_flags(parser)
    parser.add_argument(
        "--unseen",
        type=number(int, 0),
        nargs="+",
        default=[],
        metavar="ID",
        help="targets that are trained on the labels but do not vote",
    )
    add_cascade_flags(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="only check the flags; write nothing",
    )
    parser.add_common(seed=0)
    return parser.parse_args(argv)


def unseen_ids(study, args) -> list[int]:
    """The targets of --unseen; ValueError if one votes or does not exist."""
    unseen = net_ids(study, args.unseen)
    if min(unseen, default=study.model_num) < study.model_num:
        raise ValueError(
            f"--unseen {min(unseen)}: is a voting target; use ids >= {study.model_num}"
        )
    return unseen


def check(study, args):
    """ValueError if the flags cannot be evaluated, whatever was trained."""
    unseen_ids(study, args)
    if args.local_id is None and args.edge_id is None:
        return
    classes = len(study.dataset.classes)
    nets = [target.build(classes, 0) for target in study.targets[: study.model_num]]
    cascade(study, [multiply_adds(n, torch.zeros(1, 3, n.size, n.size)) for n in nets], args)


def top(logits, labels, k) -> float:
    """Share of samples whose class is among the k of highest logit; ties go to the lower class.

    logits [N, K], labels [N].
    """
    label_logits = np.take_along_axis(logits, labels[:, None], 1)
    lower = np.arange(logits.shape[1]) < labels[:, None]
    rank = ((logits > label_logits) | ((logits == label_logits) & lower)).sum(1)
    return float((rank < k).mean())


def performance(net_id, net) -> dict:
    """One target's row; accuracies 0..1."""
    parts = {name: net.predictions().part(name) for name in ("val", "test")}
    logits, labels = parts["test"].stage_logits[0], parts["test"].labels
    return {
        "net_id": net_id,
        **{k: net.about[k] for k in ("name", "parameters", "multiply_adds")},
        "top1": top(logits, labels, 1),
        "top5": top(logits, labels, 5),
        "val_top1": top(parts["val"].stage_logits[0], parts["val"].labels, 1),
    }


def cascade_of(local, edge, cost_1, cost_e) -> tuple[dict, np.ndarray]:
    """Risks of the cascade of two trained targets, and its cost of each test sample, [N]."""
    nets = {"local": local.predictions(), "edge": edge.predictions()}
    costs = risk.costs(cost_1, cost_e)
    doubt, correct = {}, {}
    for name in ("val", "test"):
        parts = {k: net.part(name) for k, net in nets.items()}
        doubt[name] = rules.max_softmax_doubt(parts["local"].stage_logits[0])
        correct[name] = np.concatenate([part.correct for part in parts.values()])
    cut = rules.best_threshold(doubt["val"], correct["val"], *costs)
    right, n = correct["test"], correct["test"].shape[1]
    stop = rules.threshold(doubt["test"], cut)
    stops = {
        "never": rules.never(n),
        "always": rules.always(n),
        "oracle": rules.oracle(right, *costs),
    }
    return {
        "cost_1": cost_1,
        "cost_e": cost_e,
        "risk": risk.risk(right, stop, *costs),
        "reject_rate": risk.send_rate(stop),
        **{name: risk.risk(right, where, *costs) for name, where in stops.items()},
    }, risk.per_sample(right, stop, *costs)


def evaluate(study, method, args):
    """Evaluates a round of one method and writes its files."""
    folder = study.root / "extracted_results" / str(study.model_num) / study.dataset.name / method
    folder = folder / str(args.al_iter)
    file = folder / "performances.json"
    with experiment.one_line_errors():
        labels = study.index_set(method, args.al_iter)
        unseen = unseen_ids(study, args)
        if file.exists() and not (args.resume or args.overwrite):
            raise ValueError(f"{file}: exists; --resume keeps it, --overwrite replaces it")
        ids = [*range(study.model_num), *unseen]
        nets = {i: trained.find(study, study.targets[i], labels) for i in ids}
        inputs = {"labels": labels.digest, "unseen": unseen, "cost_1": args.cost_1}
        inputs |= {"cost_e": args.cost_e, "local_id": args.local_id, "edge_id": args.edge_id}
        inputs["nets"] = [net.about["sha256"] for net in nets.values()]
        if args.resume and inputs_of(file) == inputs:
            return print(f"{file}: complete")
        rows = [performance(i, net) for i, net in nets.items()]
        ends = cascade(study, [row["multiply_adds"] for row in rows], args)
        pair = [nets[i] for i in ends]
        risks, cost = cascade_of(*pair, args.cost_1, args.cost_e)
        tests = [net.predictions().part("test") for net in nets.values()]
        experiment.lock(folder)

    committee = rows[: study.model_num]
    result = {
        "dataset": study.dataset.name,
        "method": method,
        "round": args.al_iter,
        "model_num": study.model_num,
        "seed": study.seed,
        "classes": len(study.dataset.classes),
        "labelled": len(labels.labelled),
        "batch_size": len(labels.queried),
        "targets": committee,
        "unseen": rows[study.model_num :],
        "cascade": {"local": ends[0], "edge": ends[1]} | risks,
        "train_seconds": sum(nets[i].about["train_seconds"] for i in range(study.model_num)),
        "vote_seconds": sum(nets[i].about["vote_seconds"] for i in range(study.model_num)),
        "select_seconds": labels.about["select_seconds"],
        "asked": inputs,
        "commit": experiment.commit_with_changes(),
        "hardware": nets[0].about["hardware"],
    }
    experiment.write_npz(
        folder / "answers.npz",
        labels=tests[0].labels,
        predicted=np.stack([t.stage_logits[0].argmax(-1) for t in tests]).astype(np.int16),
        cost=cost,
        index=tests[0].index,
    )
    save_cascade(folder / "cascade-predictions.npz", study, pair)
    text = "".join(f"{100 * r['top1']:.4f} {100 * r['top5']:.4f}\n" for r in committee)
    experiment.write_bytes(folder / "performances.txt", text.encode())
    experiment.write_json(file, result)
    tops = [100 * row["top1"] for row in committee]
    print(
        f"{folder}: {len(labels.labelled)} labels, top-1 {sum(tops) / len(tops):.2f} %, worst "
        f"{min(tops):.2f} %, risk of the cascade {risks['risk']:.4f}",
        flush=True,
    )
    return None


def inputs_of(file) -> dict | None:
    """What a finished result was computed from; None if there is no result."""
    try:
        return json.loads(file.read_text())["asked"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None


def save_cascade(path, study, pair):
    """The two nets' predictions as the two stages of one file."""
    local, edge = (net.predictions() for net in pair)
    about = {"dataset": study.dataset.name, "classes": study.dataset.classes, "rejectors": []}
    about |= {"local": pair[0].target.name, "edge": pair[1].target.name, "seed": study.seed}
    experiment.write_npz(
        path,
        labels=local.labels,
        stage_logits=np.concatenate([local.stage_logits, edge.stage_logits]),
        split=local.split,
        index=local.index,
        scores=np.zeros((0, len(local.labels)), np.float32),
        settings=np.array(json.dumps(about)),
    )


@experiment.script
def main(argv=None):
    args = parse_args(argv)
    with experiment.one_line_errors():
        runs = list(studies(args))
        if args.check:
            return check(runs[0][0], args)
    for study, one in runs:
        for method in dict.fromkeys(one.method):
            evaluate(study, method, one)
    return None


if __name__ == "__main__":
    main()
