#!/usr/bin/env bash
# The paper's 42 cost settings, synchronous: c_1 in {1, 1.25}, c_e in {0, 0.025, ..., 0.5}, one pass
# a data set.  bash train-conf-score.sh [RUN], then eval.sh [RUN] and plot.sh [RUN].
source "$(dirname "$0")/pipeline.sh"

for dataset in "${datasets[@]}"; do
  train "$dataset" conf-score --async_freq 1 --cost_1 1 1.25 \
    --cost_e 0 0.025 0.05 0.075 0.1 0.125 0.15 0.175 0.2 0.225 0.25 \
    0.275 0.3 0.325 0.35 0.375 0.4 0.425 0.45 0.475 0.5
done
