"""Published points of early-exit networks, drawn beside our own.

Accuracies in %, costs in multiply-adds. Budgeted points were published with their cost, in the
unit of `release_multiply_adds` in models/cost.py. Anytime points were published by exit; their
costs are those of the network that `setting` names, as `exit_multiply_adds` there counts them
(convolutions and linear layers, all earlier heads included). Each paper trained its own `base`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ROOM = 0.05  # relative difference of costs of the same network under another way of counting


@dataclass(frozen=True)
class Published:
    """One published curve. `exits`: of its points, counted from 1; none for budgeted points."""

    kind: str  # anytime or budgeted
    dataset: str
    arch: str
    method: str
    paper: str
    setting: str
    costs: tuple[int, ...]
    accuracies: tuple[float, ...]
    exits: tuple[int, ...] = ()

    def is_of(self, multiply_adds: Sequence[int]) -> bool:
        """Whether a network of these costs, [E], can be the published one.

        Anytime: it has as many exits, and those with points cost the same to 5 %. Budgeted: all
        points lie between its first and its last exit (5 % more or less), as any budget must.
        """
        if self.exits:
            return len(multiply_adds) == self.exits[-1] and all(
                abs(multiply_adds[k - 1] / cost - 1) <= ROOM
                for k, cost in zip(self.exits, self.costs, strict=True)
            )
        low, high = (1 - ROOM) * multiply_adds[0], (1 + ROOM) * multiply_adds[-1]
        return low <= min(self.costs) and max(self.costs) <= high


L2W = "Han et al. 2022"  # Learning to Weight Samples, ECCV 2022, arXiv 2209.08310
BOOSTED = "Yu et al. 2023"  # Boosted Dynamic Neural Networks, AAAI 2023, arXiv 2211.16726

# The paper does not say which MSDNet these were measured on. The release trains --n_blocks 5
# --base 1 --step 1 --step_mode lin_grow, 0.68e7 to 5.8e7, which has room for all of CIFAR-10's;
# CIFAR-100's last needs one block more (to 8.9e7). With --base 4 --step 2 exit 1 costs 1.5e7.
BUDGETED = "MSDNet, budgeted batch classification, 300 epochs"
CIFAR100_COSTS = (10_000_000, 15_000_000, 21_000_000, 30_000_000, 50_000_000, 78_000_000)
CIFAR10_COSTS = (10_000_000, 15_000_000, 20_000_000, 30_000_000, 50_000_000)

BLOCKS_10 = "MSDNet, anytime, --n_blocks 10 --base 4 --step 2 --step_mode even, 300 epochs"
BLOCKS_10_EXITS = (1, 3, 5, 7, 10)
BLOCKS_10_COSTS = (14_967_296, 37_467_648, 61_744_640, 87_206_400, 121_086_976)

RANET_8 = "RANet, anytime, --n_blocks 2 --step 4 --scale_list 1-2-3-3, 300 epochs"
RANET_8_EXITS = (1, 3, 5, 8)
RANET_8_COSTS = (15_749_632, 44_496_768, 60_372_544, 94_339_200)

STEP_7 = "MSDNet, anytime, --n_blocks 5 --base 7 --step 7 --step_mode even, 100 epochs"
STEP_7_EXITS = (1, 2, 3, 4, 5)
STEP_7_COSTS = (612_030_976, 1_430_810_112, 2_276_388_096, 2_959_942_016, 3_246_180_864)

PUBLISHED = (
    Published(
        "budgeted", "cifar100", "msdnet", "base", L2W, BUDGETED, CIFAR100_COSTS,
        (65.5, 69.2, 71.5, 73.2, 73.9, 75.0),
    ),
    Published(
        "budgeted", "cifar100", "msdnet", "l2w", L2W, BUDGETED, CIFAR100_COSTS,
        (66.6, 70.4, 72.6, 74.0, 75.1, 76.05),
    ),
    Published(
        "budgeted", "cifar10", "msdnet", "base", L2W, BUDGETED, CIFAR10_COSTS,
        (92.0, 93.0, 93.2, 93.9, 94.1),
    ),
    Published(
        "budgeted", "cifar10", "msdnet", "l2w", L2W, BUDGETED, CIFAR10_COSTS,
        (92.3, 93.6, 94.4, 94.8, 94.8),
    ),
    Published(
        "anytime", "cifar100", "msdnet", "base", BOOSTED, BLOCKS_10, BLOCKS_10_COSTS,
        (64.6, 69.4, 72.8, 74.7, 76.0), BLOCKS_10_EXITS,
    ),
    Published(
        "anytime", "cifar100", "msdnet", "boosted", BOOSTED, BLOCKS_10, BLOCKS_10_COSTS,
        (65.3, 72.3, 75.2, 75.9, 76.3), BLOCKS_10_EXITS,
    ),
    Published(
        "anytime", "cifar100", "ranet", "base", BOOSTED, RANET_8, RANET_8_COSTS,
        (66.7, 71.2, 72.9, 74.7), RANET_8_EXITS,
    ),
    Published(
        "anytime", "cifar100", "ranet", "boosted", BOOSTED, RANET_8, RANET_8_COSTS,
        (67.5, 73.2, 74.2, 75.1), RANET_8_EXITS,
    ),
    Published(
        "anytime", "imagenet", "msdnet", "l2w", L2W, STEP_7, STEP_7_COSTS,
        (59.24, 69.65, 73.94, 75.66, 76.72), STEP_7_EXITS,
    ),
)  # fmt: skip


def fitting(
    kind: str, dataset: str, arch: str, multiply_adds: Sequence[int], forced: bool = False
) -> list[Published]:
    """Points of this data set, architecture and network; with `forced`, of whatever network."""
    return [
        p
        for p in PUBLISHED
        if (p.kind, p.dataset, p.arch) == (kind, dataset, arch)
        and (forced or p.is_of(multiply_adds))
    ]
