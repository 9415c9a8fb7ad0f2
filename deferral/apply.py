"""Decide for new samples by a policy of deferral.report; no labels are needed.

  python -m deferral.apply results/published/router-made-up/policy.json \\
      results/published/router-made-up/answers.csv.gz --out results/runs/decisions.csv
  python -m deferral.apply results/published/router-made-up/policy.json \\
      results/published/router-made-up/answers.csv.gz --check
  python -m deferral.apply results/published/cifar10-people/policy.json \\
      results/published/cifar10-people/people.csv.gz --check --out results/runs/people.csv

The file has the columns that the policy reads (class scores, score_NAME or rejector_RULE; see
docs/report.md). decisions.csv has a row a sample: id (the column id, or the row from 0), the model
that answers, and the doubt of each model that was looked at, in the unit of the policy's
thresholds: a sample goes on where its doubt is above the threshold. --check compares the share of
samples that each model answers, and the doubts' distribution, with those of the report's test rows:
exit status 1, and what differs, where a difference as large is rarer than 1 in 1,000 by chance.
"""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import bdtrc

from deferral import cells
from deferral import policy as policies
from deferral.cascade import Scores
from deferral.classes import as_words
from deferral.columns import Roles, find_roles
from deferral.external import is_native
from deferral.file_models import scores_of
from deferral.policy import Policy, counted
from deferral.predictions import load as load_native
from deferral.table import Columns, read
from experiment import Parser, one_line_errors, script, write_bytes

RARE = 1e-3
LEAST = 5.0  # samples expected in a bin of a chi-squared test


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__, "deferral.apply")
    parser.add_argument("policy", type=Path, help="policy.json of a report")
    parser.add_argument("file", type=Path, help="new samples: CSV, TSV, JSON lines, Parquet, npz")
    parser.add_argument("--out", type=Path, metavar="CSV", help="where decisions are written")
    parser.add_argument("--check", action="store_true", help="compare with what was promised")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    args = parser.parse_args(argv)
    if args.out is None and not args.check:
        parser.error("give --out, --check or both")
    return args


def load_scores(path: str | Path, policy: Policy) -> Scores:
    """Class scores and scores of the policy's models, and all rejectors.

    Of a predictions.npz of this project: the logits of its stages. FileNotFoundError, and
    ValueError, one line that names the file.
    """
    if is_native(path):
        stages, models = load_native(path), policy.models
        if len(stages.stage_logits) != len(models):
            raise ValueError(f"{path}: has {len(stages.stage_logits)} stages, not those of a policy"
                             f" of {', '.join(models)}")  # fmt: skip
        logits = dict(zip(models, stages.stage_logits, strict=True))
        n = len(stages.labels)
        return Scores(n, logits, {}, {}, [str(row) for row in range(n)], n)
    columns, _ = read(path)
    try:
        return _scores(columns, find_roles(columns, policy.models), policy)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from None


def _scores(columns: Columns, roles: Roles, policy: Policy) -> Scores:
    names = {name.lower(): name for name in policy.models}
    logits, score = {}, {}
    for spelt in roles.models:
        model = names.get(spelt.lower())
        if model in policy.forms:
            if spelt in roles.classes and model in policy.classes:
                by_class = {label.lower(): name for label, name in roles.classes[spelt].items()}
                order = policy.classes[model]
                if absent := [label for label in order if label.lower() not in by_class]:
                    raise ValueError(f"has no column {model}_{absent[0]}")
                roles.classes[spelt] = {label: by_class[label.lower()] for label in order}
            if found := scores_of(spelt, columns, roles, policy.forms[model]):
                logits[model] = np.where(np.isnan(found[0]), found[0].dtype.type(0), found[0])
        if model is not None and "score" in roles.models[spelt]:
            values = cells.numbers(columns, roles.models[spelt]["score"])
            score[model] = -values if model in policy.negated else values
    rejectors = cells.rejectors(columns, roles)
    lengths = {len(values) for of in (logits, score, rejectors) for values in of.values()}
    n = lengths.pop() if lengths else max(map(len, columns.values()))
    if lengths:
        raise ValueError(f"its columns have {n} and {lengths.pop()} rows")
    ids, group = roles.single.get("id"), roles.single.get("group")
    return Scores(
        samples=n,
        logits=logits,
        score=score,
        rejectors=rejectors,
        ids=cells.texts(columns[ids]) if ids else [str(row) for row in range(n)],
        groups=len(as_words(columns[group]).unique) if group else n,
    )


def drift(policy: Policy, stage: np.ndarray, doubt: np.ndarray, groups: int) -> list[str]:
    """What differs from the report's test rows by more than chance, in words; empty for nothing.

    stage [N], doubt [E - 1, N] and the number of groups of the new samples.
    """
    expected, found = policy.expected, []
    shares = np.array(expected["shares"])
    counts = np.bincount(stage, minlength=len(policy.models))
    bins = expected.get("bins", [])
    promised = (policy.promise or {}).get("max_reject_rate", 1.0)
    rare = RARE / (1 + len(bins) + (promised < 1))
    # Samples of a group say the same: they count as one.
    then, now = expected["groups"] / expected["samples"], groups / len(stage)
    if _chance(then * shares * expected["samples"], now * counts) < rare:
        rows = zip(policy.models, shares, counts / len(stage), strict=True)
        parts = [f"{model} {100 * a:.1f} %, now {100 * b:.1f} %" for model, a, b in rows]
        found.append(f"shares: {'; '.join(parts)}")
    for model, before, row in zip(policy.models, bins, doubt, strict=False):
        new = counted(row, np.array(before["edges"]))
        if _chance(then * np.array(before["counts"]), now * new) < rare:
            found.append(f"doubts of {model}: distributed differently (chi-squared)")
    # The chance that so many of the groups are sent, or more, where the promise just holds.
    sent = np.floor(now * counts[-1])
    if promised < 1 and sent and bdtrc(sent - 1, groups, promised) < rare:
        rate = counts[-1] / len(stage)
        found.append(f"sent: {100 * rate:.1f} %, promised at most {100 * promised:g} %")
    return found


def _chance(before: np.ndarray, now: np.ndarray) -> float:
    """The probability of counts [B] this different or more, if both are of one distribution.

    Pearson's chi-squared test, over neighbours taken together until LEAST are expected in each;
    Fisher's exact test of two bins.
    """
    from scipy.stats import chi2_contingency, fisher_exact

    table = np.stack([before, now])
    if len(before) > 2:
        least = table.sum(0) * table.sum(1).min() / table.sum()  # expected in the smaller sample
        place = np.floor(np.cumsum(least) / LEAST - 1e-9).astype(int)
        place = np.unique(
            np.minimum(place, max(0, int(least.sum() // LEAST) - 1)), return_inverse=True
        )[1]
        table = np.stack([np.bincount(place, row) for row in table])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2:
        return 1.0
    if table.shape[1] == 2:
        return float(fisher_exact(np.round(table)).pvalue)
    return float(chi2_contingency(table).pvalue)


def table(policy: Policy, ids: list[str], stage: np.ndarray, doubt: np.ndarray) -> str:
    """decisions.csv."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    looked = policy.models[: len(doubt)]
    writer.writerow(["id", "model", *(f"doubt_{model}" for model in looked)])
    for name, model, *values in zip(ids, stage, *doubt, strict=True):
        writer.writerow([name, policy.models[model], *(repr(float(value)) for value in values)])
    return file.getvalue()


@script
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    with one_line_errors():
        policy = policies.load(args.policy)
        if args.out is not None and args.out.exists() and not args.overwrite:
            raise ValueError(f"{args.out}: exists; --overwrite replaces it")
        scores = load_scores(args.file, policy)
        try:
            stage, doubt = policies.decide(policy, scores)
        except ValueError as e:
            raise ValueError(f"{args.file}: {e}") from None
        if args.out is not None:
            write_bytes(args.out, table(policy, scores.ids, stage, doubt).encode())
    shares = np.bincount(stage, minlength=len(policy.models)) / len(stage)
    print(", ".join(f"{m} {100 * s:.1f} %" for m, s in zip(policy.models, shares, strict=True)))
    if not args.check:
        return 0
    found = drift(policy, stage, doubt, scores.groups)
    print("\n".join(found) if found else "no drift is shown")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
