#!/usr/bin/env bash
# The edge net alone, without rejectors, and its evaluation.  bash train-edgeonly.sh [RUN]
source "$(dirname "$0")/pipeline.sh"

for dataset in "${datasets[@]}"; do
  "$python" train_edgenet_async.py --dataset "$dataset" --save_dir "$run/edgeonly" --resume \
    --edge_only ${fast_edge[@]+"${fast_edge[@]}"} ${extra[@]+"${extra[@]}"}
done
evaluate edgeonly
