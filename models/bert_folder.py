"""Read a BERT that transformers saved into a folder, as settings and weights of models/bert_exits.

The library is optional (requirements-nlp.txt) and imported when a BERT is built or read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from transformers import BertConfig

State = dict[str, Tensor]

# A flag of BertExits, and the name of its value in config.json.
SHAPE = {
    "num_layers": "num_hidden_layers",
    "hidden_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
}
# The only values of other entries of config.json that BertExits supports; a file may omit them.
FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "is_decoder": False,
}
FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # in the order in which transformers prefers them
STD = 0.02  # of the initial normal weights of all linear layers
_TRUNK = ("embeddings.", "encoder.", "pooler.")


def transformers_library() -> ModuleType:
    """The transformers module. ValueError, one line, where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            "the transformers library is not installed: pip install -r requirements-nlp.txt"
        ) from error
    return transformers


def bert_config(shape: dict[str, int], dropout: float = 0.0) -> BertConfig:
    """transformers' configuration of a BERT with the flags of `SHAPE`; nothing is downloaded."""
    return transformers_library().BertConfig.from_dict(
        {SHAPE[flag]: value for flag, value in shape.items()}
        | {
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
            "initializer_range": STD,
            "attn_implementation": "sdpa",
        }
    )


def read_folder(folder: str | Path) -> tuple[dict[str, int], State]:
    """The settings of a saved BERT and the weights of its BertModel, float32 by BertModel's names.

    settings: the flags of `SHAPE`. Weights: embeddings.*, encoder.* and, if the file has one,
    pooler.*; heads on top of them (cls.*, classifier.*) are ignored.

    Raises:
        ValueError: a file is missing or cannot be read, it is no BERT or one that `BertExits` does
            not support, weights are missing, superfluous or of another shape, or transformers is
            not installed. One line.
    """
    settings = _read_settings(Path(folder) / "config.json")
    library = transformers_library()
    path = next((p for name in FILES if (p := Path(folder) / name).is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder} has no {' and no '.join(FILES)}: save the network's weights in one file"
        )
    try:
        with _quiet(library):
            model, info = library.BertModel.from_pretrained(
                folder,
                config=bert_config(settings),
                local_files_only=True,
                ignore_mismatched_sizes=True,  # reported below, in one line
                output_loading_info=True,
            )
    except Exception as error:  # of a damaged file nearly any: of pickle, safetensors, torch
        reason = (" ".join(str(error).split()) or type(error).__name__)[:100]
        raise ValueError(f"{path} cannot be read ({reason}): copy or save it again") from error
    state = {name: value.float() for name, value in model.state_dict().items()}
    missing = set(info["missing_keys"])
    if missing == {name for name in state if name.startswith("pooler.")}:
        state = {name: value for name, value in state.items() if name not in missing}
        missing = set()
    unexpected = {name.removeprefix("bert.") for name in info["unexpected_keys"]}
    mismatched = info["mismatched_keys"]  # (name, shape in the file, shape in the network)
    problems = [f"{name} is missing" for name in sorted(missing)]
    problems += [
        f"{name} is not part of it"
        for name in sorted(unexpected)
        if name.startswith(_TRUNK) and not name.endswith("_ids")
    ]
    problems += [f"{name} is {list(is_)}, not {list(not_)}" for name, is_, not_ in mismatched]
    if problems:
        more = f" and {len(problems) - 2} more" if len(problems) > 2 else ""
        raise ValueError(f"{path}: not a BERT of its config.json: {'; '.join(problems[:2])}{more}")
    return settings, state


def _read_settings(path: Path) -> dict[str, int]:
    """The flags of `SHAPE` from a config.json. ValueError as `read_folder`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}): give a folder as transformers saves a BERT"
        ) from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is not JSON: copy it again") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != "bert":
        raise ValueError(f"{path}: model_type is {model_type!r}: give the folder of a 'bert'")
    for name, value in FIXED.items():
        actual = config.get(name, value)
        if actual != value and not (name == "pad_token_id" and actual is None):
            raise ValueError(f"{path}: {name} is {actual!r}: only {value!r} is supported")
    settings = {flag: config.get(name) for flag, name in SHAPE.items()}
    for flag, value in settings.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{path}: {SHAPE[flag]} is {value!r}: give a whole number from 1")
    if settings["hidden_dim"] % settings["num_heads"]:
        raise ValueError(
            f"{path}: hidden_size {settings['hidden_dim']} is not a multiple of "
            f"num_attention_heads {settings['num_heads']}: copy it again"
        )
    return settings


@contextlib.contextmanager
def _quiet(library: ModuleType) -> Iterator[None]:
    """Without transformers' report on standard error of what it loaded, and its progress bar."""
    log = library.utils.logging
    verbosity, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bar:
            log.enable_progress_bar()
