"""Many devices with exits, one server: thresholds of others, or each device's own.

Each client has a device that was trained on the client's own data, and the data differ. Thresholds
that are fitted for all send too much from some and too little from others. A device in use has no
labels, but what it is asked, it has seen. Four ways to thresholds on the doubt at each exit, all
tested on the client's own test rows:

shared        of least risk on the labelled val rows of all other clients together
same_shares   its exits take, of the client's own val rows, the shares that `shared` has them take
              of the other clients'; so each device keeps to one budget
estimated     of least expected risk on the client's own val rows, with the chance that each stage
              is right given an exit's logits as the other clients' labelled rows have it
own_labels    of least risk on the client's own val rows, labelled: what those before aim at

The first three use no label of the client. Beside them never (the last exit answers everything),
always (the server does) and oracle (the cheapest stage of each sample; sees the labels of test).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deferral import exits, rules
from deferral.catalogue import CONFIDENCE
from deferral.estimates import features, right_given
from deferral.predictions import Predictions
from deferral.risk import accuracy, costs, risk
from deferral.stages import device_costs, fit_price_thresholds, fit_thresholds, leave

FITTED = ("shared", "same_shares", "estimated", "own_labels")
RULES = ("never", "always", *FITTED, "oracle")


class Measured(NamedTuple):
    """What a rule does on the test rows of each of C clients."""

    risk: np.ndarray  # [C], in units of one local error
    accuracy: np.ndarray  # [C], 0..1
    shares: np.ndarray  # [C, S] of the samples that each stage answers, the server's last


class _Client(NamedTuple):
    """A client's val and test rows: logits and doubt of its exits, who is right, who is asked."""

    val_logits: np.ndarray  # [E, Nv, K]
    val_doubt: np.ndarray  # [E, Nv]
    val_right: np.ndarray  # [S, Nv]
    test_doubt: np.ndarray  # [E, Nt]
    test_right: np.ndarray  # [S, Nt]


def refit(
    clients: Sequence[Predictions], cost_1: float, cost_e: float, doubt: str = "max_softmax"
) -> dict[str, Measured]:
    """Every rule of RULES on every client at (c_1, c_e), by name.

    clients: predictions of C >= 2 devices of one architecture and one server, S = E + 1 stages each
    (deferral/join.py). doubt: a name of `catalogue.CONFIDENCE`. ValueError where they do not
    fit each other.
    """
    if len(clients) < 2:
        raise ValueError(f"{len(clients)} client: thresholds for all need two clients or more")
    device = device_costs(clients[0])
    for client in clients:
        same = len(device_costs(client)) == len(device) and np.allclose(
            device_costs(client), device
        )
        if not same or client.stage_logits.shape[-1] != clients[0].stage_logits.shape[-1]:
            raise ValueError(f"{client.source}: other exits or classes than {clients[0].source}")
    price = costs(cost_1, cost_e, device)
    read, stages = [_read(client, CONFIDENCE[doubt].doubt) for client in clients], len(device) + 1
    thresholds: dict[str, list[np.ndarray]] = {name: [] for name in FITTED}
    for k, client in enumerate(read):
        others = [c for i, c in enumerate(read) if i != k]
        doubts = np.concatenate([c.val_doubt for c in others], 1)
        right = np.concatenate([c.val_right for c in others], 1)
        shared = fit_thresholds(doubts, right, *price)
        shares = np.bincount(leave(doubts, shared), minlength=stages) / doubts.shape[1]
        expected = expected_price(client.val_logits, others, *price)
        thresholds["shared"].append(shared)
        thresholds["same_shares"].append(_of_shares(client.val_doubt, shares))
        thresholds["estimated"].append(fit_price_thresholds(client.val_doubt, expected))
        thresholds["own_labels"].append(fit_thresholds(client.val_doubt, client.val_right, *price))
    stops = {
        "never": [np.full(c.test_doubt.shape[1], stages - 2) for c in read],
        "always": [np.full(c.test_doubt.shape[1], stages - 1) for c in read],
        "oracle": [rules.oracle(c.test_right, *price) for c in read],
    }
    for name, per_client in thresholds.items():
        stops[name] = [leave(c.test_doubt, t) for c, t in zip(read, per_client, strict=True)]
    return {name: _measure(read, stops[name], price) for name in RULES}


def expected_price(
    logits: np.ndarray,
    others: Sequence[_Client],
    query_cost: np.ndarray,
    error_cost: np.ndarray,
) -> np.ndarray:
    """What samples are expected to cost at each stage, [S, N], from logits [E, N, K] alone.

    P(exit k right | its logits), and P(server right | the last exit's), by logistic regressions on
    the labelled val rows of other clients.
    """
    expected = []
    for stage in range(len(query_cost)):
        seen = min(stage, len(logits) - 1)  # the exit whose logits tell
        x, x_own = features(np.concatenate([c.val_logits[seen] for c in others]), logits[seen])
        right = np.concatenate([c.val_right[stage] for c in others])
        chance = right_given(x, right[None], x_own)[1][0]
        expected.append(query_cost[stage] + error_cost[stage] * (1 - chance))
    return np.stack(expected)


def _read(client: Predictions, doubt) -> _Client:
    val, test = client.part("val"), client.part("test")
    of_val, of_test = (doubt(part.stage_logits[:-1]) for part in (val, test))
    return _Client(val.stage_logits[:-1], of_val, val.correct, of_test, test.correct)


def _measure(
    clients: Sequence[_Client], stops: Sequence[np.ndarray], price: tuple[np.ndarray, np.ndarray]
) -> Measured:
    both = list(zip(clients, stops, strict=True))
    stages = len(price[0])
    return Measured(
        np.array([risk(client.test_right, stop, *price) for client, stop in both]),
        np.array([accuracy(client.test_right, stop) for client, stop in both]),
        np.array([np.bincount(stop, minlength=stages) / len(stop) for stop in stops]),
    )


def _of_shares(doubt: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Thresholds [E] at which the exits take these shares [S] of samples with doubt [E, N]."""
    sure = np.concatenate([-doubt, np.zeros_like(doubt[:1])])  # the server takes what is left
    return -exits.fit_thresholds(sure, shares)[:-1]
