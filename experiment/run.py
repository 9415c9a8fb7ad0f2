"""The run directory: refuse or resume, say what was asked, log, and write the result last.

Per run, named by its stem (`digits-edgenet`, say), it holds

    args.json            {stem: what was asked, of which inputs, commit, versions, hardware, and the
                         files that the run writes}; written first
    metrics.jsonl        a line an epoch and stem
    STEM-state.pth       what `--resume` needs; written after every epoch, gone when the run ends
    STEM.json            the result; written last: where it is, the run is complete
    .lock                held by the process that writes there
    tensorboard/, wandb/ what `--log_to` writes

and the files that the script itself writes. A run replaces and deletes only what it wrote itself.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiment.command_line import fail
from experiment.files import (
    load_checkpoint,
    read_json,
    save_checkpoint,
    sha256,
    write_bytes,
    write_json,
)
from experiment.lock import lock
from experiment.machine import commit, hardware
from experiment.trackers import Mirror

if TYPE_CHECKING:
    import torch

# What may differ between the two halves of a resumed run without changing its weights.
FREE_TO_CHANGE = {
    "resume", "overwrite", "device", "data_root", "save_dir", "local_path", "log_to", "graph",
}  # fmt: skip


class Run:
    """One run in a directory. Making it only looks; `start` is the first thing that writes.

    remake: the run is an evaluation, which `--resume` makes again where its inputs have changed; a
    training run is refused then. may_differ: flags that `--resume` need not give again. ValueError
    where a run is there already and no flag says what to do with it, or where it was made with
    other flags.
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
        """Flags, but for `may_differ`, that a run of `stem` here was given other values of."""
        old = read_args(self.dir).get(stem, {}).get("args", {})
        new = json.loads(json.dumps(self.args, default=str))
        changed = {k for k in old.keys() & new.keys() if old[k] != new[k]}
        return sorted(changed - FREE_TO_CHANGE - set(may_differ))

    def _existing(self) -> list[Path]:
        return [path for path in (self.result, self.state_file) if path.exists()]

    def entry(self) -> dict[str, Any]:
        """What args.json says of this stem; {} where it says nothing."""
        return read_args(self.dir).get(self.stem, {})

    def is_complete(self, data: str, inputs: Mapping[str, str | Path] | None = None) -> bool:
        """Whether `--resume` finds a result that was made from these very inputs.

        data: fingerprint of the data set. inputs: SHA-256 of what else the result is made from, by
        file name; the file's path does as well. ValueError where a training run's have changed.
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
            print(f"{self.result}: {changed}; it is made again")
        return not changed

    def _changed(self, data: str) -> str:
        """Which input differs from what args.json names, in words; "" where none does."""
        entry = self.entry()
        if entry.get("data", data) != data:
            return "was made from other data"
        if "inputs" not in entry:  # of a version that did not record them
            return "does not name its inputs" if self.remake else ""
        before = entry["inputs"]
        names = [n for n in sorted({*before, *self.inputs}) if before.get(n) != self.inputs.get(n)]
        return f"was made from another {names[0]} than is there now" if names else ""

    def start(
        self,
        device: torch.device,
        data: str,
        outputs: Iterable[Path] = (),
        patterns: Iterable[str] = (),
        kin: Iterable[str] = (),
    ) -> dict | None:
        """Lock the directory, write args.json and return the state to resume from, if there is one.

        data: fingerprint of the data set. outputs: every file that the run writes beside its result
        and state. patterns: globs of files that later steps would take for the run's. kin: stems of
        further runs of the script here. What an earlier run of this stem wrote is removed unless it
        is resumed, and what its kin wrote with `--overwrite`. ValueError where an output or a match
        exists that neither wrote, where another process has been here in the meantime, and where a
        resumed run began with other inputs.
        """
        import torch

        entries = read_args(self.dir)
        names = [path.name for path in (self.result, self.state_file, *outputs)]
        matches = [path.name for pattern in patterns for path in self.dir.glob(pattern)]

        def files_of(stem: str) -> list[str]:
            """Those that runs of a stem wrote; older versions did not list them."""
            return entries[stem].get("files", [*names, *matches]) if stem in entries else []

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
        state, overwritten = None, ()
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
            "args": self.args,
            "data": data,
            "inputs": self.inputs,
            "files": names,
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "commit": head,
            "dirty": dirty,
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),
            "python": platform.python_version(),
            "hardware": hardware(device),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_json(self.dir / "args.json", json.loads(json.dumps(entries, default=str)))
        done = state["epoch"] if state else 0
        self._keep_metrics(done, overwritten)
        if self.mirror:
            self.mirror.start(self.dir, self.stem, self.entry(), done)
        return state

    def _keep_metrics(self, epochs: int, overwritten: Iterable[str]) -> None:
        """Drop this stem's lines after `epochs`, which will be run again, and overwritten runs'."""
        path = self.dir / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                logged = json.loads(line)
            except json.JSONDecodeError:  # cut short by a kill or a full disk
                continue
            stem = logged.get("run")
            if stem not in (self.stem, *overwritten) or (
                stem == self.stem and logged["epoch"] <= epochs
            ):
                kept.append(line + "\n")
        write_bytes(path, "".join(kept).encode())

    def end_epoch(
        self, epoch: int, epochs: int, seconds: float, state: dict | None = None, **metrics
    ) -> None:
        """After an epoch, counted from 1: a line in the log, then the state to resume from.

        Without a state, for runs of a few minutes, nothing is said and a killed run begins again.
        """
        for name, value in metrics.items():
            if not np.isfinite(value):
                fail(f"{name} is {value} in epoch {epoch}: training diverged; lower the --lr")
        line = {"run": self.stem, "epoch": epoch, **metrics, "seconds": round(seconds, 3)}
        try:
            with open(self.dir / "metrics.jsonl", "a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as e:
            fail(f"{self.dir}/metrics.jsonl: cannot be written ({e.strerror}); --resume goes on")
        if state is not None:
            save_checkpoint(self.state_file, state | {"epoch": epoch})
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

    def finish(self, result: dict, name_inputs: bool = True) -> None:
        """Write the result, last of all files, and remove the state.

        name_inputs: whether `inputs` in it names the SHA-256 of the data and of the files read.
        """
        if name_inputs:
            result = result | {"inputs": {"data": self.entry()["data"], **self.inputs}}
        write_json(self.result, result)
        self.state_file.unlink(missing_ok=True)
        if self.mirror:
            self.mirror.close()


def read_args(directory: Path) -> dict[str, Any]:
    """The entries of args.json by stem; {} where there is no such file."""
    path = directory / "args.json"
    entries = read_json(path) if path.exists() else {}
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{path}: is not of a run of this project; move it away")
    return entries
