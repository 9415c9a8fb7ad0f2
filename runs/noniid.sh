#!/usr/bin/env bash
# The paper's non-IID case, trained, evaluated and drawn: the local net sees some classes only, the
# edge net and the test set keep all of them. c_1 in {1, 1.25}, c_e in {0, 0.1, 0.25, 0.4}, S = 1.
#   bash runs/noniid.sh [RUN]
#   LOCAL_CLASSES  classes of the local net, "0-8" if not given
source "$(dirname "$0")/common.sh"

localnet=noniid-localnet # separate from the local net that knows all classes
extra_local=(--local_classes "${LOCAL_CLASSES:-0-8}" ${extra_local[@]+"${extra_local[@]}"})
for dataset in "${datasets[@]}"; do
  train "$dataset" noniid --async_freq 1 --cost_1 1 1.25 --cost_e 0 0.1 0.25 0.4
done
evaluate noniid
plot noniid
