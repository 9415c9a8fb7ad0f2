"""The setting of one rejector (costs, S, surrogate), and file names that carry settings."""

import re
from typing import NamedTuple

import numpy as np

from experiment import RunPaths
from learning_to_help.edge_copies import JOINT, Freq
from losses.surrogates import DEFAULT

_NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_RELEASED = re.compile(rf".+-edgenet(?:-async-(\d+))?-cost_1-{_NUMBER}-cost_e-{_NUMBER}")


class Setting(NamedTuple):
    """What one rejector is trained for.

    async_freq: S, 0 for once an epoch, "adaptive-TOL", or "joint" (learning_to_help.edge_copies).
    A surrogate that does not know the costs has cost_1 = cost_e = None. extra: whether it comes
    from --extra_surrogates.
    """

    async_freq: Freq
    cost_1: float | None
    cost_e: float | None
    surrogate: str = DEFAULT
    extra: bool = False

    @property
    def costs(self) -> tuple[float, float] | None:
        """(c_1, c_e), or None where the surrogate does not know them."""
        if self.cost_1 is None or self.cost_e is None:
            return None
        return self.cost_1, self.cost_e

    def stem(self, dataset: str) -> str:
        """The name of its checkpoint, without .pth: the release's, which has no S for joint.

        The release's scripts split it at "-" to read the costs. The name of an extra surrogate
        comes last.
        """
        stem = RunPaths("", dataset).stem("edgenet")
        if self.async_freq != JOINT:
            stem += f"-async-{self.async_freq}"
        if self.costs is not None:
            stem += f"-{cost_name(*self.costs)}"
        return stem + (f"-{self.surrogate}" if self.extra else "")


def cost_name(cost_1: float, cost_e: float) -> str:
    """Costs in a file name, as in cost_1-1.25-cost_e-0.25; different pairs get different names.

    Written as decimals, because the release's scripts would split 1e-05 at its "-".
    """
    c1, ce = (np.format_float_positional(float(c), trim="-") for c in (cost_1, cost_e))
    return f"cost_1-{c1}-cost_e-{ce}"


def released_setting(stem: str) -> Setting | None:
    """The setting in the name of a checkpoint of the L2H release; None for any other name.

    DATASET-edgenet-async-S-cost_1-C1-cost_e-CE, or without async-S for joint training. Its
    surrogate is `released`, whose weights have the sign of c_1 inverted (losses.stage_switching).
    """
    match = _RELEASED.fullmatch(stem)
    if match is None:
        return None
    freq, cost_1, cost_e = match.groups()
    return Setting(int(freq) if freq else JOINT, float(cost_1), float(cost_e), "released")


def release_reads(stem: str) -> bool:
    """Whether the release's table and plot scripts read the right numbers from this name.

    They split it at "-" and take fields by position, which a surrogate's name, an S that is not a
    number, and 1e-05 all shift.
    """
    match = _RELEASED.fullmatch(stem)
    return match is not None and "-" not in match[2] + match[3]
