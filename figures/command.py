"""The command line of every figure: read the predictions in a folder, draw each data set."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import experiment
from deferral import predictions as saved
from deferral.predictions import Predictions

DEFAULT = (1.25, 0.25)  # cost_1 and cost_e of the paper's single-setting results


class NotDrawn(Exception):
    """A figure has nothing to show for these predictions: the command prints why and goes on."""


def command(
    doc: str | None, *draws: Callable[..., list[Path]], choose: Callable[..., object] | None = None
) -> Callable[..., None]:
    """The `main` of one or more figures.

    draw(predictions, out, name) writes the files of one data set, named `name` and more, into
    `out`, and returns their paths. With `choose` it also takes cost_1 and cost_e, and
    choose(predictions, cost_1, cost_e) fails where no setting has these costs. It is called for all
    data sets first: such costs, as predictions that cannot be read, end in one line and status 2
    before anything is written.
    """

    @experiment.script
    def main(argv: Sequence[str] | None = None) -> None:
        parser = experiment.Parser(doc)
        parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="holds *-predictions.npz")
        parser.add_argument("--out", type=Path, help="where files go (default: RUN_DIR/figures)")
        costs = dict(zip(("cost_1", "cost_e"), DEFAULT, strict=True)) if choose else {}
        for cost, near in costs.items():
            parser.add_argument(
                f"--{cost}",
                type=experiment.number(float, 0),
                help=f"{cost} of the setting to show (default: the nearest to {near})",
            )
        args = parser.parse_args(argv)
        out, at = args.out or args.run_dir / "figures", [getattr(args, cost) for cost in costs]
        with experiment.one_line_errors():
            loaded = read(args.run_dir)
        if choose:
            for predictions in loaded.values():
                with contextlib.suppress(NotDrawn):
                    choose(predictions, *at)
        for draw in draws:
            for name, predictions in loaded.items():
                try:
                    for path in draw(predictions, out, name, *at):
                        print(path)
                except NotDrawn as reason:
                    print(f"{name}: not drawn: {reason}")

    return main


def read(run_dir: Path) -> dict[str, Predictions]:
    """Every data set of a folder by the name its files get, each with val and test rows.

    The name is the file's (cifar10-predictions.npz: cifar10), with the folders below `run_dir`
    in front where two files share it. ValueError or OSError for files that cannot be used.
    """
    paths = saved.find(run_dir)
    names = [path.name.removesuffix("-predictions.npz") for path in paths]
    loaded = {}
    for path, name in zip(paths, names, strict=True):
        if names.count(name) > 1:
            name = "-".join([*path.relative_to(run_dir).parent.parts, name])
        loaded[name] = predictions = saved.load(path)
        if len(predictions.stage_logits) != 2:
            raise ValueError(f"{path}: figures need 2 stages, local and edge")
        for split in saved.SPLITS:
            predictions.part(split)
    return loaded
