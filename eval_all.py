"""Evaluate every checkpoint of a run directory: save predictions once, compute the rest from them.

  python eval_all.py --dataset digits --save_dir results/runs/first

The local net, the edge net and the stack of all rejectors each predict val and test once; then come
the rejectors of train_rejector.py. Writes {dataset}-predictions.npz, from which every table and
figure is made, and {dataset}-eval_all.json in the layout of the L2H release plus `settings` and
`risk`. That file holds the rejectors whose names the release's table script reads; the others
(extra surrogates, adaptive ones, those of train_rejector.py) are in {dataset}-eval_extra.json, in
the same layout.

Runs that were trained with --stream are evaluated with --stream and the same --stream_size.

SAVE_DIR may hold checkpoints of the release instead, under the release's names, and its local net.
Each has its own edge net: they are read one by one, and predictions.npz, which holds one edge net,
is written only if all edge nets are equal.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import data
import experiment
from data.flags import add_dataset_flag
from deferral import predictions as saved
from deferral import rules
from deferral.catalogue import SUMMARY
from deferral.counts import cascade_counts, stage_counts
from deferral.summary import summarise
from experiment import number
from learning_to_help import estimators, released
from learning_to_help.answers import (
    SETTING,
    predict_all,
    predict_later,
    predict_parts,
    split_rejectors,
)
from learning_to_help.inputs import add_stream_flags, check_data, check_stream_flags, load
from learning_to_help.settings import release_reads
from models.checkpoints import edge_net, local_net, rejector_net
from models.edgenet import ViT
from models.exit_local import ExitLocal


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    add_dataset_flag(parser)
    parser.add_argument("--save_dir", default="results/runs/default", help="the run directory")
    parser.add_argument("--batch_size", type=number(int, 1), default=250, help="images at once")
    add_stream_flags(parser)
    parser.add_common(seed=43)
    args = parser.parse_args(argv)
    given = parser.given(args, argv)
    parser.refuse(given, ["seed"], "evaluation uses no random numbers; --seeds names the runs")
    check_stream_flags(parser, args, argv)
    return args


def input_files(paths) -> dict[str, Path]:
    """The files of a run directory that its predictions are made from, by name."""
    nets = [path for path in (paths.local, paths.edge) if path.exists()]
    files = [*nets, *paths.settings(), *paths.rejectors(), *paths.find("losses*.npz")]
    return {path.name: path for path in files}


def read_losses(paths) -> dict[str, np.ndarray]:
    """The arrays of {dataset}-losses.npz and of the files of settings added later, joined."""
    parts = [experiment.read_npz(path) for path in paths.find("losses*.npz")]
    losses = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        arrays = [part[key] for part in parts if key in part]
        by_setting = key == "stems" or arrays[0].ndim == 2
        losses[key] = np.concatenate(arrays, axis=-1) if by_setting else arrays[0]
    return losses


class Checkpoints(NamedTuple):
    """The checkpoints of a run directory.

    rejectors: (checkpoint, network) by file stem of those that were trained beside the edge.
    hashes: SHA-256 of the files "edge" and "local". Without rejectors local is None.
    """

    edge: dict
    local: dict | None
    rejectors: dict[str, tuple[dict, nn.Module]]
    hashes: dict[str, str]


def read_checkpoints(paths: experiment.RunPaths) -> Checkpoints:
    """The checkpoints of train_edgenet_async.py; ValueError if they do not belong together."""
    nets = {"edge": paths.edge, "local": paths.local}
    if not paths.edge.exists():
        raise ValueError(f"{paths.edge}: not there; train_edgenet_async.py makes it")
    edge = experiment.load_checkpoint(paths.edge)
    settings = {path: experiment.load_checkpoint(path) for path in paths.settings()}
    if not settings and not paths.rejectors():
        return Checkpoints(edge, None, {}, {})
    if not paths.local.exists():
        raise ValueError(f"{paths.local}: not there, and the rejectors were trained for it")
    local = experiment.load_checkpoint(paths.local)
    hashes = {kind: experiment.sha256(path) for kind, path in nets.items()}
    rejectors = {}
    for path, checkpoint in settings.items():
        rejectors[path.stem] = checkpoint, rejector_net(checkpoint, str(path))
        for other, digest in hashes.items():
            if checkpoint.get(f"{other}_sha256") != digest:
                raise ValueError(f"{path}: needs another {other} net than {nets[other]} (SHA-256)")

    def setting(stem: str) -> tuple[str, float, float]:
        checkpoint, _ = rejectors[stem]
        costs = checkpoint["cost_1"] or 0, checkpoint["cost_e"] or 0
        return str(checkpoint["async_freq"]), *costs

    ordered = {stem: rejectors[stem] for stem in sorted(rejectors, key=setting)}
    return Checkpoints(edge, local, ordered, hashes)


def seen_classes(local, labels, num_classes) -> list[int] | None:
    """The classes that the local net was trained on; None if its checkpoint does not record them.

    labels: those of the data set's train part, which may lack some classes.
    """
    text = (local or {}).get("local_classes")
    if text is None:
        return None
    chosen = range(num_classes) if text == "all" else data.parse_classes(text, num_classes)
    return sorted(set(chosen) & set(labels.tolist()))


def release_layout(pred) -> dict:
    """{dataset}-eval_all.json from predictions alone: one object for each checkpoint stem."""
    num_classes = pred.stage_logits.shape[-1]
    test = pred.part("test")
    edge = stage_counts(test.labels, test.correct[-1], num_classes)
    if not pred.settings["rejectors"]:
        return {experiment.RunPaths("", pred.settings["dataset"]).stem("edgenet"): {"edge": edge}}
    result = {}
    for r, row in enumerate(summarise(pred)):
        setting = pred.settings["rejectors"][r]
        stop = rules.threshold(test.scores[r], 0.0)
        names = {"never": "all_local", "always": "all_remote"}
        result[setting["stem"]] = {
            "edge": edge,
            "both": cascade_counts(test.labels, test.correct, stop, num_classes),
            "both_inverted": cascade_counts(test.labels, test.correct, 1 - stop, num_classes),
            "settings": {k: setting[k] for k in SETTING},
            "risk": {names.get(r.key, r.key): row[f"risk_{r.key}"] for r in SUMMARY},
        }
    return result


def finish(run, layout, extra) -> None:
    """Write the result, and to `extra` the checkpoints whose names the release cannot read.

    If the release can read none, as for an edge net alone, the result holds all of them.
    """
    readable = {stem: row for stem, row in layout.items() if release_reads(stem)} or layout
    rest = {stem: row for stem, row in layout.items() if stem not in readable}
    if rest:
        experiment.write_json(extra, rest)
    run.finish(readable, name_inputs=False)  # its keys are stems, as in the release


def describe(name, dataset, edge, local, device) -> dict:
    """The settings in predictions.npz, without those of rejectors and estimators.

    edge and local: names of the networks; local is None where there is none.
    """
    return {
        "dataset": name,
        "classes": dataset.classes,
        "edge": edge,
        "local": local,
        "commit": experiment.commit_with_changes(),
        "hardware": experiment.hardware(device),
    }


def evaluate_released(args, run, device, paths, files):
    """Evaluate a directory of the release's checkpoints, one after the other.

    files: those of released.find. Nothing is written before all have been read.
    """
    size = estimators.image_rejector_cost()
    with experiment.one_line_errors():
        dataset = load(args, *released.split_of({}))
        fingerprint, name = dataset.fingerprint(), paths.dataset
        if run.is_complete(fingerprint, input_files(paths)):
            return print(f"{run.result}: complete")
        inference = args.batch_size, device
        local_logits = []
        if any(files.values()) or paths.local.exists():
            checkpoint = experiment.load_checkpoint(paths.local)
            local = local_net(checkpoint, len(dataset.classes), str(paths.local))
            local_logits = predict_parts(dataset, [local], *inference)
        layout, settings, scores, digests, arrays = {}, [], [], [], {}
        for path, setting in files.items():
            rejector, edge, digest = released.read(path, name, len(dataset.classes))
            if digest not in digests[-1:]:
                arrays = predict_all(dataset, edge, None, [], *inference)
                arrays["stage_logits"] = np.stack([*local_logits, arrays["stage_logits"][0]])
            digests.append(digest)
            edge_name = "vit" if isinstance(edge, ViT) else "alexnet"
            del edge  # frees up to 340 MB, of a vit, before the next file is read
            if setting is None:
                right = arrays["stage_logits"][-1].argmax(-1) == arrays["labels"]
                test = arrays["split"] == saved.SPLITS["test"]
                counts = stage_counts(arrays["labels"][test], right[test], len(dataset.classes))
                layout[path.stem] = {"edge": counts}
                continue
            (pairs,) = predict_parts(dataset, [rejector], *inference)
            scores.append(pairs[:, 1] - pairs[:, 0])
            from_name = {k: v for k, v in setting._asdict().items() if k in SETTING}
            settings.append({"stem": path.stem, **from_name, "seed": None, **size})
            one = arrays | {"scores": np.stack(scores[-1:])}
            meta = {"dataset": name, "rejectors": settings[-1:]}
            layout |= release_layout(saved.Predictions(**one, settings=meta, source=str(path)))
        run.start(device, fingerprint, [paths.predictions, paths.result("eval_extra")])

    path = paths.predictions
    local_name = "lenet5" if local_logits else None
    if len(set(digests)) == 1:
        if scores:
            arrays["scores"] = np.stack(scores)
        meta = describe(name, dataset, edge_name, local_name, device)
        meta |= {"rejectors": settings, "estimators": []}
        meta["inputs"] = {"data": fingerprint, **run.inputs}
        experiment.write_npz(path, **arrays, settings=np.array(json.dumps(meta)))
        print(f"{path}: {len(scores)} rejectors")
    else:
        print(f"{path}: not written: {len(files)} files hold {len(set(digests))} edge nets")
    finish(run, layout, paths.result("eval_extra"))
    if scores:
        print(f"warning: {run.result}: {released.OPTIMISTIC}")
    return print(run.result)


def evaluate(args):
    """Evaluate one run directory: write its predictions and JSON files."""
    with experiment.one_line_errors():
        device = experiment.pick_device(args.device)
        name = data.stem(args.dataset)
        paths = experiment.RunPaths(args.save_dir, name)
        run = experiment.Run(args.save_dir, paths.stem("eval_all"), args, remake=True)
        files = released.find(run.dir, name)
    if files:
        return evaluate_released(args, run, device, paths, files)
    with experiment.one_line_errors():
        read = read_checkpoints(paths)
        edge, local = read.edge, read.local
        rejectors = {stem: checkpoint for stem, (checkpoint, _) in read.rejectors.items()}
        dataset = load(args, *released.split_of(edge))
        num_classes = len(dataset.classes)
        edge_module = edge_net(edge, num_classes, str(paths.edge))
        local_module = local_net(local, num_classes, str(paths.local)) if local else None
        modules = [net for _, net in read.rejectors.values()]
        seen = seen_classes(local, dataset.train.labels, num_classes)
        fingerprint = dataset.fingerprint()
        if run.is_complete(fingerprint, input_files(paths)):
            return print(f"{run.result}: complete")
        otherwise = f"--dataset {args.dataset}: is not the data that {run.dir} was trained on"
        check_data(edge, dataset, str(paths.edge), otherwise)
        later = estimators.read(run.dir, name, read.hashes) if local else {}
        losses = read_losses(paths)
        run.start(device, fingerprint, [paths.predictions, paths.result("eval_extra")])

    if isinstance(local_module, ExitLocal):
        # early_exit.eval does the same, and deferral.join compares the logits of both.
        torch.backends.cudnn.allow_tf32 = False
    nets = edge_module, local_module, modules
    arrays = predict_all(dataset, *nets, args.batch_size, device)
    costed, estimating = split_rejectors(arrays, rejectors)
    students = []
    if later:
        more, students = predict_later(
            arrays, costed, later, local_module, dataset, args.batch_size, device
        )
        estimating += more
    if costed and losses:
        columns = [losses["stems"].tolist().index(stem) for stem in costed if stem in rejectors]
        arrays |= {k: losses[k] for k in ("loss_step", "loss_edge")}
        arrays["loss_rejector"] = losses["loss_rejector"][:, columns]
        for key, array in losses.items():
            if key.startswith("progress_"):
                arrays[key] = array[:, columns] if array.ndim == 2 else array
    local_name = local.get("net", "lenet5") if local else None  # the release's has no name
    settings = describe(name, dataset, edge["net"], local_name, device)
    settings |= {
        "seed": edge["seed"],
        "inputs": {"data": fingerprint, **run.inputs},
        "rejectors": [{"stem": stem, **setting} for stem, setting in costed.items()],
        "estimators": estimating,
        "students": students,
    }
    if seen is not None:
        settings["local_classes"] = seen
    path = paths.predictions
    experiment.write_npz(path, **arrays, settings=np.array(json.dumps(settings)))
    finish(run, release_layout(saved.load(path)), paths.result("eval_extra"))
    print(f"{path}: {len(costed)} rejectors, {len(estimating)} estimators\n{run.result}")
    return None


@experiment.script
def main(argv=None):
    for args in experiment.each_seed(parse_args(argv)):
        evaluate(args)


if __name__ == "__main__":
    main()
