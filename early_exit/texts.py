"""GLUE tasks for networks that read text: tokens by a tokenizer of a folder, learnt, or saved."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from data.text.glue import TASKS, load_glue
from data.text.tokens import TokenDataset, encode, learn_tokenizer, read_tokenizer
from experiment import Parser
from models.bert_exits import BertExits, start_from
from models.bert_folder import FILES, read_folder

MAX_LENGTH = 128  # tokens a text, if --size is not given


def add_text_flags(parser: Parser) -> None:
    """The flags of networks that read text alone."""
    group = parser.add_argument_group("text: --dataset is a GLUE task's folder, --size in tokens")
    group.add_argument("--task", help=f"{', '.join(TASKS)} (default: the folder's name)")
    group.add_argument(
        "--model_path",
        help="a BERT's folder as transformers saves it, weights and tokenizer; not given: random "
        "weights, and a vocabulary learnt from the training texts",
    )


def check_text_flags(parser: Parser, args: argparse.Namespace, reads: str) -> None:
    """Ends in one line where flags do not go with what the network reads."""
    if reads != "text":
        for name in ("task", "model_path"):
            if getattr(args, name):
                parser.error(f"--{name} goes with an --arch that reads text; {args.arch} does not")
        return
    for name in ("stream", "augment", "channels_last"):
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"--{name} is for images; --arch {args.arch} reads text")


def texts_for_training(
    args: argparse.Namespace, settings: dict[str, Any]
) -> tuple[TokenDataset, dict[str, Any], dict[str, Tensor] | None]:
    """The task in tokens, the settings of its network, and weights to start from if there are any.

    settings: those of the flags; what the folder of --model_path or the learnt vocabulary says
    takes their place. ValueError or OSError, one line.
    """
    texts = load_glue(args.dataset, args.data_root, args.task, args.val_size, args.split_seed)
    state = None
    if args.model_path:
        theirs, state = read_folder(args.model_path)
        _refuse_other_shape(args.model_path, settings, theirs)
        settings = settings | theirs
        tokenizer = read_tokenizer(args.model_path)
    else:
        pairs = texts.train.first, texts.train.second or []
        tokenizer = learn_tokenizer([text for part in pairs for text in part], args.vocab_size)
    dataset = encode(texts, tokenizer, args.size or min(MAX_LENGTH, settings["max_positions"]))
    if not args.model_path:
        settings = settings | {"vocab_size": dataset.vocab_size}
    elif dataset.vocab_size > settings["vocab_size"]:
        raise ValueError(
            f"{args.model_path}: its tokenizer has {dataset.vocab_size} tokens, its network "
            f"{settings['vocab_size']}"
        )
    return dataset, settings, state


def weight_files(args: argparse.Namespace) -> dict[str, Path]:
    """The file of weights that training starts from, by name; {} where there is none."""
    paths = [Path(args.model_path, name) for name in FILES] if args.model_path else []
    return {path.name: path for path in paths if path.is_file()}


def begin(
    net: BertExits, weights: dict[str, Tensor] | None, path: str | None, vocab_size: int
) -> str:
    """Give `net` the weights of a folder, if there are any; says in words what it begins with."""
    if weights is None:
        return (
            f"random weights, and {vocab_size} WordPieces learnt from the training texts; "
            "--model_path starts from a BERT"
        )
    pooler = start_from(net, weights, path)
    return f"begins with the BERT of {path}" + ("" if pooler else ", which has no pooler")


def texts_again(name: str, root: str, about: dict[str, Any], size: int) -> TokenDataset:
    """The task as the network of a checkpoint read it; `about`: what the checkpoint says."""
    texts = load_glue(name, root, about["task"], about["val_size"], about["split_seed"])
    return encode(texts, about["tokenizer"], size)


def _refuse_other_shape(path: str, given: dict[str, Any], theirs: dict[str, Any]) -> None:
    parser = argparse.ArgumentParser()
    BertExits.add_flags(parser.add_argument_group())
    for name, value in theirs.items():
        if given[name] not in (value, parser.get_default(name)):
            raise ValueError(
                f"--{name} {given[name]}: the network of --model_path {path} has {value}; leave "
                "out one of the flags"
            )
