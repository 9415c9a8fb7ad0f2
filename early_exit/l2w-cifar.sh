#!/usr/bin/env bash
# L2W on CIFAR (Han et al., ECCV 2022): base and l2w, MSDNet, budgeted batch classification.
#   bash early_exit/l2w-cifar.sh RUN
# The release's batch and lr, and its network of 5 blocks that grow, 0.68e7 to 5.8e7 multiply-adds. On
# CIFAR-100 the published points go up to 7.8e7, which takes 6 blocks (to 8.9e7).
source "$(dirname "$0")/pipeline.sh"

read -ra datasets <<< "${DATASETS:-cifar10 cifar100}"
for dataset in "${datasets[@]}"; do
  blocks=5
  case $dataset in *cifar100*) blocks=6 ;; esac
  for method in base l2w; do
    exits "$dataset" l2w-cifar "$method" --arch msdnet --augment flip_crop --epochs 300 \
      --batch_size 1024 --lr 0.8 --n_blocks "$blocks" --base 1 --step 1 --step_mode lin_grow ${fast_msdnet[@]+"${fast_msdnet[@]}"}
  done
done
plot l2w-cifar
