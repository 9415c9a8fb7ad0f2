"""Every file name of a run directory.

DATASET-localnet.pth, .json            train_localnet.py
DATASET-edgenet.pth, .json             train_edgenet_async.py: the edge net
DATASET-edgenet-....pth                a rejector for each setting (learning_to_help.settings)
DATASET-losses.npz                     training losses; -2 and so on for settings added later
DATASET-rejector-INPUT[-NET].pth       train_rejector.py; its result is DATASET-rejector.json
DATASET-ARCH.pth, .json                early_exit.train
DATASET-predictions.npz                eval_all.py and early_exit.eval
DATASET-eval_all.json, -eval_extra.json, DATASET-eval.json, DATASET-infer.json
"""

from __future__ import annotations

import glob
from pathlib import Path

PREDICTIONS = "*-predictions.npz"  # a glob for the predictions of any data set


class RunPaths:
    """The files of one data set in a run directory."""

    def __init__(self, directory: str | Path, dataset: str):
        self.dir, self.dataset = Path(directory), dataset

    def stem(self, kind: str) -> str:
        """DATASET-KIND, the stem of an `experiment.Run`: localnet, edgenet, eval_all, ..."""
        return f"{self.dataset}-{kind}"

    def checkpoint(self, kind: str) -> Path:
        return self.dir / f"{self.stem(kind)}.pth"

    def result(self, kind: str) -> Path:
        return self.dir / f"{self.stem(kind)}.json"

    @property
    def local(self) -> Path:
        return self.checkpoint("localnet")

    @property
    def edge(self) -> Path:
        return self.checkpoint("edgenet")

    @property
    def predictions(self) -> Path:
        return self.dir / f"{self.stem('predictions')}.npz"

    def losses(self, edge_stem: str) -> Path:
        """The losses of a run of the edge net; those of DATASET-edgenet-2 end in -2."""
        number = edge_stem.removeprefix(self.stem("edgenet"))
        return self.dir / f"{self.stem('losses')}{number}.npz"

    def find(self, pattern: str) -> list[Path]:
        """The files DATASET-PATTERN, sorted, without the states of incomplete runs.

        Wildcards in the data set's name are escaped.
        """
        paths = self.dir.glob(self.pattern(pattern))
        return sorted(path for path in paths if not path.name.endswith("-state.pth"))

    def pattern(self, pattern: str) -> str:
        """DATASET-PATTERN as a glob within the directory."""
        return f"{glob.escape(self.dataset)}-{pattern}"

    def settings(self) -> list[Path]:
        """The checkpoints of the edge net's settings, native or the release's, sorted."""
        return self.find("edgenet-*.pth")

    def rejectors(self) -> list[Path]:
        """The checkpoints of train_rejector.py, sorted."""
        return self.find("rejector-*.pth")
