"""Reads the classification tasks of GLUE (Wang et al., ICLR 2019) from their files.

A task is a folder in GLUE's layout: train.tsv and dev.tsv (MNLI: dev_matched.tsv and
dev_mismatched.tsv), UTF-8, tab-separated, without quoting. The first line names the columns, except
in CoLA, whose files have no header. GLUE does not publish the labels of its test sets, so `test` is
the dev file here, and val is cut from the train file.
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

from data.cuts import count_of, cut
from data.sources import stem

BROKEN_SHARE = 0.01  # up to this share of incomplete rows is skipped; QQP has some


class Task(NamedTuple):
    """A task of GLUE and the format of its files.

    classes: names of labels 0..K-1. metrics: a choice of "accuracy", "f1" (of class 1) and
    "matthews". texts: column of the first text and, if there is one, of the second. label: column
    of the label. Columns are names or, for files without header, positions from 0. label_texts:
    values of the label column for classes 0..K-1. dev: the file used as `test`.
    """

    name: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    texts: tuple[str, ...] | tuple[int, ...]
    label: str | int
    label_texts: tuple[str, ...]
    dev: str = "dev.tsv"

    @property
    def folder(self) -> str:
        """The name of the task's folder in GLUE."""
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

    first: N texts. second: N second texts, or None if the task has one text per sample.
    labels: int64 [N]. index: int64 [N], rows of the file from 0, not counting the header.
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
    """A task's data; `name` prefixes files, `classes[k]` is the name of label k."""

    name: str
    train: Texts
    val: Texts
    test: Texts
    classes: tuple[str, ...]
    metrics: tuple[str, ...]

    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 of texts and labels, which identifies the data.

        Depends on the cut into parts, but not on the tokenizer.
        """
        digest = hashlib.sha256()
        for part in (self.train, self.val, self.test):
            for texts in (part.first, part.second or []):
                # The lengths fix where one text ends and the next begins.
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
    """Reads a task of GLUE and cuts val from its train file.

    Texts are stripped of surrounding whitespace. Rows of MNLI without a gold label are skipped, and
    so are rows that lack a needed field, if they are less than 1 % of the file. `test` is dev.tsv;
    for MNLI it is dev_matched.tsv, for MNLI-mm (same folder) dev_mismatched.tsv.

    Args:
        name: a folder, a folder below `root`, or the name of a task in any spelling (sst2), whose
            folder is then looked up below `root`.
        root: the folder that contains the folders of the tasks.
        task: one of `TASKS` in any spelling; by default the last part of `name`.
        val_size: size of val, as a fraction of train in (0, 1) or as a count of 1 or more.
        split_seed: of the cut, 0 or more. Cuts as `data.load` does.

    Raises:
        ValueError: no such folder or task, a file is missing, empty, not UTF-8 or lacks columns or
            fields, a label is unknown, or val_size leaves train or val empty (one line).
    """
    prefix = stem(name)
    which = _task(prefix) if task is None else _task(task, given=True)
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


def _task(name: str, given: bool = False) -> Task:
    """The task `name`; `given`: the caller named the task, else the name is that of a folder."""
    names = {_folded(task): task for task in TASKS}
    if _folded(name) in ("stsb", "sts"):
        raise ValueError(f"task {name} is a regression task: give one of {', '.join(TASKS)}")
    if _folded(name) not in names:
        what = "is not a task of GLUE" if given else "is not the name of a task: give --task"
        raise ValueError(f"{name!r} {what}; tasks are {', '.join(TASKS)}")
    return TASKS[names[_folded(name)]]


def _folder(name: str, root: Path, task: Task) -> Path:
    places = [Path(name), root / name]
    if _folded(name) == _folded(task.name) and Path(name).name == name:
        places.append(root / task.folder)
    for place in places:
        if place.is_dir():
            return place
    raise ValueError(
        f"no folder {name!r} here or in {root}: give GLUE's folder with train.tsv and {task.dev}"
    )


def _read(path: Path, task: Task) -> Texts:
    """Reads the texts and labels of one file."""
    lines = _lines(path, task)
    has_header = isinstance(task.label, str)
    columns = [*task.texts, task.label]
    if has_header:
        columns = _positions(lines[0], columns, path, task)
        lines = lines[1:]
    *text_columns, label_column = columns
    number = {text: k for k, text in enumerate(task.label_texts)}
    texts: list[list[str]] = [[] for _ in text_columns]
    labels, index, broken = [], [], []
    for row, line in enumerate(lines):
        fields = line.split("\t")
        if len(fields) <= max(columns):
            broken.append(row)
            continue
        label = fields[label_column].strip()
        if label == _NO_LABEL and task.label_texts == _RELATIONS:
            continue
        if label not in number:
            raise ValueError(
                f"{path}, line {row + 1 + has_header}: unknown label {label[:40]!r}: "
                f"{task.name} has {', '.join(task.label_texts)}"
            )
        for column_texts, column in zip(texts, text_columns, strict=True):
            column_texts.append(fields[column].strip())
        labels.append(number[label])
        index.append(row)
    if broken and len(broken) / len(lines) >= BROKEN_SHARE:
        raise ValueError(
            f"{path}, line {broken[0] + 1 + has_header}: fewer than {max(columns) + 1} "
            f"tab-separated fields, as in {len(broken)} of {len(lines)} rows: give "
            f"GLUE's files of {task.name}"
        )
    if not labels:
        raise ValueError(f"{path} has no labelled rows: give GLUE's files of {task.name}")
    second = texts[1] if len(texts) > 1 else None
    return Texts(texts[0], second, torch.tensor(labels), torch.tensor(index))


def _lines(path: Path, task: Task) -> list[str]:
    """The lines of a non-empty file, split at newlines only: texts hold other separators."""
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
        raise ValueError(
            f"{path}, line {line}: not UTF-8: give GLUE's files of {task.name}"
        ) from error
    if not text.strip():
        raise ValueError(f"{path} is empty: give GLUE's files of {task.name}")
    return text.rstrip("\r\n").split("\n")


def _positions(header: str, columns: Sequence[str], path: Path, task: Task) -> list[int]:
    """The positions of the named columns."""
    names = [field.strip() for field in header.split("\t")]
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(
            f"{path}, line 1: no column {', '.join(missing)}: {task.name} has "
            f"{', '.join(columns)} in its header"
        )
    return [names.index(column) for column in columns]
