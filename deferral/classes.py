"""Which class a label or an answer means, and which class score is of which class."""

from dataclasses import dataclass

import numpy as np

SURE = 4.0  # standard deviations by which labels read from 1 must beat labels read from 0


@dataclass(frozen=True)
class Classes:
    """Names of the classes in the order of their scores, and what each word in the file means."""

    shown: tuple[str, ...]
    index: dict[str, int]  # a word of the file to its class: as labels have it, or a class's name

    def number(self, words: "Words") -> np.ndarray:
        """The class of each word, int64 [N]; -1 for a word that is no class."""
        numbers = [self.index.get(word, -1) for word in words.unique]
        return np.array(numbers, dtype=np.int64)[words.code]

    def answers(self, words: "Words") -> tuple[np.ndarray, np.ndarray, str]:
        """Class of each answer [N], -1 for none; which are missing; and what must be said.

        Missing is "", and -1 where that is no class.
        """
        absent = [word == "" or (word == "-1" and word not in self.index) for word in words.unique]
        missing = np.array(absent)[words.code]
        answer = self.number(words)
        strange = (answer < 0) & ~missing
        if not strange.any():
            return answer, missing, ""
        example = words.unique[words.code[np.flatnonzero(strange)[0]]]
        note = f"{strange.sum()} answers are no class (the first is {example}) and count as wrong"
        return answer, missing, note


@dataclass(frozen=True, eq=False)
class Words:
    """A column as text: its different words, sorted, and which of them is in each row, [N]."""

    unique: list[str]
    code: np.ndarray

    def first(self, word: str) -> int | None:
        """The first row that holds a word."""
        if word not in self.unique:
            return None
        return int(np.flatnonzero(self.code == self.unique.index(word))[0])


def as_words(values: np.ndarray) -> Words:
    """Values [N] or [N, 1] as text: whole numbers without a point, "" for nan."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"a column of labels, answers or names is {values.shape}, not [N]")
    if values.dtype.kind in "fiub":
        different, code = np.unique(values, return_inverse=True)
        texts = [_number_text(value) for value in different]
    else:
        number: dict[str, int] = {}
        rows = [number.setdefault(str(value).strip(), len(number)) for value in values.tolist()]
        texts, code = list(number), np.array(rows, dtype=np.int64)
    unique = sorted(set(texts))
    place = {word: k for k, word in enumerate(unique)}
    return Words(unique, np.array([place[word] for word in texts], dtype=np.int64)[code])


def _number_text(value: np.generic) -> str:
    """The shortest text that is read as the same number, so different numbers stay different."""
    number = value.item()
    if number != number:
        return ""
    return str(int(number)) if abs(number) < 2**63 and number == int(number) else str(value)


def find_classes(
    words: Words, keys: list[str], top: np.ndarray, model: str, name: str
) -> tuple[Classes, str]:
    """What labels mean, where scores have the columns `keys` [K].

    top [N]: the highest score of `model`, which tells whether numbers count from 0 or 1. Labels
    are, the first that fits: keys; numbers 0 to K - 1; numbers 1 to K; K different words, in
    alphabetical order. ValueError where none fits.
    """
    count, unique = len(keys), words.unique
    numbers = [str(k) for k in range(count)]
    from_one = [str(k + 1) for k in range(count)]
    how = {
        "": keys,
        ", numbers from 0 of the classes in the order of their scores": numbers,
        f", 1 to {count}: the first score is of class 1": from_one,
    }
    if len(unique) == count and not all(word.isdecimal() for word in unique):
        words_in_order = ", ".join(unique[:6])
        how[f", scores taken in their alphabetical order ({words_in_order})"] = unique
    for note, names in how.items():
        index = {word: k for k, word in enumerate(names)}
        if len(index) < count or not all(word in index for word in unique):
            continue
        if names == numbers and "0" not in unique:
            labels = np.array([int(word) for word in unique])[words.code]
            as_is, shifted = (top == labels).mean(), (top == labels - 1).mean()
            if shifted - as_is > SURE * np.sqrt((as_is + shifted) / len(labels)):
                index = {word: k for k, word in enumerate(from_one)}
                note = f", read from 1: {model} is right in {shifted:.1%}, and {as_is:.1%} from 0"
        return Classes(tuple(keys), {w: k for k, w in enumerate(keys)} | index), name + note
    row = next(n for n, code in enumerate(words.code) if unique[code] not in keys)
    raise ValueError(
        f"{name} is {unique[words.code[row]]} in row {row} (from 0), but there are scores of "
        f"the {count} classes {', '.join(keys[:6])}{', ...' * (count > 6)}"
    )
