"""Every table and figure that the predictions in a folder give, the table for the eye last.

python -m figures RUN_DIR [--out DIR]
"""

import importlib

import experiment

NAMES = (
    "reject_rate",
    "risk",
    "loss_curves",
    "bounded_rate",
    "examples",
    "stage_table",
    "summary_table",
)


def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="holds *-predictions.npz")
    parser.add_argument("--out", help="where files go; RUN_DIR/figures if not given")
    args = parser.parse_args(argv)
    flags = [args.run_dir, *(["--out", args.out] if args.out else [])]
    for name in NAMES:
        importlib.import_module(f"figures.{name}").main(flags)


if __name__ == "__main__":
    main()
