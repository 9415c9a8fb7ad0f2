#!/usr/bin/env bash
# L2W on ImageNet (Han et al., ECCV 2022): base and l2w, MSDNet with step 7, 100 epochs, batch 4096.
#   DATASETS=/data/imagenet bash runs/l2w-imagenet.sh [RUN]
# DATASETS is a folder with train/ and val/ (or test/); the figure has the published points if it is
# named imagenet. To use several GPUs, first train with torchrun (docs/early_exit.md) into
# $run/l2w-imagenet/METHOD; this script then skips the finished trainings.
source "$(dirname "$0")/common.sh"
no_seeds_in_extra
if [ -z "${DATASETS:-}" ]; then echo "error: DATASETS: give ImageNet's folder" >&2; exit 2; fi

for dataset in "${datasets[@]}"; do
  for method in base l2w; do
    meta=()
    if [ "$method" = l2w ]; then
      meta=(--epsilon 0.3 --constraint_dimension mat --meta_interval 100 --save_memory)
    fi
    exits "$dataset" l2w-imagenet "$method" --stream --arch msdnet --epochs 100 --batch_size 4096 \
      --lr 0.8 --n_channels 32 --growth_rate 16 --gr_factor 1-2-4-4 --bn_factor 1-2-4-4 \
      --base 7 --step 7 ${meta[@]+"${meta[@]}"} ${fast_msdnet[@]+"${fast_msdnet[@]}"}
  done
done
plot_exits l2w-imagenet
