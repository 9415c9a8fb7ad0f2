"""Tokens against transformers' own tokenizer and a slow loop; batches of texts."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import data
from data.text.glue import TextDataset, Texts
from data.text.tokens import TokenBatches, TokenPart, encode
from data.text.wordpiece import SPECIAL, learn_tokenizer, parse, read_tokenizer
from tests.made import one_line_error

tokenizers = pytest.importorskip("tokenizers")

TEXT = "the cat sat on a mat, and the dogs! ran naïvely 中文 far away from Running unrunnable"
WORDS = TEXT.split()


def sentences(count, longest=9, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(high):
        return int(torch.randint(high, (), generator=generator))

    def sentence():
        return " ".join(WORDS[draw(len(WORDS))] for _ in range(draw(longest + 1)))

    return [sentence() for _ in range(count)]


@pytest.fixture(scope="module")
def learnt():
    return learn_tokenizer(sentences(200), 90)


def texts_of(counts=(12, 5, 7), pairs=True, longest=9):
    parts = [
        Texts(
            sentences(n, longest, seed=k),
            sentences(n, longest, seed=10 + k) if pairs else None,
            torch.arange(n) % 2,
            torch.arange(n) + 100 * k,
        )
        for k, n in enumerate(counts)
    ]
    return TextDataset("task", *parts, ("no", "yes"), ("accuracy",))


def one_line(message, function, *args):
    with one_line_error(message):
        function(*args)


# Vocabularies.


def test_a_learnt_vocabulary(learnt):
    tokenizer = parse(learnt, "here")
    ids = tokenizer.get_vocab()
    assert [tokenizer.id_to_token(k) for k in range(5)] == list(SPECIAL)
    assert sorted(ids.values()) == list(range(90))
    tokens = tokenizer.encode("The CAT, naïvely: 中文 runn zebra", add_special_tokens=False).tokens
    assert tokens[:4] == ["the", "cat", ",", "naively"]
    assert tokens[4:6] == ["[UNK]", "中"]  # a colon and a z are in no text
    assert tokens[-1] == "[UNK]"
    assert "".join(t.removeprefix("##") for t in tokens[7:-1]) == "runn"
    assert all(token == token.lower() for token in ids if token not in SPECIAL)


def test_frequent_words_are_whole():
    ids = parse(learn_tokenizer(["banana apple banana"] * 5 + ["rare"], 300), "here").get_vocab()
    assert {"banana", "apple"} <= ids.keys()
    assert "rare" not in ids  # it occurs once
    assert {"r", "##a", "##r", "##e"} <= ids.keys()
    assert len(ids) < 40  # there is no more to learn


@pytest.mark.parametrize("size", [7, 8, 20, 45])
def test_a_vocabulary_is_never_too_large(size):
    """Characters leave room for each other: the most frequent stay, and others are unknown."""
    tokenizer = parse(learn_tokenizer(["aaa ab abc"] * 3 + sentences(50), size), "here")
    ids = tokenizer.get_vocab()
    assert max(ids.values()) < size
    kept = [token for token in ids if len(token) == 1]
    assert 1 <= len(kept) <= (size - 5) // 2
    assert "a" in kept


def test_a_vocabulary_depends_on_the_texts_only():
    """Not on the order that hash tables have, each its own; many merges are equally frequent."""
    texts = [" ".join(WORDS[k:]) for k in range(9)]
    for size in (30, 60, 200):
        assert len({learn_tokenizer(iter(texts), size) for _ in range(6)}) == 1


def test_impossible_vocabularies():
    one_line("vocab_size is 6: give 7 or more", learn_tokenizer, ["a b"], 6)
    for texts in ([], ["", "  "]):
        one_line("no characters to learn", learn_tokenizer, texts, 50)


def test_without_the_library(monkeypatch, learnt):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    one_line("pip install -r requirements-nlp.txt", learn_tokenizer, ["a"], 50)
    one_line("pip install -r requirements-nlp.txt", encode, texts_of(), learnt, 9)


# Folders.


def write_vocabulary(folder, learnt, **config):
    ids = parse(learnt, "here").get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(ids, key=ids.get)) + "\n", encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def tokens_of(tokenizer, text):
    return parse(tokenizer, "here").encode(text, add_special_tokens=False).tokens


def test_a_folder_with_a_vocabulary(tmp_path, learnt):
    folder = write_vocabulary(tmp_path, learnt)
    for text in sentences(20):
        assert tokens_of(read_tokenizer(folder), text) == tokens_of(learnt, text)
    write_vocabulary(tmp_path, learnt, do_lower_case=False, tokenize_chinese_chars=False)
    assert tokens_of(read_tokenizer(folder), "The the 中文")[::2] == ["[UNK]", "[UNK]"]
    write_vocabulary(tmp_path, learnt, strip_accents=False)
    assert tokens_of(read_tokenizer(folder), "THE naïvely") == ["the", "[UNK]"]


def test_a_folder_that_transformers_saved(tmp_path, learnt):
    transformers = pytest.importorskip("transformers")
    folder = write_vocabulary(tmp_path, learnt)
    theirs = transformers.BertTokenizerFast.from_pretrained(folder)
    theirs.save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    assert (folder / "tokenizer.json").is_file()
    dataset = encode(texts_of((3, 9, 1)), read_tokenizer(folder), 200)
    for part, raw in zip(dataset[1:4], texts_of((3, 9, 1))[1:4], strict=True):
        expected = theirs(
            raw.first, raw.second, padding="max_length", max_length=part.tokens.shape[2]
        )
        assert part.tokens[:, 0].tolist() == expected["input_ids"]
        assert part.tokens[:, 1].tolist() == expected["token_type_ids"]


def test_bad_folders(tmp_path, learnt):
    one_line("no tokenizer.json and no vocab.txt in", read_tokenizer, tmp_path)
    (tmp_path / "vocab.txt").write_text("the\ncat\n")
    one_line("vocab.txt", read_tokenizer, tmp_path)
    (tmp_path / "vocab.txt").write_text("the\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
    one_line("vocab.txt: [PAD] is token 1", read_tokenizer, tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff")
    one_line("valid UTF-8", read_tokenizer, tmp_path)
    write_vocabulary(tmp_path, learnt, do_lower_case="no")
    one_line("tokenizer_config.json, cannot be read", read_tokenizer, tmp_path)
    for content in ("[1]", "{"):
        (tmp_path / "tokenizer_config.json").write_text(content)
        one_line("tokenizer_config.json, cannot be read", read_tokenizer, tmp_path)
    for content in ("", "{}", "no\nJSON"):
        (tmp_path / "tokenizer.json").write_text(content)
        one_line("tokenizer.json: not a tokenizer in JSON", read_tokenizer, tmp_path)


# Samples.


def by_hand(first, second, tokenizer, max_length):
    """[CLS] first [SEP] (second [SEP]), a token less at a time until it fits.

    Of the longer text, and of the one that was shorter, or the first, where both are as long.
    """
    a, b = (
        [] if text is None else tokenizer.encode(text, add_special_tokens=False).ids
        for text in (first, second)
    )
    special = 2 if second is None else 3
    shorter = a if len(a) <= len(b) else b
    while len(a) + len(b) + special > max_length:
        (shorter if len(a) == len(b) else max(a, b, key=len)).pop()
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    ids, segments = [cls, *a, sep], [0] * (len(a) + 2)
    if second is not None:
        ids, segments = ids + b + [sep], segments + [1] * (len(b) + 1)
    return ids, segments


@pytest.mark.parametrize("chunk", [3, 8192])
@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("max_length", [5, 6, 12, 13, 300])
def test_every_sample(monkeypatch, learnt, pairs, max_length, chunk):
    monkeypatch.setattr("data.text.tokens.CHUNK", chunk)
    texts, tokenizer = texts_of(pairs=pairs, longest=19), parse(learnt, "here")
    dataset = encode(texts, learnt, max_length)
    longest = 0
    for part, raw in zip(dataset[1:4], texts[1:4], strict=True):
        assert part.tokens.dtype == torch.int32
        assert torch.equal(part.labels, raw.labels)
        assert torch.equal(part.index, raw.index)
        assert len(part.tokens) == len(raw.first)
        for n, found in enumerate(part.tokens.tolist()):
            second = raw.second[n] if pairs else None
            ids, segments = by_hand(raw.first[n], second, tokenizer, max_length)
            padding = [0] * (len(found[0]) - len(ids))
            assert found == [ids + padding, segments + padding]
            longest = max(longest, len(ids))
    assert {part.tokens.shape[2] for part in dataset[1:4]} == {longest}
    assert longest == max_length or (max_length == 300 and longest > 14)


def test_special_words_of_a_text_are_words(learnt):
    texts = texts_of((3, 1, 1), pairs=False)
    hostile = replace(texts.train, first=["the [SEP] cat [PAD] [CLS]", "", "the"])
    tokens = encode(texts._replace(train=hostile), learnt, 50).train.tokens[:, 0]
    sep = parse(learnt, "here").token_to_id("[SEP]")
    ends = (tokens != 0).sum(1)
    assert (tokens == sep).sum(1).tolist() == [1, 1, 1]
    assert tokens[torch.arange(3), ends - 1].tolist() == [sep] * 3
    assert ends.tolist()[1:] == [2, 3]


def test_what_a_data_set_says_of_itself(learnt):
    texts = texts_of()
    one, two = encode(texts, learnt, 20), encode(texts, learn_tokenizer(sentences(50), 60), 10)
    assert one.fingerprint() == two.fingerprint() == texts.fingerprint()
    assert (one.vocab_size, two.vocab_size) == (90, 60)
    assert one.tokenizer == learnt
    assert (one.name, one.classes, one.metrics) == ("task", ("no", "yes"), ("accuracy",))


def test_what_cannot_be_encoded(learnt):
    one_line("max_length is 4: give 5 or more for task", encode, texts_of(), learnt, 4)
    one_line("max_length is 2: give 3 or more", encode, texts_of(pairs=False), learnt, 2)
    one_line("tokenizer: not a tokenizer in JSON", encode, texts_of(), "{", 9)
    moved = tokenizers.Tokenizer(tokenizers.models.WordPiece({"a": 0, "[PAD]": 1}))
    moved.add_special_tokens(list(SPECIAL))
    one_line("[PAD] is token 1: give a tokenizer in which", encode, texts_of(), moved.to_str(), 9)


# Batches.


def part_of(lengths, longest=None):
    """Texts of so many tokens; token j of text n is 1000 n + j + 1, its segment 1 from 2 on."""
    longest = longest or max(lengths)
    tokens = torch.zeros(len(lengths), 2, longest, dtype=torch.int32)
    for n, length in enumerate(lengths):
        tokens[n, 0, :length] = 1000 * n + torch.arange(1, length + 1)
        tokens[n, 1, 2:length] = 1
    return TokenPart(tokens, torch.arange(len(lengths)) % 3, torch.arange(len(lengths)))


LENGTHS = [3, 9, 4, 2, 7, 7, 1, 5, 6, 8, 3, 2, 4]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_batches_are_those_of_images(shuffle, batch_size):
    """The same rows in the same order, and no longer than their longest text."""
    part = part_of(LENGTHS)
    images = data.Part(torch.zeros(13, 1, 1, 1, dtype=torch.uint8), part.labels, part.index)
    ours = TokenBatches(part, batch_size, "cpu", shuffle=shuffle, seed=2)
    theirs = data.Batches(images, batch_size, "cpu", shuffle=shuffle, seed=2)
    assert len(ours) == len(theirs)
    assert ours.global_sizes() == theirs.global_sizes()
    assert torch.equal(ours.labels, theirs.labels)
    assert ours.augment is None
    assert (ours.batch_size, ours.device) == (batch_size, torch.device("cpu"))
    for epoch in (0, 3):
        for one, other in zip(ours.epoch(epoch), theirs.epoch(epoch), strict=True):
            rows, tokens, labels = one
            assert torch.equal(rows, other[0])
            assert torch.equal(labels, other[2])
            longest = max(LENGTHS[n] for n in rows)
            assert tokens.dtype == torch.int64
            assert torch.equal(tokens, part.tokens[rows][:, :, :longest].long())
    assert all(torch.equal(a[0], b[0]) for a, b in zip(ours, ours.epoch(0), strict=True))


@pytest.mark.parametrize("way", [{}, {"shuffle": True}, {"shuffle": True, "group_by_length": True}])
def test_ranks_share_a_batch_and_its_length(way):
    part = part_of(LENGTHS)
    whole = TokenBatches(part, 5, "cpu", **way)
    shares = [TokenBatches(part, 5, "cpu", **way, rank=r, world=4) for r in range(4)]
    assert all(share.global_sizes() == whole.global_sizes() for share in shares)
    for all_of_it, *of_rank in zip(whole.epoch(1), *(s.epoch(1) for s in shares), strict=True):
        for rank, got in enumerate(of_rank):
            for mine, everyones in zip(got, all_of_it, strict=True):
                assert torch.equal(mine, everyones[rank::4])


def grouped(lengths, batch_size, **more):
    return TokenBatches(
        part_of(lengths), batch_size, "cpu", shuffle=True, seed=2, group_by_length=True, **more
    )


def test_batches_of_like_length_hold_every_text_once_and_less_padding():
    lengths = np.random.default_rng(0).integers(1, 60, 1003).tolist()
    plain = TokenBatches(part_of(lengths), 8, "cpu", shuffle=True, seed=2)
    ours = grouped(lengths, 8)
    assert ours.global_sizes() == plain.global_sizes()
    padded = {}
    for name, batches in (("plain", plain), ("ours", ours)):
        taken = list(batches.epoch(1))
        assert [len(rows) for rows, *_ in taken] == batches.global_sizes()
        rows = torch.cat([rows for rows, *_ in taken])
        assert sorted(rows.tolist()) == list(range(1003))
        padded[name] = sum(tokens[:, 0].numel() for _, tokens, _ in taken)
    assert padded["ours"] < 1.1 * sum(lengths) < padded["plain"]


def test_batches_of_like_length_are_of_seed_and_epoch_and_in_no_order_of_length():
    lengths = np.random.default_rng(0).integers(1, 60, 800).tolist()
    first, again = grouped(lengths, 8), grouped(lengths, 8)
    assert torch.equal(first.order(3), again.order(3))
    assert not torch.equal(first.order(3), first.order(4))
    means = torch.tensor(lengths)[first.order(3)].view(-1, 8).double().mean(1)
    assert abs(torch.corrcoef(torch.stack([means, torch.arange(100)]))[0, 1]) < 0.3
    halves = torch.tensor(lengths)[first.order(3)].view(-1, 2, 4).double().mean(2).mean(0)
    assert abs(halves[0] - halves[1]) < 1  # l2w trains on one and weighs by the other


@pytest.mark.parametrize("count", [3, 13, 17])
def test_few_texts_of_like_length_are_all_given(count):
    rows = grouped(LENGTHS[:count] + [2] * (count - 13), 4).order(0)
    assert len(set(rows.tolist())) == len(rows) == count - (count % 4 == 1)


def test_one_length_for_all():
    part = part_of(LENGTHS, longest=11)
    for rows, tokens, _ in TokenBatches(part, 4, "cpu", fixed_length=True):
        assert torch.equal(tokens, part.tokens[rows].long())


def test_the_random_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(TokenBatches(part_of(LENGTHS), 4, "cpu", shuffle=True).epoch(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_impossible_batches():
    part = part_of(LENGTHS)
    one_line("has no texts", TokenBatches, replace(part, tokens=part.tokens[:0]), 4, "cpu")
    for tokens in (part.tokens.long(), part.tokens[:, 0], part.tokens[:, :1]):
        one_line("give torch.int32 [N, 2, L]", TokenBatches, replace(part, tokens=tokens), 4, "cpu")
    for message, given in (
        ("batch_size is 0", {"batch_size": 0}),
        ("seed is -1", {"seed": -1}),
        ("rank is 2 of 2", {"rank": 2, "world": 2}),
        ("group_by_length goes with shuffle", {"group_by_length": True}),
    ):
        with pytest.raises(ValueError, match=message):
            TokenBatches(part, **{"batch_size": 4, "device": "cpu"} | given)
