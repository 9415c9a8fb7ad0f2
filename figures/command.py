"""The command line of every figure: find the predictions of a folder, draw each data set."""

import argparse
from collections.abc import Callable
from pathlib import Path

import experiment
from deferral import predictions as saved
from deferral.predictions import Predictions


class NotDrawn(Exception):
    """This figure has nothing to show for these predictions: said in one line, not an error."""


def command(
    doc: str, draw: Callable[..., list[Path]], *, one_setting: bool = False
) -> Callable[[list[str] | None], None]:
    """The `main` of a figure.

    draw(predictions, out, name) writes the files of one data set, named `name` and more, into
    `out`, and returns their paths. With `one_setting` it also takes cost_1 and cost_e. Bad input
    ends in one line and status 2 before anything is written.
    """

    @experiment.script
    def main(argv: list[str] | None = None) -> None:
        parser = experiment.Parser(doc)
        parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="holds *-predictions.npz")
        # SUPPRESS: a flag that is not given is left to `draw` and its own default.
        left_out = {"default": argparse.SUPPRESS}
        parser.add_argument(
            "--out", type=Path, help="where files go (default: RUN_DIR/figures)", **left_out
        )
        if one_setting:
            for flag, near in (("--cost_1", 1.25), ("--cost_e", 0.25)):
                parser.add_argument(
                    flag,
                    type=experiment.number(float, 0),
                    help=f"of the setting to show (default: the nearest to {near})",
                    **left_out,
                )
        flags = vars(parser.parse_args(argv))
        run_dir = flags.pop("run_dir")
        out = flags.pop("out", run_dir / "figures")
        with experiment.one_line_errors():
            loaded = read(run_dir)
        for name, predictions in loaded.items():
            try:
                for path in draw(predictions, out, name, **flags):
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
