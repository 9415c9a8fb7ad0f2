"""A device with exits and a server behind it: risk against the cost of asking, and who answers.

    python -m figures.exits_and_server results/runs/joined --cost_1 1.25

Takes the *-predictions.npz of deferral.join; several of one data set are runs of several seeds. Top
left, test risk of every rule over c_e; top right, the difference to the confidence rule of least
risk on val, with 95 % bootstrap intervals; below, the share of test samples that each
stage answers under those thresholds and under the optimum. The table has the means over all c_e.
"""

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import experiment
from deferral import predictions as saved
from deferral.catalogue import CONFIDENCE, RULES, looks
from deferral.compare import Comparison, compare
from deferral.decide import prepared
from deferral.predictions import Predictions
from figures import style
from figures.early_exit_runs import ARCHS
from figures.tables import Column, fixed, print_table, write_table

COST_E = tuple(round(0.05 * k, 2) for k in range(11))
COLUMNS = [
    Column("label", "rule"),
    Column("risk", "risk", fixed(4)),
    Column("risk_std", "± std", fixed(4)),
    Column("difference", "minus confidence", fixed(4)),
    Column("low", "low", fixed(4), group="95 % interval"),
    Column("high", "high", fixed(4), group="95 % interval"),
    Column("verdict", "verdict"),
    Column("sent", "sent %", fixed(1, 100)),
    Column("accuracy", "accuracy %", fixed(1, 100)),
    Column("multiply_adds", "device multiply-adds (1e6)", fixed(2, 1e-6)),
]


def parse_args(argv=None):
    parser = experiment.Parser(__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="holds *-predictions.npz")
    cost = experiment.number(float, 0)
    parser.add_argument("--cost_1", type=cost, default=1.25, help="cost of a server error")
    parser.add_argument("--cost_e", type=cost, nargs="+", default=COST_E, help="costs of asking")
    parser.add_argument(
        "--cost_flops", type=cost, help="cost of a multiply-add (default: the file's)"
    )
    parser.add_argument(
        "--draws", type=experiment.number(int, 1), default=1000, help="bootstrap draws"
    )
    parser.add_argument("--out", type=Path, help="where files go (default: RUN_DIR/figures)")
    return parser.parse_args(argv)


def read(run_dir: Path, cost_flops: float | None) -> dict[str, list[Predictions]]:
    """Predictions with a server, by data set; files of exits alone are skipped."""
    by_dataset = defaultdict(list)
    for path in saved.find(run_dir):
        one = saved.load(path)
        if "cost_flops" in one.settings:
            if cost_flops is not None:
                settings = one.settings | {"cost_flops": cost_flops}
                one = dataclasses.replace(one, settings=settings)
            by_dataset[one.settings["dataset"]].append(one)
    if not by_dataset:
        raise ValueError(f"{run_dir}: no predictions with a server; python -m deferral.join first")
    return dict(by_dataset)


def answers(runs: list[Predictions], costs: list[tuple[float, float]]) -> dict[str, np.ndarray]:
    """Share of test samples that each stage answers, mean over runs: [C, S] of every rule."""
    per_run: dict[str, list[np.ndarray]] = defaultdict(list)
    for run in runs:
        fits, stages = prepared(run), len(run.stage_logits)
        per_rule = defaultdict(list)
        for cost in costs:
            for name, decision in fits.decide(*cost).items():
                stage = fits.stage(decision)
                per_rule[name].append(np.bincount(stage, minlength=stages) / len(stage))
        for name, shares in per_rule.items():
            if len(shares) == len(costs):
                per_run[name].append(np.array(shares))
    return {name: np.mean(s, 0) for name, s in per_run.items() if len(s) == len(runs)}


def table(
    comparison: Comparison, shares: dict[str, np.ndarray], multiply_adds: list[int]
) -> list[dict[str, Any]]:
    """Rows of COLUMNS: means over all costs, of the rules that exist at each of them.

    A sample that is sent has passed the last exit, so it costs all multiply-adds of the device.
    """
    against, spent = comparison.against(), np.array([*multiply_adds, multiply_adds[-1]])
    rows = []
    for r, rule in enumerate(comparison.rules):
        if rule.name not in shares:
            continue
        rows.append(
            {
                "label": rule.label,
                "risk": comparison.risk[r, -1],
                "risk_std": comparison.risk_std[r, -1],
                "difference": against.difference[r, -1],
                "low": against.low[r, -1],
                "high": against.high[r, -1],
                "verdict": "–" if rule.name == against.reference else against.verdicts[r][-1],
                "sent": comparison.reject_rate[r, -1],
                "accuracy": comparison.accuracy[r, -1],
                "multiply_adds": float((shares[rule.name] @ spent).mean()),
            }
        )
    return rows


def figure(comparison: Comparison, shares: dict[str, np.ndarray], cost_e: list[float]) -> Figure:
    """Risk, differences, and the stages that answer under two rules."""
    fig, axes = style.panels(4, 2, 2.5)
    against = comparison.against()
    drawn = looks({rule.name: rule.kind for rule in comparison.rules})
    for r, rule in enumerate(comparison.rules):
        rival = rule.name in CONFIDENCE and rule.name != comparison.best_confidence
        if rule.name not in shares or rival or rule.name.startswith("exit "):
            continue  # shown in the table only, to keep the panel legible
        look = style.line(drawn[rule.name], rule.label)
        axes[0].plot(cost_e, comparison.risk[r, :-1], **look)
        fitted = rule.kind in ("confidence", "estimates", "rejector")
        if fitted and rule.name != comparison.best_confidence:
            axes[1].plot(cost_e, against.difference[r, :-1], **look)
            between = against.low[r, :-1], against.high[r, :-1]
            axes[1].fill_between(cost_e, *between, color=look["color"], alpha=0.15, linewidth=0)
    axes[1].axhline(0, **style.rule(comparison.best_confidence, marker="", label="_"))
    axes[0].set(ylabel="risk on test data", ylim=(0, None))
    axes[1].set(ylabel=f"risk minus {RULES[comparison.best_confidence].label}'s")
    for ax, name in zip(axes[2:], (comparison.best_confidence, "optimum"), strict=True):
        stacked(ax, shares[name], cost_e)
        ax.set_title(f"who answers: {RULES[name].label}")
        if len(cost_e) == 1:
            ax.set_xlim(cost_e[0] - 0.5, cost_e[0] + 0.5)
    for ax in axes:
        style.cost_axis(ax, list(cost_e))
    return fig


def stacked(ax: Axes, shares: np.ndarray, cost_e: list[float]) -> None:
    """The shares [C, S] of the stages, stacked, the server's on top."""
    exits = shares.shape[1] - 1
    colors = [*style.shades(exits), style.WRONG]
    labels = [f"exit {k + 1}" for k in range(exits)] + ["server"]
    ax.set(ylabel="share of samples", ylim=(0, 1))
    if len(cost_e) > 1:
        ax.stackplot(cost_e, shares.T, colors=colors, labels=labels, linewidth=0)
        ax.set_xlim(min(cost_e), max(cost_e))
        return
    for k, share in enumerate(shares[0]):
        below = shares[0, :k].sum()
        ax.bar(cost_e, share, bottom=below, color=colors[k], label=labels[k], width=0.2)


def draw(runs: list[Predictions], out: Path, args) -> list[Path]:
    """NAME-exits_and_server as .pdf, .png, .md, .tex and .csv."""
    one, cost_e = runs[0], sorted(set(args.cost_e))
    costs = [(args.cost_1, price) for price in cost_e]
    comparison, shares = compare(runs, costs, args.draws), answers(runs, costs)
    settings = one.settings
    rows = table(comparison, shares, settings["multiply_adds"])
    seeds = f", {len(runs)} seeds" if len(runs) > 1 else f", seed {settings.get('seed')}"
    about = (
        f"{settings['dataset']}: {ARCHS.get(str(settings.get('arch')), 'device')} with "
        f"{len(one.stage_logits) - 1} exits, server {settings.get('edge', 'unknown')}{seeds}, "
        f"{style.tested(one)}"
    )
    whole = settings["cost_flops"] * settings["multiply_adds"][-1]
    price = f"c_1 = {args.cost_1:g}, the whole device costs {whole:.3g}"
    caption = (
        f"{about}. Mean over c_e = {', '.join(f'{c:g}' for c in cost_e)}; {price}. Fitted on val; "
        f"differences are to {comparison.best_confidence}, {comparison.level:.0%} paired bootstrap."
    )
    print_table(rows, COLUMNS, caption)
    fig = figure(comparison, shares, cost_e)
    style.finish(fig, f"{about}\n{price}".replace("c_1", "$c_1$"), 4)
    name = f"{settings['dataset']}-exits_and_server"
    return style.save(fig, out, name) + write_table(rows, COLUMNS, out, name, caption)


@experiment.script
def main(argv=None):
    args = parse_args(argv)
    with experiment.one_line_errors():
        by_dataset = read(args.run_dir, args.cost_flops)
        for runs in by_dataset.values():
            for path in draw(runs, args.out or args.run_dir / "figures", args):
                print(path)


if __name__ == "__main__":
    main()
