"""A BERT as transformers saves it, a folder, to the settings and weights of models/bert_exits.py.

Read here and not by transformers, whose versions differ in what they take, warn of and download.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

State = dict[str, Tensor]

# A flag of BertExits, and the name in config.json of what it says.
SHAPE = {
    "num_layers": "num_hidden_layers",
    "hidden_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
}
# What config.json may say of the rest: our networks have this alone. Files may leave it out.
FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "is_decoder": False,
}
FILES = ("model.safetensors", "pytorch_model.bin")
_TRUNK = ("embeddings.", "encoder.", "pooler.")


def read_settings(folder: str | Path) -> dict[str, int]:
    """The flags of `SHAPE` by the folder's config.json. ValueError as `read_weights`."""
    path = Path(folder) / "config.json"
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
        raise ValueError(f"{path}: model_type is {model_type!r}: give a BERT's folder, 'bert'")
    for name, value in FIXED.items():
        found = config.get(name, value)
        if found != value and not (name == "pad_token_id" and found is None):
            raise ValueError(f"{path}: {name} is {found!r}: networks here have {value!r} only")
    settings = {flag: config.get(name) for flag, name in SHAPE.items()}
    for flag, value in settings.items():
        if type(value) is not int or value < 1:
            raise ValueError(f"{path}: {SHAPE[flag]} is {value!r}: give a whole number from 1")
    if settings["hidden_dim"] % settings["num_heads"]:
        raise ValueError(
            f"{path}: hidden_size {settings['hidden_dim']} does not divide into "
            f"{settings['num_heads']} heads: copy it again"
        )
    return settings


def read_weights(folder: str | Path) -> tuple[State, Path]:
    """The weights of BertModel in a folder, by its own names and as float32, and their file.

    What stands on top of it (cls.*, classifier.*) is left out, and so is the prefix `bert.` that
    names have then. Old files call weight and bias of a layer norm gamma and beta, and hold the
    numbers of the positions.

    Raises:
        ValueError: there is no file of weights, or it cannot be read or holds others. One line.
    """
    paths = [Path(folder) / name for name in FILES]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder} has no {' and no '.join(FILES)}: save the network's weights in one file"
        )
    theirs = _read_file(path)
    if any(name.startswith("bert.") for name in theirs):
        theirs = {n.removeprefix("bert."): v for n, v in theirs.items() if n.startswith("bert.")}
    state = {}
    for name, value in theirs.items():
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        if name.startswith(_TRUNK) and not name.endswith("_ids"):
            state[name] = value.float()
    if not state:
        raise ValueError(f"{path}: holds no weights of a BERT")
    return state, path


def _read_file(path: Path) -> State:
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load_file

            try:
                return load_file(path)
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ValueError(
            f"{path}: the safetensors library is not here: pip install -r requirements-nlp.txt"
        ) from error
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:100]
        raise ValueError(f"{path} cannot be read ({reason}): copy or save it again") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: holds no state dict: save the network's state_dict()")
    return state
