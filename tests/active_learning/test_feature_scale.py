"""Methods that measure distances take features of any scale."""

import numpy as np
import pytest

from active_learning import cascade_risk, diam_qp
from active_learning.kcenter import k_center

LABELLED = np.random.default_rng(1).normal(size=(9, 6))


def covered(x):
    return cascade_risk.cover(np.linspace(1, 2, len(x)), *cascade_risk.influence(x), 20)


@pytest.mark.parametrize("scale", [1e37, 1e-36])
@pytest.mark.parametrize(
    "choose",
    [
        lambda x, scale: k_center(x, (LABELLED * scale).astype(np.float32), 20),
        lambda x, scale: k_center(x, x[:0], 20),
        lambda x, scale: k_center(x.astype(np.float64), x[:0].astype(np.float64), 20),
        lambda x, scale: diam_qp.greedy(diam_qp.nearness([x], 120), np.repeat([2.0, 1.0], 60), 20),
        lambda x, scale: covered(x),
    ],
    ids=["k_center", "without labels", "float64", "DIAM_qp", "risk"],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_scale_of_features_does_not_matter(choose, scale):
    x = np.random.default_rng(0).normal(size=(120, 6))
    picks = choose((x * scale).astype(np.float32), scale)
    np.testing.assert_array_equal(picks, choose(x.astype(np.float32), 1))
