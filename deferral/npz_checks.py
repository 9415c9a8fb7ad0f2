"""Reading predictions.npz: its arrays, their shapes and its settings are checked before any use.

deferral/predictions.py says what each array holds.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from experiment import read_npz as read_npz
from experiment import sha256

SPLITS = {"val": 0, "test": 1}
# Name of each array: its kinds of dtype and its axes; equal letters are equal lengths, a digit
# is a length.
REQUIRED = {
    "labels": ("iu", "N"),
    "stage_logits": ("f", "ENK"),
    "split": ("iu", "N"),
    "index": ("iu", "N"),
    "scores": ("f", "RN"),
    "settings": ("U", ""),
}
OPTIONAL = {
    "example_index": ("iu", "M"),
    "example_images": ("u", "MCHW"),
    "estimates": ("f", "A2N"),
    "student_logits": ("f", "BNK"),
    "loss_step": ("iu", "T"),
    "loss_edge": ("f", "T"),
    "loss_rejector": ("f", "TL"),
    "progress_step": ("iu", "P"),
    "progress_seconds": ("f", "P"),
    "progress_risk": ("f", "PL"),
    "progress_accuracy": ("f", "PL"),
    "progress_bytes": ("iu", "PL"),
}
# Prefixes of groups of arrays of which a file has all or none.
GROUPS = ("example_", "loss_", "progress_")


def tolerance(async_freq: Any) -> float | None:
    """TOL of "adaptive-TOL", 0..1; None for any other S."""
    kind, dash, text = str(async_freq).partition("-")
    try:
        value = float(text) if kind + dash == "adaptive-" else math.nan
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def check_inputs(path: Path, settings: dict[str, Any]) -> None:
    """ValueError where a file that the predictions were made from has changed since.

    Inputs are named relative to the folder of the predictions; a missing one is no error, because
    predictions may be moved and published without their networks.
    """
    for name, digest in settings.get("inputs", {}).items():
        file = path.parent / name
        if name != "data" and file.is_file() and sha256(file) != digest:
            raise ValueError(f"was made from another {name} than is there now; evaluate again")


def check(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """ValueError for the first thing that is wrong with the arrays; returns the settings."""
    if missing := [k for k in REQUIRED if k not in arrays]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for prefix in GROUPS:
        names = tuple(name for name in OPTIONAL if name.startswith(prefix))
        absent = [k for k in names if k not in arrays]
        if 0 < len(absent) < len(names):
            raise ValueError(f"lacks {', '.join(absent)}, which go with the other of {names}")
    size = _check_shapes(arrays)
    if size.get("L", 0) > size["R"]:
        raise ValueError(f"losses or progress of {size['L']} rejectors, but scores of {size['R']}")
    if not size["E"] or not size["N"] or not size["K"]:
        raise ValueError(f"stage_logits {arrays['stage_logits'].shape} holds no predictions")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} holds values that are not finite")
    for name, low, high in (
        ("labels", 0, size["K"] - 1),
        ("split", 0, 1),
        ("example_index", 0, size["N"] - 1),
        ("estimates", 0, 1),
    ):
        array = arrays.get(name, np.array([]))
        if array.size and (array.min() < low or array.max() > high):
            raise ValueError(f"{name} holds values outside {low}..{high}")
    if (arrays["split"][arrays.get("example_index", [])] != SPLITS["test"]).any():
        raise ValueError("example_index holds rows that are not test rows")
    settings = _check_settings(str(arrays["settings"]), size["K"], size["R"], size.get("A", 0))
    students = settings.get("students")
    if "student_logits" in arrays and (
        not isinstance(students, list) or len({*map(str, students)}) != size["B"]
    ):
        raise ValueError(f"settings must name each of the {size['B']} students of student_logits")
    _check_exits(settings, size["E"])
    return settings


def _check_shapes(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """The length of every axis letter; ValueError where dtypes or lengths disagree."""
    size: dict[str, int] = {}
    first: dict[str, str] = {}
    for name, array in arrays.items():
        kinds, axes = (REQUIRED | OPTIONAL)[name]
        shape = f"[{', '.join(axes)}]" if axes else "a single string"
        fits = array.ndim == len(axes) and all(
            int(axis) == length
            for axis, length in zip(axes, array.shape, strict=True)
            if axis.isdigit()
        )
        if array.dtype.kind not in kinds or not fits:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, but must be {shape}")
        for axis, length in zip(axes, array.shape, strict=True):
            if size.setdefault(axis, length) != length:
                raise ValueError(
                    f"{name} {array.shape} must be {shape}: {axis} is {length} here "
                    f"and {size[axis]} in {first[axis]}"
                )
            first.setdefault(axis, name)
    return size


def _check_settings(
    text: str, n_classes: int, n_rejectors: int, n_estimators: int
) -> dict[str, Any]:
    """The JSON as a dict; ValueError where it does not describe K classes, R and A rules."""
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"settings are not JSON ({e.msg})") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("dataset"), str):
        raise ValueError("settings do not name a dataset")
    wanted = {"classes": n_classes, "rejectors": n_rejectors}
    if n_estimators or settings.get("estimators") is not None:
        wanted["estimators"] = n_estimators
    for key, length in wanted.items():
        entries = settings.get(key)
        if not isinstance(entries, list) or len(entries) != length:
            count = len(entries) if isinstance(entries, list) else "no list of"
            raise ValueError(f"settings hold {count} {key}, but the arrays hold {length}")
    for number, setting in enumerate(settings["rejectors"]):
        if not isinstance(setting, dict) or not _is_setting(setting):
            raise ValueError(
                f"settings of rejector {number} need stem, surrogate, cost_1 and cost_e >= 0, "
                'and async_freq: a whole number >= 0, "joint" or "adaptive-TOL" with TOL in 0..1'
            )
    estimators = settings.get("estimators") or []
    for number, setting in enumerate(estimators):
        if not isinstance(setting, dict) or not all(
            isinstance(setting.get(k), str) and setting[k] for k in ("name", "about")
        ):
            raise ValueError(f"settings of estimator {number} need name and about, both text")
    names = [setting["name"] for setting in estimators]
    if len(set(names)) < len(names):
        raise ValueError(f"settings name an estimator twice: {', '.join(names)}")
    for setting in (*settings["rejectors"], *estimators):
        for key in ("parameters", "multiply_adds", "refreshes", "bytes_sent"):
            if not _is_count(setting.get(key, 0)):
                raise ValueError(f"settings hold {key} {setting[key]!r}: not a whole number >= 0")
    return settings


def _check_exits(settings: dict[str, Any], stages: int) -> None:
    """ValueError for costs of exits that are none, or that are not of these stages."""
    adds, flops = settings.get("multiply_adds"), settings.get("cost_flops", 0)
    if adds is not None:
        if not isinstance(adds, list) or not all(map(_is_count, adds)) or sorted(adds) != adds:
            raise ValueError(
                "settings hold multiply_adds that are not whole numbers that never fall"
            )
        if len(adds) not in (stages, stages - 1):
            raise ValueError(
                f"settings hold multiply_adds of {len(adds)} exits, but the arrays hold {stages} "
                "stages: exits, or exits and a server"
            )
    if not _is_cost(flops):
        raise ValueError(f"settings hold cost_flops {flops!r}: not a number >= 0")


def _is_setting(setting: dict[str, Any]) -> bool:
    async_freq = setting.get("async_freq")
    return (
        all(isinstance(setting.get(k), str) for k in ("stem", "surrogate"))
        and all(_is_cost(setting.get(k)) for k in ("cost_1", "cost_e"))
        and (async_freq == "joint" or tolerance(async_freq) is not None or _is_count(async_freq))
    )


def _is_cost(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
