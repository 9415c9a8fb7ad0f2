"""A made-up file of a small and a large language model, for the report's worked example.

    python -m results.made_router_file results/runs/answers/router.csv.gz

Prompts differ in topic, difficulty and length. Each is asked one to three times (column group), and
both models answer. quality_* is a judge's grade in 0..1, in steps of 0.05: it falls with the
prompt's difficulty, faster for the small model, and by the topic; the judge adds noise. cost_* is
in dollars, by tokens of the prompt and of the answer, at a price per million tokens. score_small is
a router's guess of how well the small model will do: it knows topic and length, and the difficulty
with noise. No model answered anything: the numbers show what the report does, and nothing about
language models.
"""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import numpy as np

import experiment

Row = dict[str, str | float | int]
TOPICS = {"chat": -0.6, "facts": 0.2, "code": 0.5, "mathematics": 0.9}  # added difficulty
PRICES = {"small": (0.15, 0.60), "large": (2.50, 10.00)}  # dollars a million tokens, in and out
ABILITY = {"small": (2.4, 2.0), "large": (3.0, 1.0)}  # grade's logit at 0, its fall by difficulty
GRADE = 0.05


def made(prompts: int, seed: int) -> list[Row]:
    """The rows of the file: one a time that a prompt is asked."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for prompt in range(prompts):
        topic = str(rng.choice(list(TOPICS)))
        difficulty = TOPICS[topic] + rng.normal()
        tokens = float(np.exp(rng.normal(5.0 + 0.25 * difficulty, 0.8)))  # a median of about 150
        guess = 1.1 - 1.3 * (0.8 * difficulty + 0.5 * rng.normal())
        for _ in range(rng.integers(1, 4)):
            row: Row = {"id": f"{prompt}-{len(rows)}", "group": prompt}
            row |= {"topic": topic, "prompt_tokens": round(tokens)}
            row["score_small"] = round(float(1 / (1 + np.exp(-guess))), 4)
            for model, (level, fall) in ABILITY.items():
                grade = 1 / (1 + np.exp(-(level - fall * difficulty + 0.9 * rng.normal())))
                row[f"quality_{model}"] = round(GRADE * round(float(grade) / GRADE), 2)
                answer = np.exp(rng.normal(5.5 + 0.2 * difficulty, 0.5))
                paid = (tokens * PRICES[model][0] + answer * PRICES[model][1]) / 1e6
                row[f"cost_{model}"] = float(f"{paid:.4g}")
            rows.append(row)
    return rows


@experiment.script
def main(argv: list[str] | None = None) -> None:
    parser = experiment.Parser(__doc__)
    parser.add_argument("out", metavar="CSV_GZ", type=Path, help="the file to write")
    parser.add_argument(
        "--prompts", type=experiment.number(int, 1), default=2500, help="how many prompts"
    )
    parser.add_argument(
        "--seed", type=experiment.number(int, 0), default=0, help="seed of every draw"
    )
    args = parser.parse_args(argv)
    file = io.StringIO()
    rows = made(args.prompts, args.seed)
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with experiment.one_line_errors():
        experiment.write_bytes(args.out, gzip.compress(file.getvalue().encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
