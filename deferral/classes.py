"""Which class a label or an answer means, and which class score is of which class."""

from dataclasses import dataclass

import numpy as np

SURE = 4.0  # standard deviations by which labels read from 1 must beat labels read from 0


@dataclass(frozen=True)
class Classes:
    """Names of the classes in the order of their scores, and what each word in the file means."""

    shown: tuple[str, ...]
    index: dict[str, int]  # a word of the file to its class: as labels have it, or a class's name

    def number(self, words: np.ndarray) -> np.ndarray:
        """The class of each word, int64 [N]; -1 for a word that is no class."""
        unique, where = np.unique(words, return_inverse=True)
        return np.array([self.index.get(word, -1) for word in unique], dtype=np.int64)[where]

    def answers(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """Class of each answer [N], -1 for none; which are missing; and what must be said.

        Missing is "", and -1 where that is no class.
        """
        missing = (words == "") | ((words == "-1") & ("-1" not in self.index))
        answer = self.number(words)
        strange = (answer < 0) & ~missing
        if not strange.any():
            return answer, missing, ""
        example = words[np.flatnonzero(strange)[0]]
        return (
            answer,
            missing,
            (f"{strange.sum()} answers are no class (the first is {example}) and count as wrong"),
        )


def find_classes(
    words: np.ndarray, keys: list[str], shown: list[str], top: np.ndarray, model: str, name: str
) -> tuple[Classes, str]:
    """What the labels `words` [N] mean, where scores have the columns `keys` [K].

    shown [K]: names of the classes; top [N]: the highest score of `model`, which tells whether
    numbers count from 0 or 1. Labels are, the first that fits: keys; names; numbers 0 to K - 1;
    numbers 1 to K; K different words, in alphabetical order. ValueError where none fits.
    """
    count, unique = len(keys), np.unique(words)
    if len(shown) != count:
        raise ValueError(f"classes are {len(shown)}, but there are scores of {count}")
    numbers = [str(k) for k in range(count)]
    from_one = [str(k + 1) for k in range(count)]
    how = {
        "": keys,
        ", by class name": shown,
        ", numbers from 0 of the classes in the order of their scores": numbers,
        f", 1 to {count}: the first score is of class 1": from_one,
    }
    if len(unique) == count and not all(word.isdecimal() for word in unique):
        words_in_order = ", ".join(unique[:6])
        how[f", scores taken in their alphabetical order ({words_in_order})"] = unique.tolist()
    for note, names in how.items():
        index = {word: k for k, word in enumerate(names)}
        if len(index) < count or not all(word in index for word in unique):
            continue
        if names == numbers and "0" not in unique:
            labels = words.astype(np.int64)
            as_is, shifted = (top == labels).mean(), (top == labels - 1).mean()
            if shifted - as_is > SURE * np.sqrt((as_is + shifted) / len(words)):
                index = {word: k for k, word in enumerate(from_one)}
                note = f", read from 1: {model} is right in {shifted:.1%}, and {as_is:.1%} from 0"
        names_too = {word: k for k, word in enumerate(shown)} | {w: k for k, w in enumerate(keys)}
        return Classes(tuple(shown), names_too | index), name + note
    row = int(np.flatnonzero(~np.isin(words, keys))[0])
    raise ValueError(
        f"{name} is {words[row]} in row {row} (from 0), but there are scores of the {count} "
        f"classes {', '.join(keys[:6])}{', ...' * (count > 6)}"
    )


def as_text(values: np.ndarray) -> np.ndarray:
    """Values [N] or [N, 1] as text: whole numbers without a point, "" for nan."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"a column of labels, answers or names is {values.shape}, not [N]")
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.dtype.kind == "f":
        unique, where = np.unique(values, return_inverse=True)
        words = [
            "" if np.isnan(v) else f"{int(v)}" if np.isfinite(v) and v == int(v) else f"{v:g}"
            for v in unique
        ]
        return np.array(words)[where]
    return np.char.strip(values.astype(str))
