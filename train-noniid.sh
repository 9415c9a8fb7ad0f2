#!/usr/bin/env bash
# The paper's non-IID case: a local net that has seen some of the classes only, LOCAL_CLASSES (0-8 if
# not given); edge net and test keep all of them. c_1 in {1, 1.25}, c_e in {0, 0.1, 0.25, 0.4}, the
# paper's (1, 0.25), (1.25, 0) and (1.25, 0.25) among them, one pass a data set.
# LOCAL_CLASSES=0-8 bash train-noniid.sh [RUN], then eval-noniid.sh [RUN] and plot-noniid.sh [RUN].
source "$(dirname "$0")/pipeline.sh"

localnet=noniid-localnet # beside the one of RUN that knows all classes, never in its place
extra_local=(--local_classes "${LOCAL_CLASSES:-0-8}" ${extra_local[@]+"${extra_local[@]}"})
for dataset in "${datasets[@]}"; do
  train "$dataset" noniid --async_freq 1 --cost_1 1 1.25 --cost_e 0 0.1 0.25 0.4
done
