"""The run directory: refuse or resume, say what was asked, log, and write the result last.

Per run, named by its stem (`digits-edgenet`, say), it holds

    args.json            {stem: what was asked, commit, versions, hardware}; written first
    metrics.jsonl        a line an epoch and stem
    STEM-state.pth       what `--resume` needs; written after every epoch, gone when the run ends
    STEM.json            the result; written last: where it is, the run is complete
    tensorboard/, wandb/ what `--log_to` writes

and the files that the script itself writes.
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
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiment.command_line import fail
from experiment.files import load_checkpoint, save_checkpoint, write_bytes, write_json
from experiment.machine import commit, hardware
from experiment.mirror import Mirror

if TYPE_CHECKING:
    import torch

# What may differ between the two halves of a resumed run without changing its weights.
FREE_TO_CHANGE = {
    "resume", "overwrite", "device", "data_root", "save_dir", "local_path", "log_to", "graph",
}  # fmt: skip


class Run:
    """One run in a directory. Making it only looks; `start` is the first thing that writes."""

    def __init__(self, save_dir: str | Path, stem: str, args: argparse.Namespace):
        self.dir, self.stem = Path(save_dir), stem
        self.args, self.resume = vars(args).copy(), args.resume
        self.result = self.dir / f"{stem}.json"
        self.state_file = self.dir / f"{stem}-state.pth"
        self.complete = args.resume and self.result.exists()
        log_to = self.args.get("log_to")
        self.mirror = Mirror(log_to) if log_to and not self.complete else None
        there = self.result if self.result.exists() else self.state_file
        if there.exists() and not (args.resume or args.overwrite):
            what = "a finished" if there is self.result else "an unfinished"
            does = "keeps" if there is self.result else "continues"
            raise ValueError(
                f"{there}: {what} run is here; --resume {does} it, --overwrite replaces it"
            )
        if args.resume and there.exists():
            old = self._read_args().get(stem, {}).get("args", {})
            new = json.loads(json.dumps(self.args, default=str))
            changed = {k for k in old.keys() & new.keys() if old[k] != new[k]} - FREE_TO_CHANGE
            if changed:
                raise ValueError(
                    f"--resume: {there} was made with other values of --{', --'.join(changed)}; "
                    "give the same, or --overwrite"
                )

    def _read_args(self) -> dict:
        path = self.dir / "args.json"
        try:
            return json.loads(path.read_text()) if path.exists() else {}
        except json.JSONDecodeError:
            raise ValueError(f"{path}: not JSON; move it away") from None

    def start(self, device: torch.device, data: str, stale: Iterable[Path] = ()) -> dict | None:
        """Write args.json, remove what `--overwrite` replaces; returns the state to resume from.

        `data` is the data set's fingerprint: ValueError where a resumed run began with another.
        """
        import torch

        all_args = self._read_args()
        before = all_args.get(self.stem, {}).get("data", data)
        if self.resume and self.state_file.exists() and before != data:
            raise ValueError(f"--resume: {self.state_file} was made with other data")
        head, dirty = commit()
        all_args[self.stem] = {
            "args": self.args,
            "data": data,
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "commit": head,
            "dirty": dirty,
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),
            "python": platform.python_version(),
            "hardware": hardware(device),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_json(self.dir / "args.json", json.loads(json.dumps(all_args, default=str)))
        state = (
            load_checkpoint(self.state_file) if self.resume and self.state_file.exists() else None
        )
        if state is None:
            for path in [self.result, self.state_file, *stale]:
                path.unlink(missing_ok=True)
        done = state["epoch"] if state else 0
        self._keep_metrics(done)
        if self.mirror:
            self.mirror.start(self.dir, self.stem, self._read_args()[self.stem], done)
        return state

    def _keep_metrics(self, epochs: int) -> None:
        """Drop this stem's lines after `epochs`: those epochs will be run again."""
        path = self.dir / "metrics.jsonl"
        kept = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                logged = json.loads(line)
            except json.JSONDecodeError:  # cut short by a kill or a full disk
                continue
            if logged["run"] != self.stem or logged["epoch"] <= epochs:
                kept.append(line + "\n")
        if path.exists():
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

    def finish(self, result: dict) -> None:
        """The result last; then the state is of no more use."""
        write_json(self.result, result)
        self.state_file.unlink(missing_ok=True)
        if self.mirror:
            self.mirror.close()
