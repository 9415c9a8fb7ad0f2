"""The run directory: refuse or resume, record the arguments, log, and write the result last.

For each run, named by its stem (such as `digits-edgenet`), it holds

    args.json            {stem: arguments, inputs, commit, versions, hardware, and the files that
                         the run writes}; written first. Paths are relative to the repository;
                         a file outside it has its name and SHA-256 (`inputs`, `outside`)
    metrics.jsonl        one line for each epoch and stem
    STEM-state.pth       what `--resume` needs; written after every epoch, and within epochs with
                         --save_every (experiment.within_epoch); deleted at the end
    STEM.json            the result; written last: if it exists, the run is complete
    .lock                held by the process that writes to the directory
    tensorboard/, wandb/ what `--log_to` writes

and the files that the script itself writes. A run replaces and deletes only files that it wrote.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiment.command_line import fail
from experiment.files import (
    load_checkpoint,
    save_checkpoint,
    sha256,
    write_json,
)
from experiment.lock import lock
from experiment.machine import commit, hardware
from experiment.portable import files_outside, portable, shell_command
from experiment.records import read_args, trim_metrics
from experiment.trackers import Mirror

if TYPE_CHECKING:
    import torch

# Flags that a resumed run may change without changing its weights.
FREE_TO_CHANGE = {
    "resume", "overwrite", "device", "data_root", "save_dir", "local_path", "log_to", "graph",
    "save_every", "workers",
}  # fmt: skip


class Run:
    """One run in a directory. The constructor only reads; `start` writes first.

    remake: the run is an evaluation, which `--resume` repeats if its inputs have changed; a
    training run is refused then. may_differ: flags whose values `--resume` may change. ValueError
    if the directory already holds this run and neither --resume nor --overwrite is given, or if
    that run had other flags.
    """

    def __init__(
        self,
        save_dir: str | Path,
        stem: str,
        args: argparse.Namespace,
        *,
        remake: bool = False,
        may_differ: Iterable[str] = (),
    ):
        self.dir, self.stem, self.remake = Path(save_dir), stem, remake
        self.args, self.resume = vars(args).copy(), args.resume
        self.result = self.dir / f"{stem}.json"
        self.state_file = self.dir / f"{stem}-state.pth"
        self.inputs: dict[str, str] = {}
        self._before = self._existing()
        log_to = self.args.get("log_to")
        complete = args.resume and self.result.exists()
        self.mirror = Mirror(log_to) if log_to and not complete else None
        there = next(iter(self._before), None)
        if there and not (args.resume or args.overwrite):
            what = "a finished" if there == self.result else "an unfinished"
            does = "keeps" if there == self.result else "continues"
            raise ValueError(
                f"{there}: {what} run is here; --resume {does} it, --overwrite replaces it"
            )
        if args.resume and there and (changed := self.other_flags(stem, may_differ)):
            raise ValueError(
                f"--resume: {there} was made with other values of --{', --'.join(changed)}; give "
                "the same, or --overwrite"
            )

    def other_flags(self, stem: str, may_differ: Iterable[str] = ()) -> list[str]:
        """Flags outside `may_differ` whose values differ from those of the run of `stem` here."""
        old = read_args(self.dir).get(stem, {}).get("args", {})
        new = json.loads(json.dumps(self._recorded_args(), default=str))
        changed = {k for k in old.keys() & new.keys() if old[k] != new[k]}
        return sorted(changed - FREE_TO_CHANGE - set(may_differ))

    def _recorded_args(self) -> dict[str, Any]:
        return {name: portable(value) for name, value in self.args.items()}

    def _existing(self) -> list[Path]:
        return [path for path in (self.result, self.state_file) if path.exists()]

    def entry(self) -> dict[str, Any]:
        """The entry of this stem in args.json; {} if there is none."""
        return read_args(self.dir).get(self.stem, {})

    def is_complete(self, data: str, inputs: Mapping[str, str | Path] | None = None) -> bool:
        """Whether `--resume` finds a result that was made from these inputs.

        data: fingerprint of the data set. inputs: by file name, the SHA-256 or the path of every
        other file that the result is made from. ValueError if those of a training run have changed.
        """
        self.inputs = {
            name: sha256(value) if isinstance(value, Path) else value
            for name, value in (inputs or {}).items()
        }
        if not (self.resume and self.result.exists()):
            return False
        changed = self._changed(data)
        if changed and not self.remake:
            raise ValueError(f"{self.result}: {changed}; --overwrite makes the run again")
        if changed:
            print(f"{self.result}: {changed}; repeating it")
        return not changed

    def _changed(self, data: str) -> str:
        """The first input that differs from args.json, in words; "" if none does."""
        entry = self.entry()
        if entry.get("data", data) != data:
            return "was made from other data"
        before = entry.get("inputs", {})
        names = [n for n in sorted({*before, *self.inputs}) if before.get(n) != self.inputs.get(n)]
        return f"was made from another {names[0]} than is there now" if names else ""

    def start(
        self,
        device: torch.device,
        data: str,
        outputs: Iterable[Path] = (),
        patterns: Iterable[str] = (),
        kin: Collection[str] = (),
        processes: int = 1,
    ) -> dict | None:
        """Lock the directory, write args.json and return the state to resume from, if there is one.

        data: fingerprint of the data set. outputs: every file that the run writes beside its result
        and state. patterns: globs of files that later steps would read as this run's. kin: stems of
        related runs of the script here. processes: how many train together. Files of an earlier run
        of this stem are deleted unless it is resumed, and with `--overwrite` those of its kin too.
        ValueError if an output or a match exists that none of these runs wrote, if another process
        has run here since the constructor, or if a resumed run began with other inputs.
        """
        import torch

        entries = read_args(self.dir)
        names = [path.name for path in (self.result, self.state_file, *outputs)]
        matches = [path.name for pattern in patterns for path in self.dir.glob(pattern)]

        def files_of(stem: str) -> list[str]:
            """Files that runs of a stem wrote."""
            return entries.get(stem, {}).get("files", [])

        written, of_kin = files_of(self.stem), [name for stem in kin for name in files_of(stem)]
        for name in (*names, *matches):
            if name not in (*written, *of_kin) and (self.dir / name).exists():
                raise ValueError(
                    f"{self.dir / name}: no run of this script wrote it, and it would be replaced "
                    "or taken for this run's; use another --save_dir"
                )
        lock(self.dir)
        if self._existing() != self._before:
            raise ValueError(f"{self.dir}: another process has just run here; run this again")
        state = None
        overwritten: Collection[str] = ()
        if self.resume and self.state_file.exists():
            if changed := self._changed(data):
                raise ValueError(f"--resume: {self.state_file}: {changed}; --overwrite starts over")
            state = load_checkpoint(self.state_file)
        else:
            overwritten = kin if self.args.get("overwrite") else ()
            for name in (*written, *(of_kin if overwritten else ())):
                (self.dir / name).unlink(missing_ok=True)
            entries = {stem: e for stem, e in entries.items() if stem not in overwritten}
        head, dirty = commit()
        entries[self.stem] = {
            "args": self._recorded_args(),
            "data": data,
            "inputs": self.inputs,
            "outside": files_outside(self.args),
            "files": names,
            "command": shell_command([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "commit": head,
            "dirty": dirty,
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),
            "python": platform.python_version(),
            "hardware": hardware(device),
            "processes": processes,
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_json(self.dir / "args.json", json.loads(json.dumps(entries, default=str)))
        done = state["epoch"] if state else 0
        trim_metrics(self.dir / "metrics.jsonl", self.stem, done, overwritten)
        if self.mirror:
            self.mirror.start(self.dir, self.stem, self.entry(), done)
        return state

    def end_epoch(
        self, epoch: int, epochs: int, seconds: float, state: dict | None = None, **metrics
    ) -> None:
        """Log an epoch, counted from 1, then save the state to resume from.

        Runs of a few minutes pass no state: nothing is printed, and a killed run starts over.
        """
        for name, value in metrics.items():
            if not np.isfinite(value):
                fail(f"{name} is {value} in epoch {epoch}: training diverged; lower the --lr")
        line = {"run": self.stem, "epoch": epoch, **metrics, "seconds": round(seconds, 3)}
        try:
            with open(self.dir / "metrics.jsonl", "a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as e:
            fail(f"{self.dir}/metrics.jsonl: cannot be written ({e.strerror}); --resume continues")
        if state is not None:
            self.save_state(epoch, state)
        if self.mirror:
            self.mirror.log(epoch, metrics | {"seconds": line["seconds"]})
        if state is None:
            return
        left = datetime.timedelta(seconds=round(seconds * (epochs - epoch)))
        values = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        print(
            f"{self.stem}  epoch {epoch}/{epochs}  {values}  {seconds:.1f} s  {left} left",
            flush=True,
        )

    def save_state(self, epoch: int, state: dict) -> None:
        """Write the state to resume from; epoch: those that are complete."""
        save_checkpoint(self.state_file, state | {"epoch": epoch})

    def finish(self, result: dict, name_inputs: bool = True) -> None:
        """Write the result after all other files, and delete the state.

        name_inputs: whether the result's `inputs` holds the SHA-256 of the data and input files.
        """
        if name_inputs:
            result = result | {"inputs": {"data": self.entry()["data"], **self.inputs}}
        write_json(self.result, result)
        self.state_file.unlink(missing_ok=True)
        if self.mirror:
            self.mirror.close()
