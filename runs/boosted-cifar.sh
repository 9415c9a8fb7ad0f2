#!/usr/bin/env bash
# Boosted dynamic networks on CIFAR-100 (Yu et al., AAAI 2023): base and boosted, anytime prediction,
# MSDNet with 10 exits and RANet with 8.
#   bash runs/boosted-cifar.sh [RUN]
# Gradient equilibrium is the release's: the coarsest maps on MSDNet, none on RANet.
default_datasets=cifar100
source "$(dirname "$0")/common.sh"
no_seeds_in_extra

for dataset in "${datasets[@]}"; do
  for method in base boosted; do
    equilibrium=()
    if [ "$method" = boosted ]; then equilibrium=(--equilibrium coarsest); fi
    exits "$dataset" boosted-msdnet "$method" --arch msdnet --augment flip_crop --schedule steps \
      --n_blocks 10 ${equilibrium[@]+"${equilibrium[@]}"} ${fast_msdnet[@]+"${fast_msdnet[@]}"}
    exits "$dataset" boosted-ranet "$method" --arch ranet --augment flip_crop --schedule steps \
      --scale_list 1-2-3-3 --gr_factor 4-2-1-1 --bn_factor 4-2-1-1 \
      ${fast_ranet[@]+"${fast_ranet[@]}"}
  done
done
plot_exits boosted-msdnet
plot_exits boosted-ranet
