"""Adding settings to a finished run directory in a further call."""

import argparse
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import NamedTuple

import experiment
from learning_to_help import flags
from learning_to_help.settings import Setting

# Flags that may differ between calls that add rejectors to one edge net.
ADDABLE = {
    "cost_1", "cost_e", "costs", "async_freq", "adaptive", "joint", "edge_only",
    "extra_surrogates", "extra_costs",
}  # fmt: skip
OF_REJECTORS = ADDABLE | set(flags.OF_REJECTORS)


class TrainedEdge:
    """The edge net of a finished run, which a run that adds settings must reproduce.

    A rejector learns from the edge's answers after every step, so the edge is trained again.
    path: the edge's checkpoint; sha256: its hash in the result of run `stem`. losses: mean L1 of
    each epoch. inputs: SHA-256 by name of the files that the finished runs were made from.
    ValueError if the checkpoint has another hash.
    """

    def __init__(self, path: Path, stem: str, sha256: str, inputs: dict[str, str]):
        self.inputs = inputs
        if not path.exists() or experiment.sha256(path) != sha256:
            raise ValueError(f"{path}: is not the edge net that {stem}.json names (SHA-256)")
        self.path, self.sha256 = path, sha256
        lines = map(json.loads, (path.parent / "metrics.jsonl").read_text().splitlines())
        self.losses = {line["epoch"]: line["edge_loss"] for line in lines if line["run"] == stem}

    def check_inputs(self, inputs: dict[str, str]) -> None:
        """ValueError if the existing settings were trained for another local net."""
        for name, digest in inputs.items():
            if self.inputs.get(name, digest) != digest:
                raise ValueError(
                    f"{self.path.parent}: its settings were made from another {name} than the one "
                    "there now; --overwrite trains them all again"
                )

    def check_epoch(self, epoch: int, loss: float) -> None:
        """Exit with an error if an epoch's mean L1 differs from the finished run's."""
        if self.losses.get(epoch, loss) != loss:
            self._differs()

    def check(self, checkpoint: dict) -> None:
        """Exit with an error if the trained edge's checkpoint differs from the finished run's."""
        if hashlib.sha256(experiment.checkpoint_bytes(checkpoint)).hexdigest() != self.sha256:
            self._differs()

    def _differs(self) -> None:
        experiment.fail(
            f"{self.path}: training it again gave another edge net (another device, version or "
            "number of processes?), "
            "so nothing was added; use another --save_dir, or --overwrite to train all settings"
        )


class Plan(NamedTuple):
    """The settings that a call trains in `run`.

    stems: all of the script's runs in the directory. added_to: the edge net that the settings are
    added to; None for a run that writes its edge net.
    """

    run: experiment.Run
    settings: list[Setting]
    stems: list[str]
    added_to: TrainedEdge | None


def plan(args: argparse.Namespace, name: str, settings: list[Setting]) -> Plan:
    """The run that trains `settings` on the data set `name`.

    Settings that a finished run lacks are trained in a further run beside it, {name}-edgenet-2 and
    so on, which replaces nothing. ValueError if the flags would train another edge net.
    """
    paths = experiment.RunPaths(args.save_dir, name)
    save_dir, first = paths.dir, paths.stem("edgenet")
    stem_pattern = re.compile(rf"{re.escape(first)}(-\d+)?")
    entries = {s: e for s, e in experiment.read_args(save_dir).items() if stem_pattern.fullmatch(s)}
    results = {stem: save_dir / f"{stem}.json" for stem in entries}
    files = {s: experiment.read_json(p)["sha256"] for s, p in results.items() if p.exists()}
    trained_by = {file: stem for stem, written in files.items() for file in written}
    missing = [s for s in settings if f"{s.stem(name)}.pth" not in trained_by]
    if args.overwrite or first not in files:
        return Plan(experiment.Run(save_dir, first, args), settings, [*entries], None)
    stem = next(f"{first}-{k}" for k in itertools.count(2) if f"{first}-{k}" not in files)
    if not missing:
        stem = max((trained_by[f"{s.stem(name)}.pth"] for s in settings), default=first, key=len)
    # The flags of rejectors have no meaning for a run without any.
    with_rejectors = [s for s in files if not entries[s]["args"].get("edge_only")]
    of_edge = ADDABLE if first in with_rejectors and not args.edge_only else OF_REJECTORS
    run = experiment.Run(save_dir, stem, args, may_differ=of_edge if stem == first else ADDABLE)
    changed = run.other_flags(first, of_edge)
    if with_rejectors and not args.edge_only:
        changed = changed or run.other_flags(with_rejectors[0], ADDABLE)
    if changed:
        raise ValueError(
            f"{results[first]}: was made with other values of --{', --'.join(changed)}; give the "
            "same to add settings to it, or another --save_dir"
        )
    edge = None
    if stem != first:
        inputs = {k: v for s in files for k, v in entries[s].get("inputs", {}).items()}
        edge = TrainedEdge(paths.edge, first, files[first][paths.edge.name], inputs)
    return Plan(run, missing or settings, [*entries], edge)
