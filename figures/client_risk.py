"""Risk of every client of a partition: one device each, one server, four ways to thresholds.

    python -m figures.client_risk results/runs/clients --cost_1 1.25 --cost_e 0.1

Takes the *-predictions.npz of deferral.join, one a client and seed (the settings name the data set,
client-0003, and the seed). Left, risk client by client, sorted by what never asking costs; right,
the share of its samples that each client sends. Marks are means over seeds, bars ± one standard
deviation. The table has the mean over clients, the worst client and paired differences to the
thresholds that all share; client_risk.json has every number. The rules: deferral/clients.py.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import experiment
from deferral import predictions as saved
from deferral.clients import RULES, Measured, refit
from deferral.predictions import Predictions
from figures import style
from figures.tables import Column, print_table, write_table

LABELS = {
    "never": "never ask",
    "always": "always ask",
    "shared": "shared thresholds",
    "same_shares": "own thresholds, unlabelled: same shares",
    "estimated": "own thresholds, unlabelled: least expected risk",
    "own_labels": "own thresholds, labelled",
    "oracle": "oracle",
}
DRAWN = ("never", "always", "shared", "same_shares", "estimated", "own_labels")
COLUMNS = [
    Column("label", "rule"),
    Column("risk", "risk, mean over clients"),
    Column("worst", "worst client"),
    Column("difference", "minus shared"),
    Column("better", "clients better / worse"),
    Column("sent", "sent %"),
    Column("accuracy", "accuracy %"),
]


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="holds *-predictions.npz")
    cost = experiment.number(float, 0)
    parser.add_argument("--cost_1", type=cost, default=1.25, help="of a server error")
    parser.add_argument("--cost_e", type=cost, default=0.1, help="of asking")
    parser.add_argument("--out", type=Path, help="where files go (default: RUN_DIR/figures)")
    return parser.parse_args(argv)


def read(run_dir: Path) -> dict[int | None, dict[str, Predictions]]:
    """Predictions by seed, then by client; every seed has the same clients, sorted by name.

    Files without a server (settings without cost_flops) are passed over. ValueError where clients
    are missing in some seed, or two files are of one client and seed.
    """
    found: dict[int | None, dict[str, Predictions]] = defaultdict(dict)
    for path in saved.find(run_dir):
        one = saved.load(path)
        if "cost_flops" not in one.settings:
            continue
        seed, client = one.settings.get("seed"), one.settings["dataset"]
        if client in found[seed]:
            raise ValueError(f"{path} and {found[seed][client].source}: both {client}, seed {seed}")
        found[seed][client] = one
    if not found:
        raise ValueError(f"{run_dir}: no predictions with a server; python -m deferral.join first")
    everyone = sorted(set().union(*found.values()))
    for seed, clients in found.items():
        if missing := [name for name in everyone if name not in clients]:
            raise ValueError(f"{run_dir}: seed {seed} lacks {', '.join(missing)}")
    return {
        seed: {name: found[seed][name] for name in everyone}
        for seed in sorted(found, key=lambda seed: -1 if seed is None else seed)
    }


def measure(
    runs: dict[int | None, dict[str, Predictions]], cost: tuple[float, float]
) -> dict[str, Measured]:
    """Every rule's numbers, [seeds, clients] and shares [seeds, clients, S]."""
    per_seed = [refit(list(clients.values()), *cost) for clients in runs.values()]
    found = {}
    for rule in RULES:
        each = [seed[rule] for seed in per_seed]
        found[rule] = Measured(*(np.stack(values) for values in zip(*each, strict=True)))
    return found


def table(found: dict[str, Measured]) -> list[dict[str, Any]]:
    """Rows of COLUMNS, a rule each: means over clients, ± the standard deviation over seeds."""
    rows = []
    for rule in RULES:
        one, base = found[rule], found["shared"]
        differ = (one.risk - base.risk).mean(0)  # of each client, over seeds
        rows.append(
            {
                "label": LABELS[rule],
                "risk": _spread(one.risk.mean(1)),
                "worst": _spread(one.risk.max(1)),
                "difference": "–" if rule == "shared" else _spread((one.risk - base.risk).mean(1)),
                "better": "–"
                if rule == "shared"
                else f"{(differ < 0).sum()} / {(differ > 0).sum()} of {len(differ)}",
                "sent": _spread(one.shares[..., -1].mean(1), 100, 1),
                "accuracy": _spread(one.accuracy.mean(1), 100, 1),
            }
        )
    return rows


def _spread(values: np.ndarray, scale: float = 1, digits: int = 4) -> str:
    """ "0.4123 ± 0.0031", over seeds; one value alone without the ±."""
    text = f"{scale * values.mean() + 0.0:.{digits}f}"
    if len(values) > 1:
        text += f" ± {scale * values.std(ddof=1):.{digits}f}"
    return text.replace("-", "−")


def figure(found: dict[str, Measured], clients: list[str], title: str) -> Figure:
    """Risk and the share that is sent, client by client."""
    order = np.argsort(found["never"].risk.mean(0), kind="stable")
    fig, axes = style.panels(2, 2, 3.3)
    at = np.arange(len(order))
    for place, rule in enumerate(DRAWN):
        look = style.client_rule(rule, label=LABELS[rule])
        offset = 0.11 * (place - (len(DRAWN) - 1) / 2)
        for ax, values in zip(axes, (found[rule].risk, found[rule].shares[..., -1]), strict=True):
            if ax is axes[1] and rule in ("never", "always"):
                continue
            mean = values.mean(0)[order]
            bar = values.std(0, ddof=1)[order] if len(values) > 1 else None
            ax.errorbar(at + offset, mean, bar, **look)
    for ax, name in zip(axes, ("risk on test data", "share sent to the server"), strict=True):
        ax.set_xticks(at, [clients[k].rpartition("-")[2].lstrip("0") or "0" for k in order])
        ax.set(xlabel="client", ylabel=name)
        ax.set_ylim(bottom=0)
    style.finish(fig, title, 2)
    return fig


@experiment.script
def main(argv=None):
    args = parse_args(argv)
    with experiment.one_line_errors():
        runs = read(args.run_dir)
        found = measure(runs, (args.cost_1, args.cost_e))
    first = next(iter(runs.values()))
    one, clients = next(iter(first.values())), list(first)
    out = args.out or args.run_dir / "figures"
    seeds = f", mean ± standard deviation over {len(runs)} seeds" if len(runs) > 1 else ""
    whole = one.settings["cost_flops"] * one.settings["multiply_adds"][-1]
    about = (
        f"{len(clients)} clients, {one.settings.get('arch', 'device')} of "
        f"{len(one.stage_logits) - 1} exits each, server {one.settings.get('edge', 'unknown')}, "
        f"c_1 = {args.cost_1:g}, c_e = {args.cost_e:g}, the whole device costs {whole:.3g}{seeds}"
    )
    rows = table(found)
    caption = f"{about}. Thresholds from val, risk on test."
    print_table(rows, COLUMNS, caption)
    title = about.replace(", c_1", "\n$c_1$").replace("c_e", "$c_e$")
    paths = style.save(figure(found, clients, title), out, "client_risk")
    paths += write_table(rows, COLUMNS, out, "client_risk", caption)
    numbers = {
        "clients": clients,
        "seeds": list(runs),
        "cost_1": args.cost_1,
        "cost_e": args.cost_e,
        "cost_flops": one.settings["cost_flops"],
        "commit": one.settings.get("commit"),
        "hardware": one.settings.get("hardware"),
        "rules": {
            rule: {key: getattr(m, key).tolist() for key in Measured._fields}
            for rule, m in found.items()
        },
    }
    paths.append(out / "client_risk.json")
    experiment.write_bytes(paths[-1], (json.dumps(numbers, indent=1) + "\n").encode())
    for path in paths:
        print(path)


if __name__ == "__main__":
    main()
