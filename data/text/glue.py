"""GLUE (Wang et al., ICLR 2019): its tasks of classification, as texts in memory, from its files.

A task is a folder of GLUE's own layout: train.tsv and dev.tsv, in UTF-8, fields between tabs and
no quoting; MNLI has dev_matched.tsv and dev_mismatched.tsv. Columns are found by their names in the
first line, but for CoLA, whose files have no such line. GLUE keeps the labels of its test sets to
itself, so that here `test` is the dev file, and val is cut from the train file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from data.datasets import count_of, cut, stem

BROKEN_SHARE = 0.01  # of a file's rows: below it, rows that lack fields are left out, as in QQP


class Task(NamedTuple):
    """A task of GLUE, and how its files are read.

    classes: K names, that of label k at k. metrics: out of "accuracy", "f1" (of class 1) and
    "matthews". texts: the columns of the first text and, where there are two, of the second; label:
    that of the label; all by name or, where the files have no header, by place from 0. spelt: what
    stands in the label's column for classes 0..K-1. dev: the file that is `test`.
    """

    name: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    texts: tuple[str, ...] | tuple[int, ...]
    label: str | int
    spelt: tuple[str, ...]
    dev: str = "dev.tsv"

    @property
    def folder(self) -> str:
        """GLUE's name of it."""
        return self.name.removesuffix("-mm")


_NUMBERS = ("0", "1")
_ENTAILS = ("entailment", "not_entailment")  # classes 0 and 1
_RELATIONS = ("contradiction", "entailment", "neutral")  # classes 0, 1 and 2
_NO_LABEL = "-"  # where MNLI's annotators did not agree
_ACCURACY = ("accuracy",)
_BOTH = ("accuracy", "f1")
_SENTENCES = ("sentence1", "sentence2")

TASKS = {
    task.name: task
    for task in (
        Task("CoLA", ("unacceptable", "acceptable"), ("matthews",), (3,), 1, _NUMBERS),
        Task("SST-2", ("negative", "positive"), _ACCURACY, ("sentence",), "label", _NUMBERS),
        Task(
            "MRPC", ("not_equivalent", "equivalent"), _BOTH,
            ("#1 String", "#2 String"), "Quality", _NUMBERS,
        ),
        Task(
            "QQP", ("not_duplicate", "duplicate"), _BOTH,
            ("question1", "question2"), "is_duplicate", _NUMBERS,
        ),
        Task(
            "MNLI", _RELATIONS, _ACCURACY,
            _SENTENCES, "gold_label", _RELATIONS, "dev_matched.tsv",
        ),
        Task(
            "MNLI-mm", _RELATIONS, _ACCURACY,
            _SENTENCES, "gold_label", _RELATIONS, "dev_mismatched.tsv",
        ),
        Task("QNLI", _ENTAILS, _ACCURACY, ("question", "sentence"), "label", _ENTAILS),
        Task("RTE", _ENTAILS, _ACCURACY, _SENTENCES, "label", _ENTAILS),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts of one split.

    first: N texts. second: N texts that go with them, None where a task has one text a sample.
    labels: int64 [N]. index: int64 [N], rows of the file, from 0 and without its header.
    """

    first: list[str]
    second: list[str] | None
    labels: Tensor
    index: Tensor

    def where(self, mask: Tensor) -> Texts:
        """The rows that a bool mask [N] selects, in their order."""
        rows = mask.nonzero().flatten().tolist()
        first = [self.first[row] for row in rows]
        second = None if self.second is None else [self.second[row] for row in rows]
        return Texts(first, second, self.labels[mask], self.index[mask])


class TextDataset(NamedTuple):
    """A task under its file prefix `name`; `classes[k]` is the name of label k."""

    name: str
    train: Texts
    val: Texts
    test: Texts
    classes: tuple[str, ...]
    metrics: tuple[str, ...]

    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of texts and labels: which data a checkpoint belongs to.

        It changes with the cut into parts too, and not with how texts become tokens.
        """
        digest = hashlib.sha256()
        for part in (self.train, self.val, self.test):
            for texts in (part.first, part.second or []):
                # Lengths first: where one text ends and the next begins matters.
                raw = [text.encode() for text in texts]
                digest.update(f"{len(raw)}:{','.join(str(len(r)) for r in raw)}\n".encode())
                digest.update(b"".join(raw))
            digest.update(part.labels.numpy().data)
        return digest.hexdigest()[:16]


def load_glue(
    name: str,
    root: str | os.PathLike[str] = "data_root",
    task: str | None = None,
    val_size: float = 0.1,
    split_seed: int = 0,
) -> TextDataset:
    """Read a task of GLUE, and cut val from its train file.

    Text is kept as it is but for space at its ends. Of MNLI the rows without a gold label are left
    out, and of any file the rows that lack a needed field, if they are below 1 % of it. `test` is
    dev.tsv; for MNLI dev_matched.tsv, for MNLI-mm, of the same folder, dev_mismatched.tsv.

    Args:
        name: a folder, or one below `root`; a task's own name in any spelling (sst2) finds GLUE's
            folder there.
        root: where GLUE's folders are.
        task: one of `TASKS` in any spelling; by default what `name` ends in.
        val_size: samples of val, as a fraction of train in (0, 1) or as a count of 1 or more.
        split_seed: of the cut, 0 or more. The cut is that of `data.load`.

    Raises:
        ValueError: no such folder or task, a file is missing, empty, not UTF-8 or lacks columns or
            fields, a label is not of the task, or val_size leaves train or val empty. One line.
    """
    prefix = stem(name)
    which = _task(prefix if task is None else task, asked=task is not None)
    folder = _folder(name, Path(root), which)
    train, test = _read(folder / "train.tsv", which), _read(folder / which.dev, which)
    total = len(train.labels)
    val = count_of("val_size", val_size, total, "texts")
    (rows,) = cut(total, [val], split_seed)
    return TextDataset(
        prefix, train.where(~rows), train.where(rows), test, which.classes, which.metrics
    )


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _task(name: str, asked: bool) -> Task:
    """The task of that name; `asked`: by whoever calls, and not by a folder's name."""
    known = {_folded(task): task for task in TASKS}
    if _folded(name) in ("stsb", "sts"):
        raise ValueError(
            f"task {name}: a regression, not a classification; give one of {', '.join(TASKS)}"
        )
    if _folded(name) not in known:
        what = "is no task of GLUE" if asked else "is no task's name: say which task it is"
        raise ValueError(f"{name!r} {what}; give one of {', '.join(TASKS)}")
    return TASKS[known[_folded(name)]]


def _folder(name: str, root: Path, task: Task) -> Path:
    places = [Path(name), root / name]
    if _folded(name) == _folded(task.name) and Path(name).name == name:
        places.append(root / task.folder)
    for place in places:
        if place.is_dir():
            return place
    raise ValueError(
        f"no folder {name!r}, nor one in {root}: give GLUE's, with train.tsv and {task.dev}"
    )


def _read(path: Path, task: Task) -> Texts:
    """Texts and labels of one file."""
    lines = _lines(path, task)
    headed = isinstance(task.label, str)
    columns = [*task.texts, task.label]
    if headed:
        columns = _places(lines[0], columns, path, task)
        lines = lines[1:]
    *text_columns, label_column = columns
    number = {text: k for k, text in enumerate(task.spelt)}
    texts: list[list[str]] = [[] for _ in text_columns]
    labels, index, broken = [], [], []
    for row, line in enumerate(lines):
        fields = line.split("\t")
        if len(fields) <= max(columns):
            broken.append(row)
            continue
        label = fields[label_column].strip()
        if label == _NO_LABEL and task.spelt == _RELATIONS:
            continue
        if label not in number:
            raise ValueError(
                f"{path}, line {row + 1 + headed}: label {label[:40]!r} is not of {task.name}: "
                f"give {', '.join(task.spelt)}"
            )
        for kept, column in zip(texts, text_columns, strict=True):
            kept.append(fields[column].strip())
        labels.append(number[label])
        index.append(row)
    if broken and len(broken) / len(lines) >= BROKEN_SHARE:
        raise ValueError(
            f"{path}, line {broken[0] + 1 + headed}: fewer than {max(columns) + 1} fields between "
            f"tabs, as in {len(broken)} of {len(lines)} rows: give {task.name}'s own files"
        )
    if not labels:
        raise ValueError(f"{path} has no labelled rows: give {task.name}'s own files")
    second = texts[1] if len(texts) > 1 else None
    return Texts(texts[0], second, torch.tensor(labels), torch.tensor(index))


def _lines(path: Path, task: Task) -> list[str]:
    """The lines of a file, one or more. Only a newline ends one: text holds other separators."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): {task.name} needs train.tsv and {task.dev}"
        ) from error
    try:
        text = raw.decode("utf-8-sig")  # MRPC's files may begin with a byte order mark
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8: give {task.name}'s own files") from error
    if not text.strip():
        raise ValueError(f"{path} is empty: give {task.name}'s own files")
    return text.rstrip("\r\n").split("\n")


def _places(header: str, columns: Sequence[str], path: Path, task: Task) -> list[int]:
    """Where the columns of these names are."""
    names = [field.strip() for field in header.split("\t")]
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(
            f"{path}, line 1: no column {', '.join(missing)}: {task.name} has "
            f"{', '.join(columns)} in its header"
        )
    return [names.index(column) for column in columns]
