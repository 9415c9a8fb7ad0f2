"""Test samples that the page shows: pictures that a rule keeps and sends, and texts by model."""

from typing import Any

import numpy as np

from deferral.cascade import evenly
from deferral.decide import Decision, answered_by
from deferral.predictions import Predictions

SHOWN_PICTURES = 16  # of each side
SHOWN_TEXTS = 6  # of each model


def texts(run: Predictions, stage: np.ndarray) -> list[dict[str, Any]]:
    """Samples of a file with a text or id, evenly over those that each model answers.

    stage [N] of the test rows. quality: of each model, 0..1. Empty where the file has no text.
    """
    test = run.part("test")
    if test.own is None or test.own.text is None:
        return []
    shown = []
    for k, model in enumerate(run.settings["models"]):
        places = np.flatnonzero(stage == k)
        shown += [
            {
                "model": model,
                "row": int(test.index[place]),
                "text": test.own.text[place],
                "quality": [float(q) for q in test.own.quality[:, place]],
            }
            for place in evenly(places, SHOWN_TEXTS)
        ]
    return shown


def pictures(run: Predictions, decision: Decision) -> dict[str, Any] | None:
    """Which example pictures of a run the page shows: evenly over those kept, and those sent."""
    test, stop = answered_by(run.part("test"), decision.exit), decision.stop
    if test.examples is None or not test.stage_logits.shape[-1]:
        return None
    names = [str(name) for name in run.settings["classes"]]
    answers = test.stage_logits.argmax(-1)
    sent = stop[test.examples.rows] > 0
    shown = []
    for side, members in (("kept", ~sent), ("sent", sent)):
        for example in evenly(np.flatnonzero(members), SHOWN_PICTURES):
            row = test.examples.rows[example]
            picture = {"side": side, "example": int(example), "index": int(test.index[row])}
            picture["class"] = names[test.labels[row]]
            for stage, net in enumerate(("local", "remote")):
                picture[net] = names[answers[stage, row]]
                picture[f"{net}_quality"] = float(test.correct[stage, row])
            if len(run.correct) > 2:
                picture["exit"] = int(decision.exit[row]) + 1
            shown.append(picture)
    return {
        "count": len(sent),
        "kept_count": int((~sent).sum()),
        "sent_count": int(sent.sum()),
        "shown": shown,
    }
