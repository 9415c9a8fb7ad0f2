"""Texts to tokens by a WordPiece tokenizer, and tokens to batches on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.batches import Batch, Steps, rows_in_order, rows_used
from data.text.glue import TextDataset, Texts
from data.text.wordpiece import learn_tokenizer, parse, read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "TokenBatches",
    "TokenDataset",
    "TokenPart",
    "encode",
    "learn_tokenizer",
    "read_tokenizer",
]

CHUNK = 8192  # texts that are encoded at a time: what the library says of each takes kilobytes


@dataclass(frozen=True, eq=False)
class TokenPart:
    """Texts of one split as tokens, on the CPU.

    tokens: int32 [N, 2, L]; [:, 0] token ids, [:, 1] segments: 1 for the second text and the [SEP]
    after it, else 0. Padded at the end, with id 0 and segment 0. labels: int64 [N]. index: int64
    [N], rows of the file.
    """

    tokens: Tensor
    labels: Tensor
    index: Tensor


class TokenDataset(NamedTuple):
    """A `TextDataset` in tokens. tokenizer: its JSON. digest: the fingerprint of the texts."""

    name: str
    train: TokenPart
    val: TokenPart
    test: TokenPart
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    tokenizer: str
    digest: str

    def fingerprint(self) -> str:
        """That of the texts: other tokens of the same texts are the same data."""
        return self.digest

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding of these tokens needs: the highest id that there is, plus 1."""
        return max(parse(self.tokenizer, "tokenizer").get_vocab().values()) + 1


def encode(dataset: TextDataset, tokenizer: str, max_length: int) -> TokenDataset:
    """Every text of a data set as [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    What is longer than `max_length` tokens is cut: the longer text loses its end until both fit,
    and the second where they are equally long. L is the length of the longest sample of all parts
    after that. A text that holds the word [SEP] has that word and no separator.

    Raises:
        ValueError: `max_length` leaves no room for a token of each text, the tokenizer cannot be
            read or lacks a special token, its [PAD] is not 0, or no tokenizers library. One line.
    """
    least = 3 if dataset.train.second is None else 5
    if max_length < least:
        raise ValueError(f"max_length is {max_length}: give {least} or more for {dataset.name}")
    parsed = parse(tokenizer, "tokenizer")
    parts = [dataset.train, dataset.val, dataset.test]
    pieces = [list(_pieces(part, parsed, max_length)) for part in parts]
    longest = max(piece.shape[2] for piece in chain(*pieces))
    encoded = []
    for part, of_part in zip(parts, pieces, strict=True):
        tokens = torch.zeros((len(part.labels), 2, longest), dtype=torch.int32)
        first = 0
        for piece in of_part:
            tokens[first : first + len(piece), :, : piece.shape[2]] = torch.from_numpy(piece)
            first += len(piece)
        encoded.append(TokenPart(tokens, part.labels, part.index))
    train, val, test = encoded
    return TokenDataset(
        dataset.name, train, val, test, dataset.classes, dataset.metrics, tokenizer,
        dataset.fingerprint(),
    )  # fmt: skip


class TokenBatches(Steps):
    """Batches of one `TokenPart` that lives on the device: what `Batches` is to images.

    The order of an epoch is that of `Batches`: a function of (number of texts, seed, epoch) alone,
    and a lone last text is dropped with `shuffle`. torch's random state is neither read nor
    changed. Batches are as long as their longest text: attention over padding is work for nothing.

    Args:
        part: tokens int32 [N, 2, L] and labels int64 [N], on the CPU; moved to `device`.
        batch_size: texts a batch, those of all ranks together; the last may be smaller.
        device: where the tokens are kept and the batches appear.
        shuffle: a new order each epoch, else rows 0..N-1.
        seed: of the order, 0 or more.
        rank, world: of several processes that share each batch, this one gets rows rank,
            rank + world, ... of it, as long as the longest of all of it.
        fixed_length: every batch has length L, for a network compiled for one shape.

    Raises:
        ValueError: an empty part, tokens of another type or shape, or a number out of range.
    """

    augment = None  # texts are given as they are

    def __init__(
        self,
        part: TokenPart,
        batch_size: int,
        device: torch.device | str,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        fixed_length: bool = False,
    ) -> None:
        tokens = part.tokens
        if tokens.dtype != torch.int32 or tokens.ndim != 3 or tokens.shape[1] != 2:
            raise ValueError(
                f"tokens are {tokens.dtype} {list(tokens.shape)}: give torch.int32 [N, 2, L]"
            )
        if tokens.numel() == 0:
            raise ValueError("the part has no texts: there is nothing to make batches of")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give 1 or more")
        if seed < 0:
            raise ValueError(f"seed is {seed}: give 0 or more")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank} of {world}: give one from 0 to world - 1")
        self.device = torch.device(device)
        self.tokens = tokens.to(self.device)
        self.labels = part.labels.to(self.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self._share = slice(rank, None, world)
        self._used = rows_used(len(tokens), batch_size, shuffle)
        # Known on the CPU, so that no batch waits for the device to say how long it is.
        places = torch.arange(1, tokens.shape[2] + 1)
        self._lengths = ((tokens[:, 0] != 0) * places).amax(1).clamp(min=1)
        if fixed_length:
            self._lengths.fill_(tokens.shape[2])

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield `(index, tokens, labels)` for each batch of one epoch, this rank's share b of it.

        index: int64 [b], rows of the part. tokens: int64 [b, 2, l], l the longest text of the whole
        batch. labels: int64 [b]. All on the device.
        """
        order = rows_in_order(len(self.labels), self.seed, epoch, self.shuffle)[: self._used]
        lengths = self._lengths[order].split(self.batch_size)
        for rows, of_batch in zip(
            order.to(self.device).split(self.batch_size), lengths, strict=True
        ):
            index = rows[self._share]
            tokens = self.tokens[:, :, : int(of_batch.max())].index_select(0, index)
            yield index, tokens.long(), self.labels.index_select(0, index)


def _pieces(part: Texts, tokenizer: Tokenizer, max_length: int) -> Iterator[NDArray[np.int32]]:
    """The tokens of `CHUNK` texts after the other, int32 [n, 2, l], l the longest of them."""
    for first in range(0, len(part.first), CHUNK):
        rows = slice(first, first + CHUNK)
        second = None if part.second is None else part.second[rows]
        yield _piece(part.first[rows], second, tokenizer, max_length)


def _piece(
    first: list[str], second: list[str] | None, tokenizer: Tokenizer, max_length: int
) -> NDArray[np.int32]:
    ids_a, lengths_a = _ids(first, tokenizer)
    if second is None:
        kept_a = np.minimum(lengths_a, max_length - 2)
        total = kept_a + 2
    else:
        ids_b, lengths_b = _ids(second, tokenizer)
        room = max_length - 3
        # Each has half of the room, the first the odd token, and what the other leaves.
        kept_a = np.minimum(lengths_a, np.maximum(room - lengths_b, room - room // 2))
        kept_b = np.minimum(lengths_b, np.maximum(room - lengths_a, room // 2))
        total = kept_a + kept_b + 3
    tokens = np.zeros((len(first), 2, total.max()), dtype=np.int32)
    places, rows = np.arange(tokens.shape[2]), np.arange(len(first))
    separator = tokenizer.token_to_id("[SEP]")
    tokens[:, 0, 0] = tokenizer.token_to_id("[CLS]")
    _put(tokens, ids_a, lengths_a, kept_a, np.ones_like(kept_a))
    tokens[rows, 0, kept_a + 1] = separator
    if second is not None:
        _put(tokens, ids_b, lengths_b, kept_b, kept_a + 2)
        tokens[rows, 0, total - 1] = separator
        tokens[:, 1] = (places >= kept_a[:, None] + 2) & (places < total[:, None])
    return tokens


def _ids(texts: list[str], tokenizer: Tokenizer) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Token ids of all texts in a row, and how many are of each: [sum], [N]."""
    ids = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return (
        np.fromiter(chain.from_iterable(ids), dtype=np.int32),
        np.array([len(i) for i in ids], dtype=np.int64),
    )


def _put(
    tokens: NDArray[np.int32],
    ids: NDArray[np.int32],
    lengths: NDArray[np.int64],
    kept: NDArray[np.int64],
    start: NDArray[np.int64],
) -> None:
    """Write the first kept[n] of the lengths[n] ids of text n from place start[n] on."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(ids)) - np.repeat(lengths.cumsum() - lengths, lengths)
    here = places < kept[rows]
    tokens[rows[here], 0, (start[rows] + places)[here]] = ids[here]
