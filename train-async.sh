#!/usr/bin/env bash
# The paper's 12 asynchronous settings: S in {1, 100, 1000, |D|} for three cost pairs, one pass a
# data set.  bash train-async.sh [RUN], then eval-async.sh [RUN] and plot-async.sh [RUN]. Copies refreshed
# when they are needed, and a link that fails:  EXTRA="--adaptive 0.02 0.1 --outage 100:400"
source "$(dirname "$0")/pipeline.sh"

for dataset in "${datasets[@]}"; do
  train "$dataset" async --async_freq 1 100 1000 0 --costs 1:0.25 1.25:0 1.25:0.25
done
