"""Half of a data set's test images as train, the other half as test, for networks that saw train.

    python -m results.halved_test cifar10 results/runs/cifar10-resnets/cifar10-held.npz

Rejectors and thresholds may not be fitted on images that the networks were trained on: they are
right too often there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import data
import experiment

SPLIT_SEED = 0


def half_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `count` test images that train and that test get, each in ascending order."""
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def halves(dataset: data.Dataset) -> dict[str, np.ndarray]:
    """x_train, y_train, x_test, y_test, classes as data.npz reads them; images [N, H, W, C]."""
    arrays: dict[str, np.ndarray] = {"classes": np.array(dataset.classes)}
    for part, rows in zip(("train", "test"), half_rows(len(dataset.test.labels)), strict=True):
        arrays[f"x_{part}"] = dataset.test.images.numpy()[rows].transpose(0, 2, 3, 1)
        arrays[f"y_{part}"] = dataset.test.labels.numpy()[rows]
    return arrays


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("dataset", metavar="DATASET", help="a name, folder or .npz of data.load")
    parser.add_argument("out", metavar="OUT.npz", type=Path, help="the file to write")
    parser.add_argument("--data_root", type=Path, default=Path("data_root"), help="see data.load")
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        if args.out.exists():
            raise ValueError(f"{args.out}: exists; delete it first")
        arrays = halves(data.load(args.dataset, args.data_root, 0.1, 0))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        experiment.write_npz(args.out, **arrays)


if __name__ == "__main__":
    main()
