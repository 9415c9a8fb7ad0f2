"""Shared by every script: command line, machine, atomic file writes and run directories.

Functions that need torch import it themselves: figures and tables do not need it, and importing it
takes longer than they do.
"""

from experiment.command_line import (
    InputError,
    Parser,
    each_seed,
    fail,
    number,
    one_line_errors,
    progress,
)
from experiment.files import (
    checkpoint_bytes,
    load_checkpoint,
    read_json,
    read_npz,
    save_checkpoint,
    sha256,
    write_bytes,
    write_json,
    write_npz,
)
from experiment.lock import lock, script
from experiment.machine import (
    ROOT,
    commit,
    commit_with_changes,
    hardware,
    pick_device,
    random_state,
    seed_everything,
    set_random_state,
)
from experiment.paths import PREDICTIONS, RunPaths
from experiment.portable import portable
from experiment.records import read_args
from experiment.run import Run
