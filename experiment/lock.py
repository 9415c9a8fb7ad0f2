"""Locks, so that one process at a time writes to a directory, and how a script ends early."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from experiment.command_line import InputError, fail, worker_died

_held: dict[Path, FileLock] = {}


def lock(directory: str | Path) -> None:
    """Lock a directory for this process until its script ends; creates it if needed.

    The lock is on DIRECTORY/.lock. The system releases it when the process ends, even if killed.
    ValueError if another process holds it or the directory cannot be written.
    """
    path = Path(directory).resolve() / ".lock"
    if path in _held:
        return
    file_lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock.acquire(blocking=False)
    except OSError as e:  # Timeout is one too
        if not isinstance(e, Timeout):
            raise ValueError(f"{directory}: cannot be written ({e.strerror})") from None
        raise ValueError(
            f"{directory}: another process is writing to this directory; wait for it, or use "
            "another one"
        ) from None
    _held[path] = file_lock


def script(main: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a script's `main`: release locks at the end.

    An InputError and a data loader's process that died are one line and status 2, Ctrl-C is one
    line and status 130.
    """

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return main(*args, **kwargs)
        except InputError as error:
            fail(str(error))
        except RuntimeError as error:
            # torch raises this from a signal handler, wherever the script is just then.
            if not str(error).startswith("DataLoader worker"):
                raise
            fail(worker_died(error))
        except KeyboardInterrupt:
            message = "error: interrupted; every file is whole, and --resume continues where it can"
            print(message, file=sys.stderr)
            raise SystemExit(130) from None
        finally:
            while _held:
                _held.popitem()[1].release(force=True)

    return run
