"""Counts of a two-stage cascade in the JSON layout of the L2H release.

    edge                  {total, correct, labels_map: {class: {total, correct}}}
    both, both_inverted   {total, correct, predict_locally, predict_remotely, labels_map: {class:
                          {local_correct, local_total, remote_correct, remote_total}}}

`both_inverted` is the same with every decision flipped: m on the samples that were sent, e on those
that were kept. Classes are label numbers as strings, because JSON keys are strings.
"""

import numpy as np
from numpy.typing import NDArray


def stage_counts(labels: NDArray, correct: NDArray, num_classes: int) -> dict:
    """One stage that answers everything. labels [N] in 0..K-1, correct [N] bool."""
    total = np.bincount(labels, minlength=num_classes).tolist()
    right = np.bincount(labels[correct], minlength=num_classes).tolist()
    labels_map = {
        str(k): {"total": total[k], "correct": right[k]} for k in range(num_classes) if total[k]
    }
    return {"total": len(labels), "correct": int(correct.sum()), "labels_map": labels_map}


def cascade_counts(labels: NDArray, correct: NDArray, stop: NDArray, num_classes: int) -> dict:
    """Two stages and a decision. correct [2, N] bool, stop [N] with 0 LOCAL and 1 REMOTE."""
    remote = stop == 1
    kept = stage_counts(labels[~remote], correct[0, ~remote], num_classes)
    sent = stage_counts(labels[remote], correct[1, remote], num_classes)
    none = {"total": 0, "correct": 0}
    labels_map = {}
    for k in map(str, range(num_classes)):
        local, edge = kept["labels_map"].get(k, none), sent["labels_map"].get(k, none)
        if local["total"] + edge["total"]:
            labels_map[k] = {
                "local_correct": local["correct"],
                "local_total": local["total"],
                "remote_correct": edge["correct"],
                "remote_total": edge["total"],
            }
    return {
        "total": len(labels),
        "correct": kept["correct"] + sent["correct"],
        "predict_locally": kept["total"],
        "predict_remotely": sent["total"],
        "labels_map": labels_map,
    }
