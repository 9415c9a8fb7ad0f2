"""Encodes texts with a WordPiece tokenizer and makes batches of tokens on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.batches import Batch, Steps, augment_generator, rows_in_order, rows_used
from data.text.glue import TextDataset, Texts
from data.text.wordpiece import for_samples, parse

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHUNK = 8192  # texts encoded at a time; the library's result takes kilobytes per text
WINDOW = 50  # batches whose texts are sorted by length together


@dataclass(frozen=True, eq=False)
class TokenPart:
    """The tokens of one split, on the CPU.

    tokens: int32 [N, 2, L]; [:, 0] are token ids, [:, 1] segments: 1 for the second text and the
    [SEP] after it, else 0. Padding at the end has id 0 and segment 0. labels: int64 [N]. index:
    int64 [N], rows of the file.
    """

    tokens: Tensor
    labels: Tensor
    index: Tensor


class TokenDataset(NamedTuple):
    """An encoded `TextDataset`. tokenizer: its JSON. digest: the fingerprint of the texts."""

    name: str
    train: TokenPart
    val: TokenPart
    test: TokenPart
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    tokenizer: str
    digest: str

    def fingerprint(self) -> str:
        """The fingerprint of the texts, which does not depend on the tokenizer."""
        return self.digest

    @property
    def vocab_size(self) -> int:
        """The number of rows of an embedding of these tokens: the highest id plus 1."""
        return max(parse(self.tokenizer, "tokenizer").get_vocab().values()) + 1


def encode(dataset: TextDataset, tokenizer: str, max_length: int) -> TokenDataset:
    """Encodes each sample as [CLS] first [SEP], or [CLS] first [SEP] second [SEP].

    A sample of more than `max_length` tokens is truncated as the tokenizers library does, the
    longest text first. L is the length of the longest sample of all parts after that. The word
    [SEP] within a text is encoded as a word, not as a separator.

    Raises:
        ValueError: `max_length` leaves no room for a token of each text, the tokenizer cannot be
            read or lacks a special token, its [PAD] is not 0, or the tokenizers library is missing
            (one line).
    """
    least = 3 if dataset.train.second is None else 5
    if max_length < least:
        raise ValueError(f"max_length is {max_length}: give {least} or more for {dataset.name}")
    parsed = for_samples(tokenizer, max_length)
    parts = [dataset.train, dataset.val, dataset.test]
    pieces = [list(_pieces(part, parsed)) for part in parts]
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
    """Batches of one `TokenPart`, which is kept on the device; the counterpart of `Batches`.

    As in `Batches`, the order of an epoch depends on (number of texts, seed, epoch) only, and a
    single last text is dropped with `shuffle`. torch's random state is neither read nor changed.
    Batches are as long as their longest text, to save attention over padding.

    With `group_by_length` the texts of `WINDOW` batches at a time, in that order, are sorted by
    length, cut into batches, and all batches of the epoch shuffled; a last, smaller batch stays as
    it is. This too depends on (lengths, batch size, seed, epoch) only.

    Args:
        part: tokens int32 [N, 2, L] and labels int64 [N], on the CPU; moved to `device`.
        batch_size: texts per batch, over all ranks; the last batch may be smaller.
        device: the device of the tokens and the batches.
        shuffle: a new order each epoch, else rows 0..N-1.
        seed: of the order, 0 or more.
        rank, world: if `world` processes share each batch, this one gets rows rank, rank + world,
            ... of it, padded to the longest text of the whole batch.
        fixed_length: pad every batch to length L, for a network compiled for one shape.
        group_by_length: batches of texts of like length; goes with `shuffle`.

    Raises:
        ValueError: an empty part, tokens of another type or shape, or a number out of range.
    """

    augment = None  # texts are not augmented

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
        group_by_length: bool = False,
    ) -> None:
        tokens = part.tokens
        if tokens.dtype != torch.int32 or tokens.ndim != 3 or tokens.shape[1] != 2:
            raise ValueError(
                f"tokens are {tokens.dtype} {list(tokens.shape)}: give torch.int32 [N, 2, L]"
            )
        if tokens.numel() == 0:
            raise ValueError("the part has no texts, so it has no batches")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give 1 or more")
        if seed < 0:
            raise ValueError(f"seed is {seed}: give 0 or more")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank} of {world}: give one from 0 to world - 1")
        if group_by_length and not shuffle:
            raise ValueError("group_by_length goes with shuffle")
        self.device = torch.device(device)
        self.tokens = tokens.to(self.device)
        self.labels = part.labels.to(self.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.group_by_length = group_by_length
        self._share = slice(rank, None, world)
        self._used = rows_used(len(tokens), batch_size, shuffle)
        # Computed on the CPU, so that no batch waits for the device to return its length.
        positions = torch.arange(1, tokens.shape[2] + 1)
        self._lengths = ((tokens[:, 0] != 0) * positions).amax(1).clamp(min=1)
        if fixed_length:
            self._lengths.fill_(tokens.shape[2])

    def epoch(
        self, epoch: int, start: int = 0, augment_state: Tensor | None = None
    ) -> Iterator[Batch]:
        """Yield `(index, tokens, labels)` for this rank's share of the batches from `start` on.

        index: int64 [b], rows of the part. tokens: int64 [b, 2, l], with l the length of the
        longest text in the whole batch. labels: int64 [b]. All on the device.
        """
        order = self.order(epoch)[start * self.batch_size :]
        lengths = self._lengths[order].split(self.batch_size)
        for rows, of_batch in zip(
            order.to(self.device).split(self.batch_size), lengths, strict=True
        ):
            index = self.share(rows)
            tokens = self.tokens[:, :, : int(of_batch.max())].index_select(0, index)
            yield index, tokens.long(), self.labels.index_select(0, index)

    def order(self, epoch: int) -> Tensor:
        """The rows of one epoch in their order, all batches and processes: int64 [rows used]."""
        order = rows_in_order(len(self.labels), self.seed, epoch, self.shuffle)[: self._used]
        full = len(order) // self.batch_size * self.batch_size
        if not self.group_by_length or not full:
            return order
        rows, size = order[:full], self.batch_size
        groups = [
            # Within a batch texts keep their random order: l2w trains on one half at a time.
            window[lengths.argsort(stable=True).view(-1, size).sort(1).values]
            for window, lengths in zip(
                rows.split(WINDOW * size), self._lengths[rows].split(WINDOW * size), strict=True
            )
        ]
        batches = torch.cat(groups)
        # Not the generator of the rows: texts have no augmentation that would draw from this one.
        generator = augment_generator(self.seed, epoch, torch.device("cpu"))
        shuffled = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([shuffled.flatten(), order[full:]])


def _pieces(part: Texts, tokenizer: Tokenizer) -> Iterator[NDArray[np.int32]]:
    """Yield the tokens of `CHUNK` texts at a time, int32 [n, 2, l], l the longest of them."""
    texts = part.first if part.second is None else list(zip(part.first, part.second, strict=True))
    for first in range(0, len(texts), CHUNK):
        encoded = tokenizer.encode_batch(texts[first : first + CHUNK])
        yield np.array([(text.ids, text.type_ids) for text in encoded], dtype=np.int32)
