#!/usr/bin/env bash
# The three methods side by side on one network and one schedule: base, l2w and boosted, MSDNet.
#   bash early_exit/compare.sh RUN
source "$(dirname "$0")/pipeline.sh"

read -ra datasets <<< "${DATASETS:-cifar100}"
for dataset in "${datasets[@]}"; do
  for method in base l2w boosted; do
    exits "$dataset" compare "$method" --arch msdnet --augment flip_crop --n_blocks 7 \
      ${fast_msdnet[@]+"${fast_msdnet[@]}"}
  done
done
plot compare
