"""When does a rejector pay? ResNet-20 and ResNet-56 on CIFAR-10 under several regimes.

    python -m results.when_it_pays results/runs/pair-answers when.json

The folder is that of results.pair_answers --corrupted. After Jitkrittum et al. (NeurIPS 2023), When
Does Confidence-Based Cascade Deferral Suffice?: a threshold on the local net's confidence suffices
where the server is good everywhere, and not with a specialist server, label noise or other test
data. Everything is fitted on one half of the pictures and measured on the other; a seed draws which
pictures of the first half train the rejectors' student.

    good          both nets as they are
    specialist    the server knows KNOWN only: its logits of the other classes are cut
    blind         the local net never saw UNSEEN: its logits of them are cut; its features are still
                  of a net that saw them
    label noise   40 % of the labels of NOISY are drawn anew, in both halves
    noise, blur, contrast, 1, 3 and 5    corrupted pictures; fitted on clean ones
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import experiment
from results import fitted_pair
from results.fitted_pair import Answers
from results.pair_answers import CORRUPTIONS

KNOWN = (0, 1, 2, 3, 4)
UNSEEN = (8, 9)
NOISY, NOISE = (2, 3, 4, 5), 0.4
CUT = -50.0  # a logit that no class wins by


def cut(logits: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """Logits [N, K] of a net that never answers these classes."""
    logits = logits.copy()
    logits[:, classes] = CUT
    return logits


def drawn_anew(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels [N], a share NOISE of those of NOISY drawn anew from all classes."""
    rng = np.random.default_rng(0)
    change = np.isin(labels, NOISY) & (rng.random(len(labels)) < NOISE)
    return np.where(change, rng.integers(0, classes, len(labels)), labels)


def changed(clean: Answers) -> dict[str, Answers]:
    """The answers of each regime without corrupted pictures."""
    classes = clean.remote.shape[1]
    unknown = tuple(k for k in range(classes) if k not in KNOWN)
    return {
        "good": clean,
        "specialist": clean._replace(remote=cut(clean.remote, unknown)),
        "blind": clean._replace(local=cut(clean.local, UNSEEN)),
        "label noise": clean._replace(labels=drawn_anew(clean.labels, classes)),
    }


def study(clean: Answers, corrupted: dict[str, Answers], seeds: list[int]) -> dict[str, dict]:
    """`fitted_pair.summary` by regime. corrupted: the measured half, by corruption."""
    parts = {name: fitted_pair.halves(answers) for name, answers in changed(clean).items()}
    found = {}
    for name, (half, test) in parts.items():
        fits = [fitted_pair.fit(half, seed) for seed in seeds]
        tests = {name: test} | (corrupted if name == "good" else {})
        for regime, answers in tests.items():
            runs = [fitted_pair.decided(fit, half, answers) for fit in fits]
            found[regime] = fitted_pair.summary(runs)
            print(f"{regime}: decided, {len(seeds)} runs", flush=True)
    return {name: found[name] for name in (*parts, *corrupted)}


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("answers", metavar="DIR", type=Path, help="by results.pair_answers")
    parser.add_argument("out", metavar="OUT.json", type=Path, help="the file to write")
    fitted_pair.add_seeds(parser)
    args = parser.parse_args(argv)
    with experiment.one_line_errors():
        clean = fitted_pair.read(args.answers / "clean.npz")
        corrupted = {
            name.replace("-", " "): fitted_pair.read(args.answers / f"{name}.npz")
            for name in CORRUPTIONS
        }
        fitted_pair.write_study(
            args.out, args.seeds, lambda: {"regimes": study(clean, corrupted, args.seeds)}
        )


if __name__ == "__main__":
    main()
