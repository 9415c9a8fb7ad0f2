"""Run programs one after the other in one Python, each as if it had been started by itself.

  python -m experiment.in_turn train_localnet.py --save_dir RUN --then -m figures RUN

Starting one costs 4 to 5 s of imports (PyTorch, torchvision, scikit-learn), which a chain of short
programs so pays once. A program that fails ends the chain with its status.
"""

import contextlib
import importlib.util
import os
import runpy
import sys

from experiment.command_line import fail

THEN = "--then"


def split(words: list[str]) -> list[list[str]]:
    """The words of each program: those between one THEN and the next."""
    programs: list[list[str]] = [[]]
    for word in words:
        if word == THEN:
            programs.append([])
        else:
            programs[-1].append(word)
    return programs


def is_there(words: list[str]) -> bool:
    """Whether there is a file, or a module, to run."""
    if words[0] != "-m":
        return os.path.isfile(words[0])
    with contextlib.suppress(ModuleNotFoundError):  # of a package, which is imported to look
        return importlib.util.find_spec(words[1]) is not None
    return False


def run(words: list[str]) -> None:
    """As `python FILE ARGS...` or `python -m MODULE ARGS...`; SystemExit where that fails."""
    before = sys.argv, sys.path[0]
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.path[0], sys.argv = os.path.dirname(os.path.abspath(words[0])), words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.argv, sys.path[0] = before


def main(argv: list[str] | None = None) -> None:
    programs = split(sys.argv[1:] if argv is None else argv)
    for words in programs:
        if not words or words == ["-m"]:
            fail("a program is missing: python -m experiment.in_turn FILE ARGS... --then ...")
        if not is_there(words):
            fail(f"{' '.join(words[:2]) if words[0] == '-m' else words[0]}: no such program")
    for words in programs:
        run(words)


if __name__ == "__main__":
    main()
