"""Made-up results of active learning, with the structure of real ones."""

import json

import numpy as np

GAIN = {"random": 0, "DIAM": 1.2, "risk": 0.8, "coreset": -0.6, "CAL": 0.4}


def write_round(root, *, dataset="digits", method="random", round_=0, model_num=2, seed=1,
                unseen=1, n=60, classes=5, step=20, skill=0.5, cost_1=1.25, cost_e=0.25,
                like=None, names=(), change=lambda result, arrays: None):  # fmt: skip
    """Write one round; returns (result, arrays). `change` may spoil both before they are written.

    A sample has a difficulty of its own, seen by all nets; labels, a better method and later nets
    make more of them right. Round 0 is the same for every method; `like` makes all the same as
    those of that method.
    """
    shared = np.random.default_rng(7)
    labels, hard = shared.integers(0, classes, n), shared.normal(size=n)
    index = shared.permutation(10 * n)[:n]
    code = 0 if round_ == 0 else 1 + sum(map(ord, like or method))
    rng = np.random.default_rng([seed, round_, code, model_num])
    names = [*names] or [f"net{t}" for t in range(model_num)]
    names += [f"other{u}" for u in range(unseen)]
    bonus = np.roll(np.linspace(0, 0.5, len(names)), model_num)  # unseen nets are the worst
    skill = skill + 0.5 * np.log1p(round_) + bonus[:, None]
    skill = skill + GAIN.get(like or method, 0.1) * 0.15 * min(round_, 2) + 0.05 * rng.normal()
    right = skill - hard + 0.7 * rng.normal(size=(len(names), n)) > 0
    predicted = np.where(right, labels, (labels + rng.integers(1, classes, right.shape)) % classes)
    sent = hard + rng.normal(size=n) > 0.8
    cost = np.where(sent, cost_e + cost_1 * ~right[model_num - 1], ~right[0]).astype(float)
    nets = [
        {
            "net_id": i,
            "name": name,
            "parameters": 1000 * (i + 1),
            "multiply_adds": 10000 * (i + 1),
            "top1": float(right[i].mean()),
            "top5": float(0.5 + right[i].mean() / 2),
            "val_top1": float(right[i].mean()),
        }
        for i, name in enumerate(names)
    ]
    result = {
        "dataset": dataset,
        "method": method,
        "round": round_,
        "model_num": model_num,
        "seed": seed,
        "labelled": step * (2 + round_),
        "batch_size": step,
        "classes": classes,
        "targets": nets[:model_num],
        "unseen": nets[model_num:],
        "cascade": {
            "local": 0,
            "edge": model_num - 1,
            "cost_1": cost_1,
            "cost_e": cost_e,
            "risk": float(cost.mean()),
            "never": float((~right[0]).mean()),
            "always": float(cost_e + cost_1 * (~right[model_num - 1]).mean()),
            "oracle": 0.1,
            "reject_rate": float(sent.mean()),
        },
        "train_seconds": 10.0 + round_,
        "select_seconds": None if round_ == 0 else 0.5 * round_,
        "commit": "0" * 40,
        "hardware": "a test",
    }
    arrays = {
        "labels": labels,
        "predicted": predicted.astype(np.int16),
        "cost": cost,
        "index": index,
    }
    text = "".join(f"{100 * net['top1']:.4f} {100 * net['top5']:.4f}\n" for net in nets[:model_num])
    change(result, arrays)
    folder = root / "extracted_results" / str(model_num) / dataset / method / str(round_)
    folder.mkdir(parents=True)
    (folder / "performances.txt").write_text(text)
    np.savez(folder / "answers.npz", **arrays)
    (folder / "performances.json").write_text(json.dumps(result))
    return result, arrays


def write_study(root, methods=("random", "DIAM", "risk"), seeds=(1, 2, 3), rounds=range(4), **more):
    """Rounds of several methods and seeds in root/seed-N; {(method, seed, round): result, arrays}.

    methods may be a dict of the seeds that each has.
    """
    whose = methods if isinstance(methods, dict) else dict.fromkeys(methods, seeds)
    return {
        (method, seed, r): write_round(
            root / f"seed-{seed}", method=method, seed=seed, round_=r, **more
        )
        for method, has in whose.items()
        for seed in has
        for r in rounds
    }
