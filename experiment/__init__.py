"""What every script shares: command line, machine, files written whole, and run directories.

torch is imported by the functions that need it: figures and tables do without, and its import
takes longer than they do.
"""

from experiment.command_line import Parser, each_seed, fail, number, one_line_errors, progress
from experiment.files import (
    load_checkpoint,
    save_checkpoint,
    sha256,
    write_bytes,
    write_json,
    write_npz,
)
from experiment.machine import ROOT, commit, hardware, pick_device, seed_everything
from experiment.run import Run

__all__ = [
    "ROOT",
    "Parser",
    "Run",
    "commit",
    "each_seed",
    "fail",
    "hardware",
    "load_checkpoint",
    "number",
    "one_line_errors",
    "pick_device",
    "progress",
    "save_checkpoint",
    "seed_everything",
    "sha256",
    "write_bytes",
    "write_json",
    "write_npz",
]
