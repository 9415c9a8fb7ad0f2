#!/usr/bin/env bash
# L2W on CIFAR (Han et al., ECCV 2022): base and l2w, MSDNet, budgeted batch classification.
#   bash early_exit/l2w-cifar.sh RUN
# The published points span 1e7 to 7.8e7 multiply-adds: of the known networks that is the one of 6 blocks
# that grow (0.7e7 to 8.9e7).
source "$(dirname "$0")/pipeline.sh"

read -ra datasets <<< "${DATASETS:-cifar10 cifar100}"
for dataset in "${datasets[@]}"; do
  for method in base l2w; do
    exits "$dataset" l2w-cifar "$method" --arch msdnet --augment flip_crop --epochs 300 \
      --n_blocks 6 --base 1 --step 1 --step_mode lin_grow ${fast_msdnet[@]+"${fast_msdnet[@]}"}
  done
done
plot l2w-cifar
