"""Made-up files of answers for tests of what a report chooses and of its policy."""

import json

import numpy as np

from deferral.report import __main__ as report


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def table(n=400, models=2, seed=0, classes=4, scores=False, costs=False, rejector=False):
    """Columns of models that are better the later they come; class scores, or one score each."""
    rng = np.random.default_rng(seed)
    names = ["small", "middle", "large", "huge"][: models - 1] + ["large" if models < 4 else "huge"]
    labels, easy = rng.integers(0, classes, n), rng.normal(size=n)
    columns = {"label": labels}
    for k, name in enumerate(names):
        strength = 0.8 + 1.2 * k + 0.7 * easy
        logits = rng.normal(size=(n, classes)) + strength[:, None] * np.eye(classes)[labels]
        if scores:
            columns[f"answer_{name}"] = logits.argmax(1)
            columns[f"score_{name}"] = softmax(logits).max(1)
        elif k < models - 1:
            columns |= {f"{name}_{c}": column for c, column in enumerate(softmax(logits).T)}
        else:
            columns[f"answer_{name}"] = logits.argmax(1)
        if costs:
            columns[f"cost_{name}"] = 0.01 * 5.0**k * rng.uniform(0.5, 1.5, n)
        if rejector and k == 0:
            columns["rejector_router"] = 1 - softmax(logits).max(1)
    columns["split"] = np.where(rng.permutation(n) < n // 2, "val", "test")
    return columns


def write(path, columns):
    rows = [",".join(columns)]
    for row in zip(*columns.values(), strict=True):
        rows.append(",".join(repr(x.item()) if isinstance(x, np.floating) else str(x) for x in row))
    path.write_text("\n".join(rows) + "\n")
    return path


def reported(path, *flags, draws=40):
    """The JSON and the policy (None: there is none) of a file's report."""
    out = path.parent / "out"
    argv = [path, "--draws", draws, "--out", out / "a.html", "--overwrite", *flags]
    report.main([str(a) for a in argv])
    policy = out / "a-policy.json"
    found = json.loads((out / "a.json").read_text())
    return found, json.loads(policy.read_text()) if policy.exists() else None
