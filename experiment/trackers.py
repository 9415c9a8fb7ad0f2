"""`--log_to`: what metrics.jsonl says, told to Weights & Biases or TensorBoard too.

Both are optional (requirements-extra.txt). Nothing leaves the machine unless WANDB_MODE says so.
"""

import importlib
import os
import uuid
from pathlib import Path
from typing import Any

# What each is used through. That it is there says more than that a module of the name is: a folder
# called wandb, as a run makes, is a package of that name to Python.
USED = {"wandb": ("wandb", "init"), "tensorboard": ("torch.utils.tensorboard", "SummaryWriter")}


class Mirror:
    """Metrics of one run, an epoch a step, counted from 1.

    Making it only looks: ValueError where the package is not there. `start` is the first thing
    that writes. An epoch is logged after its state has been saved, so a resumed run has logged no
    epoch that it runs again; one that a kill hits in between is in metrics.jsonl alone.
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
        """Begin, or with `epochs_done` go on with the same run.

        TensorBoard: events in SAVE_DIR/tensorboard/STEM; those of a run that is replaced are
        removed. wandb: SAVE_DIR/wandb, offline; both halves of a resumed run have one id, kept in
        STEM.id, so that `wandb sync` makes one run of them.
        """
        if self.kind == "tensorboard":
            folder = save_dir / "tensorboard" / stem
            if not epochs_done:
                for events in folder.glob("events.out.tfevents.*"):
                    events.unlink()
            # Steps from here on in older files are void, should there be any.
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
