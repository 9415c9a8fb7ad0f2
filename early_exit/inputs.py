"""The inputs of networks with exits: images in memory, images streamed from a folder, or tokens."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import data
from data.batches import Augment, Batches, Steps
from data.folders import IMAGENET_MEAN, IMAGENET_STD, FolderBatches, FolderDataset, FolderPart
from data.parts import Part
from data.text.glue import TASKS, TextDataset, load_glue
from data.text.tokens import TokenBatches, TokenDataset, TokenPart, encode
from data.text.wordpiece import learn_tokenizer, read_tokenizer
from experiment import Parser
from models.bert_exits import BertExits
from models.bert_folder import FILES, read_folder

AnyPart = Part | FolderPart | TokenPart
AnyDataset = data.Dataset | FolderDataset | TokenDataset

MAX_LENGTH = 128  # tokens a text, if --size is not given


@dataclass(frozen=True)
class InputFormat:
    """How samples of a data set become inputs of one network, in training and evaluation alike.

    size: px of images, tokens of texts. mean, std: 3 each, in units of 0..1, that images are
    normalised by. workers: processes that decode streamed images; None: one a CPU, at most 8.
    fixed_length: pad every batch of texts to the longest text of the part, for torch.compile.
    """

    size: int
    mean: Sequence[float]
    std: Sequence[float]
    workers: int | None = None
    fixed_length: bool = False


def load_data(
    name: str, root: str, val_size: float, split_seed: int, stream: bool
) -> data.Dataset | FolderDataset:
    """The image data set `name`, with val cut from its train set.

    stream: list a folder and leave its images there. ValueError, one line, for a data set that
    cannot be loaded.
    """
    if stream:
        return data.load_folder(name, val_size, split_seed)
    return data.load(name, root, val_size, split_seed)


def input_size(part: AnyPart, requested: int | None = None) -> int:
    """Tokens of the longest text; px of images: `requested`, else their own (streamed: 224)."""
    if isinstance(part, TokenPart):
        return part.tokens.shape[-1]
    return requested or (part.images.shape[-1] if isinstance(part, Part) else 224)


def make_batches(
    part: AnyPart,
    batch_size: int,
    device: torch.device | str,
    inputs: InputFormat,
    *,
    shuffle: bool = False,
    seed: int = 0,
    train: bool = False,
    augment: Augment | None = None,
    rank: int = 0,
    world: int = 1,
    group_by_length: bool = False,
) -> Steps:
    """Batches of images [B, 3, size, size], normalised, or of tokens [B, 2, L] of texts.

    train: crop and flip streamed images at random. augment: changes images in memory, before those
    of another size are resized (bilinear). rank, world: which rows of each batch this process gets.
    group_by_length: batches of texts of like length.
    """
    if isinstance(part, TokenPart):
        return TokenBatches(
            part, batch_size, device,
            shuffle=shuffle, seed=seed, rank=rank, world=world, fixed_length=inputs.fixed_length,
            group_by_length=group_by_length,
        )  # fmt: skip
    if isinstance(part, FolderPart):
        return FolderBatches(
            part, batch_size, device,
            shuffle=shuffle, seed=seed, size=inputs.size, train=train, workers=inputs.workers,
            mean=inputs.mean, std=inputs.std, rank=rank, world=world,
        )  # fmt: skip
    if tuple(part.images.shape[2:]) != (inputs.size, inputs.size):
        augment = _then_resize(augment, inputs.size)
    return Batches(
        part, batch_size, device,
        shuffle=shuffle, seed=seed, augment=augment, mean=inputs.mean, std=inputs.std,
        rank=rank, world=world,
    )  # fmt: skip


def pixel_stats(part: AnyPart) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, 3 each, in units of 0..1; of texts [] and [].

    Those of all pixels in memory (a grey image counts three times over); ImageNet's for streamed
    images. A channel of one value gets 1 / 255, a step of 8 bits, as its std.
    """
    if isinstance(part, TokenPart):
        return [], []
    if not isinstance(part, Part):
        return list(IMAGENET_MEAN), list(IMAGENET_STD)
    level = torch.arange(256)
    means, stds = [], []
    for channel in range(part.images.shape[1]):
        # Whole numbers until the division: exact for any number of pixels.
        counts = torch.bincount(part.images[:, channel].flatten(), minlength=256)
        total = int(counts.sum())
        first, second = int((counts * level).sum()), int((counts * level**2).sum())
        means.append(first / total / 255)
        stds.append(max((total * second - first**2) ** 0.5 / total, 1) / 255)
    return (means, stds) if len(means) == 3 else (means * 3, stds * 3)


def _then_resize(augment: Augment | None, size: int) -> Augment:
    """`augment`, if there is one, and then images [B, 3, H, W] to [B, 3, size, size]."""

    def both(images: Tensor, generator: torch.Generator) -> Tensor:
        images = images if augment is None else augment(images, generator)
        return F.interpolate(images, (size, size), mode="bilinear", antialias=True)

    return both


def add_text_flags(parser: Parser) -> None:
    """Flags of networks that read text."""
    group = parser.add_argument_group("text: --dataset is a GLUE task's folder, --size in tokens")
    group.add_argument("--task", help=f"{', '.join(TASKS)} (default: the folder's name)")
    group.add_argument(
        "--model_path",
        help="folder of a BERT saved by transformers, with weights and tokenizer (default: random "
        "weights, and a vocabulary learnt from the training texts)",
    )
    group.add_argument(
        "--group_by_length",
        action="store_true",
        help="train on batches of texts of like length, with less padding: another order of the "
        "texts, so a run is resumed with the same choice",
    )


def check_text_flags(parser: Parser, args: argparse.Namespace, given: set[str], reads: str) -> None:
    """Exit with one line where flags that are given do not apply to what the network reads."""
    if reads != "text":
        names = ("task", "model_path", "group_by_length")
        parser.refuse(given, names, f"goes with an --arch that reads text; {args.arch} does not")
        return
    images = ("stream", "workers", "augment", "channels_last")
    parser.refuse(given, images, f"is for images; --arch {args.arch} reads text")
    if args.group_by_length and args.compile:
        parser.error("--group_by_length has no effect with --compile, which pads all texts alike")


def texts_for_training(
    texts: TextDataset, settings: dict[str, Any], model_path: str | None, size: int | None
) -> tuple[TokenDataset, dict[str, Any], dict[str, Tensor] | None]:
    """The texts in tokens, the settings of their network, and weights to start from or None.

    settings: values of the network's flags; the folder `model_path` or the learnt vocabulary
    replaces some. size: tokens of a text at most. ValueError or OSError, one line.
    """
    weights = None
    if model_path:
        saved, weights = read_folder(model_path)
        _refuse_other_shape(model_path, settings, saved)
        settings = settings | saved
        tokenizer = read_tokenizer(model_path)
    else:
        training_texts = [*texts.train.first, *(texts.train.second or [])]
        tokenizer = learn_tokenizer(training_texts, settings["vocab_size"])
    dataset = encode(texts, tokenizer, size or min(MAX_LENGTH, settings["max_positions"]))
    if not model_path:
        settings = settings | {"vocab_size": dataset.vocab_size}
    elif dataset.vocab_size > settings["vocab_size"]:
        raise ValueError(
            f"{model_path}: its tokenizer has {dataset.vocab_size} tokens, its network "
            f"{settings['vocab_size']}"
        )
    return dataset, settings, weights


def weight_files(model_path: str | None) -> dict[str, Path]:
    """The file of weights that training starts from, by name; {} where there is none."""
    paths = [Path(model_path, name) for name in FILES] if model_path else []
    return {path.name: path for path in paths if path.is_file()}


def texts_of_checkpoint(name: str, root: str, about: dict[str, Any], size: int) -> TokenDataset:
    """The task in the tokens that a checkpoint's network was trained on; about: its other keys."""
    texts = load_glue(name, root, about["task"], about["val_size"], about["split_seed"])
    return encode(texts, about["tokenizer"], size)


def _refuse_other_shape(path: str, settings: dict[str, Any], saved: dict[str, int]) -> None:
    """ValueError for a flag that was given and differs from the folder's network."""
    parser = argparse.ArgumentParser()
    BertExits.add_flags(parser.add_argument_group())
    for name, value in saved.items():
        if settings[name] not in (value, parser.get_default(name)):
            raise ValueError(
                f"--{name} {settings[name]}: the network of --model_path {path} has {value}; leave "
                "out one of the flags"
            )
