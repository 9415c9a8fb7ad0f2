#!/usr/bin/env bash
# How near a rejector comes to the ceiling, estimates that also see the edge net's scores: one rejector
# for all costs on the local net's features, and with each of two small networks on the image.
#   SEEDS="0 1 2" bash runs/ceiling.sh [RUN]
# A tenth of the training images is kept for the rejectors. EXTRA_STUDENT has more flags for
# train_rejector.py. Table and figure are $run/ceiling/NAME/figures/NAME-ceiling.*
source "$(dirname "$0")/common.sh"
no_seeds_in_extra

read -ra extra_student <<< "${EXTRA_STUDENT:-}"
for dataset in "${datasets[@]}"; do
  name=$(basename "$dataset" .npz)
  common=(--dataset "$dataset" --save_dir "$run/ceiling/$name" --seeds "${seeds[@]}" --resume
    ${everywhere[@]+"${everywhere[@]}"})
  "$python" train_localnet.py "${common[@]}" --rejector_val_size 0.1 \
    ${fast_local[@]+"${fast_local[@]}"} ${extra_local[@]+"${extra_local[@]}"}
  "$python" train_edgenet_async.py "${common[@]}" --rejector_val_size 0.1 --edge_only \
    ${fast_edge[@]+"${fast_edge[@]}"} ${extra[@]+"${extra[@]}"}
  "$python" train_rejector.py "${common[@]}" --rejector_input features both \
    --rejector_net small large ${fast_student[@]+"${fast_student[@]}"} \
    ${extra_student[@]+"${extra_student[@]}"}
  "$python" eval_all.py "${common[@]}" ${extra_eval[@]+"${extra_eval[@]}"}
  "$python" -m figures.ceiling "$run/ceiling/$name"
done
