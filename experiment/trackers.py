"""`--log_to`: copies the lines of metrics.jsonl to Weights & Biases or TensorBoard.

Both are optional (requirements-extra.txt). Nothing leaves the machine unless WANDB_MODE says so.
"""

import importlib
import os
import uuid
from pathlib import Path
from typing import Any

# The attribute that each package is used through. An import alone proves too little: Python takes a
# folder called wandb, which a run creates, for a package.
USED = {"wandb": ("wandb", "init"), "tensorboard": ("torch.utils.tensorboard", "SummaryWriter")}


class Mirror:
    """Logs the metrics of one run; a step is an epoch, counted from 1.

    The constructor writes nothing; it raises ValueError if the package is missing. An epoch is
    logged after its state is saved, so no epoch is logged twice after a resume; an epoch killed
    between the two is in metrics.jsonl only.
    """

    def __init__(self, kind: str):
        self.kind = kind
        module, name = USED[kind]
        try:
            self.open = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as e:
            raise ValueError(
                f"--log_to {kind}: {kind} cannot be imported ({e}); "
                "pip install -r requirements-extra.txt"
            ) from None
        self.writer: Any = None

    def start(self, save_dir: Path, stem: str, settings: dict[str, Any], epochs_done: int) -> None:
        """Open the log; with `epochs_done`, continue that of the run that is resumed.

        TensorBoard: events in SAVE_DIR/tensorboard/STEM; those of a replaced run are removed.
        wandb: SAVE_DIR/wandb, offline; a resumed run keeps its id in STEM.id, so that `wandb sync`
        makes one run of both halves.
        """
        if self.kind == "tensorboard":
            folder = save_dir / "tensorboard" / stem
            if not epochs_done:
                for events in folder.glob("events.out.tfevents.*"):
                    events.unlink()
            # TensorBoard drops steps from here on that older files may hold.
            self.writer = self.open(str(folder), purge_step=epochs_done + 1)
            return
        file = save_dir / "wandb" / f"{stem}.id"
        if not (epochs_done and file.exists()):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(uuid.uuid4().hex[:8])
        self.writer = self.open(
            project=os.environ.get("WANDB_PROJECT", "edge-cascades"),
            name=f"{save_dir.resolve().name}/{stem}",
            id=file.read_text(),
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            dir=str(save_dir),
            config=settings,
        )

    def log(self, epoch: int, metrics: dict[str, float]) -> None:
        if self.kind == "wandb":
            self.writer.log(metrics, step=epoch)
            return
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        if self.kind == "wandb":
            self.writer.finish()
        else:
            self.writer.close()
