"""One process a directory, and scripts that end in order: locks, and Ctrl-C."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_held: dict[Path, FileLock] = {}


def lock(directory: str | Path) -> None:
    """Lock a directory for this process until its script ends; creates it if needed.

    The lock is on DIRECTORY/.lock. The system drops it when the process ends, however it ends.
    ValueError where another process holds it.
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
    """Decorates a script's `main`: its locks end with it, and Ctrl-C is one line and status 130."""

    @functools.wraps(main)
    def run(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            message = "error: interrupted; every file is whole, and --resume continues where it can"
            print(message, file=sys.stderr)
            raise SystemExit(130) from None
        finally:
            while _held:
                _held.popitem()[1].release(force=True)

    return run
