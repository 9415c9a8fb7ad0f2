"""WordPiece tokenizers (Wu et al., 2016; as in BERT), learnt from texts or read from a folder.

A tokenizer is the JSON text that the tokenizers library writes: a checkpoint can hold it. The
library is optional (requirements-nlp.txt) and imported when it is needed, as is transformers.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4 where we learn them
ALPHABET = 1000  # characters of a learnt vocabulary, at most; the library's default for BERT
TWICE = 2  # times that a piece must occur to be learnt


def learn_tokenizer(texts: Iterable[str], vocab_size: int) -> str:
    """A lower-casing WordPiece tokenizer with a vocabulary learnt from `texts`, as JSON.

    Words are lower-cased, freed of accents and cut at space and punctuation, as by BERT's uncased
    models. The vocabulary: `SPECIAL`; the most frequent characters, up to `ALPHABET` and to what
    half of it holds, each as the start and as the continuation (##) of a word; then the most
    frequent pieces that merge two others, until it has `vocab_size` entries or no piece occurs
    `TWICE`. A word with another character is [UNK].

    The same texts give the same tokenizer. The library alone does not see to that: it numbers the
    continuations in the order of a hash table, and decides between equally frequent merges by these
    numbers. So they are numbered here.

    Raises:
        ValueError: no texts with characters, `vocab_size` too small for one, or no tokenizers
            library. One line.
    """
    library = _library("tokenizers")
    if vocab_size < len(SPECIAL) + 2:
        raise ValueError(f"vocab_size is {vocab_size}: give {len(SPECIAL) + 2} or more")
    texts = list(texts)
    tokenizer = _wordpiece({})
    most = min(ALPHABET, (vocab_size - len(SPECIAL)) // 2)
    alphabet = _alphabet(texts, tokenizer, most)
    if not alphabet:
        raise ValueError("the texts have no characters to learn a vocabulary from: give others")
    # Punctuation and Chinese characters are words of their own: they continue none.
    inside = [c for c in alphabet if len(_words(f"a{c}", tokenizer)) == 1]
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=TWICE,
        show_progress=False,
        special_tokens=[*SPECIAL, *(f"##{c}" for c in inside)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Anew, since to the trained one the continuations are special tokens.
    return _wordpiece(tokenizer.get_vocab()).to_str()


def read_tokenizer(folder: str | Path) -> str:
    """The tokenizer of a folder as transformers saves it, as JSON. Nothing is downloaded.

    It is tokenizer.json or, where there is none, a BERT tokenizer of vocab.txt with the settings of
    tokenizer_config.json, if there is one.

    Raises:
        ValueError: neither file is there, one cannot be read, a special token is missing, [PAD] is
            not 0, or the libraries are not installed. One line.
    """
    saved, vocabulary = Path(folder) / "tokenizer.json", Path(folder) / "vocab.txt"
    if saved.is_file():
        return parse(saved.read_text(encoding="utf-8", errors="replace"), str(saved)).to_str()
    if not vocabulary.is_file():
        raise ValueError(f"no tokenizer.json and no vocab.txt in {folder}: give a folder with one")
    library = _library("transformers")
    try:
        theirs = library.BertTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of a damaged file nearly any
        raise ValueError(
            f"{vocabulary}, with its tokenizer_config.json, cannot be read ({_brief(error)}): copy "
            "both again"
        ) from error
    return parse(theirs.backend_tokenizer.to_str(), str(vocabulary)).to_str()


def _library(name: str) -> ModuleType:
    """An optional library, imported when a text is to be read. ValueError where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"the {name} library is not installed: pip install -r requirements-nlp.txt"
        ) from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:100]


def _wordpiece(vocabulary: dict[str, int]) -> Tokenizer:
    """BERT's uncased tokenizer over a vocabulary."""
    library = _library("tokenizers")
    tokenizer = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece()
    tokenizer.add_special_tokens([token for token in SPECIAL if token in vocabulary])
    return tokenizer


def _alphabet(texts: list[str], tokenizer: Tokenizer, limit: int) -> list[str]:
    """The `limit` most frequent characters of normalised texts, sorted."""
    counts: Counter[str] = Counter()
    # What BERT's normaliser makes of a character does not depend on those around it.
    for raw, count in Counter(chain.from_iterable(texts)).items():
        for character in tokenizer.normalizer.normalize_str(raw):
            if not character.isspace():
                counts[character] += count
    return sorted(sorted(counts, key=lambda c: (-counts[c], c))[:limit])


def _words(text: str, tokenizer: Tokenizer) -> list[str]:
    normal = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


def parse(tokenizer: str, where: str) -> Tokenizer:
    """The tokenizer of a JSON text, checked; it cuts and pads nothing, and has no special words.

    A text that holds "[SEP]" or "[PAD]" has these letters in it, not separators and padding.
    ValueError as `read_tokenizer`, with `where` the JSON is from.
    """
    library = _library("tokenizers")
    try:
        parsed = library.Tokenizer.from_str(tokenizer)
    except Exception as error:  # which is what the library raises
        raise ValueError(
            f"{where}: not a tokenizer in JSON ({_brief(error)}): save it again"
        ) from error
    missing = [token for token in SPECIAL[:4] if parsed.token_to_id(token) is None]
    if missing:
        raise ValueError(f"{where}: has no token {', '.join(missing)}: give a BERT's tokenizer")
    if parsed.token_to_id("[PAD]") != 0:
        raise ValueError(
            f"{where}: [PAD] is token {parsed.token_to_id('[PAD]')}: give a tokenizer in which it "
            "is 0, which networks here take for padding"
        )
    parsed.no_truncation()
    parsed.no_padding()
    parsed.encode_special_tokens = True
    return parsed


def for_samples(tokenizer: str, max_length: int) -> Tokenizer:
    """The tokenizer of a JSON text that joins one or two texts as BERT does, truncates and pads.

    Samples have at most `max_length` tokens and are as long as the longest of their call.
    ValueError as `parse`.
    """
    parsed = parse(tokenizer, "tokenizer")
    ends = [(token, parsed.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    parsed.post_processor = _library("tokenizers").processors.BertProcessing(*ends)
    parsed.enable_truncation(max_length)
    parsed.enable_padding()
    return parsed
