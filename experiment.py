"""What every script shares: command line, seeds, devices, and a run directory written whole.

A run directory holds, per run, named by its stem (`digits-edgenet`, say):

    args.json            {stem: what was asked, commit, versions, hardware}; written first
    metrics.jsonl        a line an epoch and stem
    STEM-state.pth       what `--resume` needs; written after every epoch, gone when the run ends
    STEM.json            the result; written last: where it is, the run is complete
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import pickle
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent
# What may differ between the two halves of a resumed run without changing its weights.
FREE_TO_CHANGE = {"resume", "overwrite", "device", "data_root", "save_dir", "local_path", "dataset"}


def fail(message: str) -> NoReturn:
    """Say in one line what is wrong and leave with status 2, as argparse does."""
    print("error:", " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Around the part of a script that reads input: its ValueError and OSError are the user's."""
    try:
        yield
    except OSError as e:
        fail(f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e))
    except ValueError as e:
        fail(str(e))


class Parser(argparse.ArgumentParser):
    """argparse with defaults in `--help`, the docstring as it is, and errors of one line."""

    def __init__(self, doc: str):
        class Formatter(
            argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
        ):
            pass

        super().__init__(description=doc, formatter_class=Formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        fail(f"{message} ({self.prog} --help lists the flags)")

    def add_common(self, seed: int) -> None:
        """The flags that every script has."""
        group = self.add_argument_group("common")
        group.add_argument("--data_root", default="data_root", help="where data sets are kept")
        group.add_argument("--device", default="best", help="cuda, cuda:1, mps, cpu or best")
        group.add_argument(
            "--seed", type=number(int, 0), default=seed, help="of all random numbers"
        )
        again = group.add_mutually_exclusive_group()
        again.add_argument("--overwrite", action="store_true", help="replace a run that is there")
        again.add_argument("--resume", action="store_true", help="continue a killed run")


def number(kind: type, low: float, high: float = float("inf"), *, above: bool = False):
    """An argparse type: a finite `kind` in [low, high], or in (low, high] with `above`."""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number ({kind.__name__})"
            ) from None
        if not (low < value if above else low <= value) or value > high or abs(value) == np.inf:
            bounds = f"{'above' if above else 'at least'} {low:g}"
            bounds += f" and at most {high:g}" if high < np.inf else ""
            raise argparse.ArgumentTypeError(f"{text} must be finite, {bounds}")
        return value

    return parse


def pick_device(name: str) -> torch.device:
    """`best` is cuda, else mps, else cpu. ValueError for a device that is not here."""
    if name == "best":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(f"--device {name}: not on this machine; try --device cpu") from None
    return device


def seed_everything(seed: int, epoch: int = 0) -> None:
    """Random numbers of an epoch depend on (seed, epoch) alone, so a resumed run draws the same."""
    torch.manual_seed((seed * 1_000_003 + epoch) % 2**63)


def hardware(device: torch.device) -> str:
    """The device in words, as results name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    return f"{cpu}, {torch.get_num_threads()} threads" + (", mps" if device.type == "mps" else "")


def commit() -> tuple[str, bool]:
    """The repository's commit and whether tracked files differ from it ('unknown' without git)."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "-q", "--verify", "HEAD"], capture_output=True, text=True
        )
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    except OSError:
        return "unknown", True
    return head.stdout.strip() or "unknown", bool(dirty.stdout.strip()) or head.returncode != 0


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a full disk leaves what was there and ends the run."""
    beside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            beside.unlink()
        fail(f"{path}: cannot be written ({e.strerror}); files written before it are whole")


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def save_checkpoint(path: Path, checkpoint: dict) -> str:
    """Tensors, numbers and strings to a file; returns its SHA-256 (equal content, equal hash)."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_bytes(path, buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def load_checkpoint(path: str | Path, digest: str | None = None) -> dict:
    """A checkpoint on the CPU. FileNotFoundError; ValueError if it is none or not `digest`."""
    if digest is not None and sha256(path) != digest:
        raise ValueError(f"{path}: is not the file that the checkpoint was trained with (SHA-256)")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, AttributeError, ValueError):
        raise ValueError(f"{path}: not a checkpoint of tensors, numbers and strings") from None
    if not isinstance(checkpoint, dict) or not all(isinstance(k, str) for k in checkpoint):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a state dict")
    return checkpoint


def sha256(path: str | Path) -> str:
    with open(path, "rb") as f:
        return (
            hashlib.file_digest(f, "sha256").hexdigest()
            if sys.version_info >= (3, 11)
            else (hashlib.sha256(f.read()).hexdigest())
        )


def progress(steps, total: int, label: str):
    """A bar on a terminal, nothing in a log."""
    return tqdm(steps, total=total, desc=label, leave=False, disable=None, dynamic_ncols=True)


class Run:
    """One run in a directory. Making it only looks; `start` is the first thing that writes."""

    def __init__(self, save_dir: str | Path, stem: str, args: argparse.Namespace):
        self.dir, self.stem = Path(save_dir), stem
        self.args, self.resume = vars(args).copy(), args.resume
        self.result = self.dir / f"{stem}.json"
        self.state_file = self.dir / f"{stem}-state.pth"
        self.complete = args.resume and self.result.exists()
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

    def start(self, device: torch.device, stale: list[Path] = ()) -> dict | None:
        """Write args.json, remove what `--overwrite` replaces; returns the state to resume from."""
        all_args = self._read_args()
        head, dirty = commit()
        all_args[self.stem] = {
            "args": self.args,
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
        self._keep_metrics(state["epoch"] if state else 0)
        return state

    def _keep_metrics(self, epochs: int) -> None:
        """Drop this stem's lines after `epochs`: those epochs will be run again."""
        path = self.dir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [
            x for x in lines if (y := json.loads(x))["run"] != self.stem or y["epoch"] <= epochs
        ]
        if lines:
            write_bytes(path, "".join(x + "\n" for x in kept).encode())

    def end_epoch(self, epoch: int, epochs: int, seconds: float, state: dict, **metrics) -> None:
        """After an epoch, counted from 1: a line in the log, then the state to resume from."""
        for name, value in metrics.items():
            if not np.isfinite(value):
                fail(f"{name} is {value} in epoch {epoch}: training diverged; lower the --lr")
        line = {"run": self.stem, "epoch": epoch, **metrics, "seconds": round(seconds, 3)}
        try:
            with open(self.dir / "metrics.jsonl", "a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as e:
            fail(f"{self.dir}/metrics.jsonl: cannot be written ({e.strerror}); --resume goes on")
        save_checkpoint(self.state_file, state | {"epoch": epoch})
        left = time.strftime("%H:%M:%S", time.gmtime(seconds * (epochs - epoch)))
        values = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        print(
            f"{self.stem}  epoch {epoch}/{epochs}  {values}  {seconds:.1f} s  {left} left",
            flush=True,
        )

    def finish(self, result: dict) -> None:
        """The result last; then the state is of no more use."""
        write_json(self.result, result)
        self.state_file.unlink(missing_ok=True)
