#!/usr/bin/env bash
# L2W on CIFAR (Han et al., ECCV 2022): base and l2w on MSDNet, budgeted batch classification.
#   bash runs/l2w-cifar.sh [RUN]
# Batch size, lr and the growing network of 5 blocks (0.68e7 to 5.8e7 multiply-adds) are the release's.
# The published CIFAR-100 points go up to 7.8e7, which takes 6 blocks (to 8.9e7).
default_datasets="cifar10 cifar100"
source "$(dirname "$0")/common.sh"
no_seeds_in_extra

for dataset in "${datasets[@]}"; do
  blocks=5
  case $dataset in *cifar100*) blocks=6 ;; esac
  for method in base l2w; do
    exits "$dataset" l2w-cifar "$method" --arch msdnet --augment flip_crop --epochs 300 \
      --batch_size 1024 --lr 0.8 --n_blocks "$blocks" --base 1 --step 1 --step_mode lin_grow \
      ${fast_msdnet[@]+"${fast_msdnet[@]}"}
  done
done
plot_exits l2w-cifar
