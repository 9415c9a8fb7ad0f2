#!/usr/bin/env bash
# base, l2w and boosted side by side: one MSDNet, one schedule.
#   bash runs/compare-exits.sh [RUN]
default_datasets=cifar100
source "$(dirname "$0")/common.sh"
no_seeds_in_extra

for dataset in "${datasets[@]}"; do
  for method in base l2w boosted; do
    exits "$dataset" compare-exits "$method" --arch msdnet --augment flip_crop --n_blocks 7 \
      ${fast_msdnet[@]+"${fast_msdnet[@]}"}
  done
done
plot_exits compare-exits
