#!/usr/bin/env bash
# All rules compared over several seeds: the paper's 42 cost settings, five other surrogates at eight of
# them, rejectors trained after both nets, and one report with bootstrap intervals.
#   SEEDS="0 1 2" bash runs/compare.sh [RUN]
# A tenth of the training images is kept for the rejectors. The report is $run/compare/NAME-report.html.
source "$(dirname "$0")/common.sh"
no_seeds_in_extra

grid=(--cost_1 1 1.25 --cost_e "${c_e_grid[@]}")
surrogates=(cost_sensitive released mozannar_sontag mozannar_sontag_centred one_vs_all)
surrogate_costs=(1:0 1:0.1 1:0.25 1:0.4 1.25:0 1.25:0.1 1.25:0.25 1.25:0.4)

for dataset in "${datasets[@]}"; do
  name=$(basename "$dataset" .npz)
  common=(--dataset "$dataset" --save_dir "$run/compare/$name" --seeds "${seeds[@]}" --resume
    ${everywhere[@]+"${everywhere[@]}"} ${streamed[@]+"${streamed[@]}"})
  "$python" train_localnet.py "${common[@]}" --rejector_val_size 0.1 \
    ${fast_local[@]+"${fast_local[@]}"} ${extra_local[@]+"${extra_local[@]}"}
  "$python" train_edgenet_async.py "${common[@]}" --rejector_val_size 0.1 --async_freq 1 \
    "${grid[@]}" --extra_surrogates "${surrogates[@]}" --extra_costs "${surrogate_costs[@]}" \
    ${fast_edge[@]+"${fast_edge[@]}"} ${fast_rejectors[@]+"${fast_rejectors[@]}"} \
    ${extra[@]+"${extra[@]}"}
  "$python" train_rejector.py "${common[@]}" --rejector amortized per_cost \
    --rejector_input features image both "${grid[@]}" \
    --surrogates stage_switching cost_sensitive released ${fast_student[@]+"${fast_student[@]}"}
  "$python" eval_all.py "${common[@]}" ${extra_eval[@]+"${extra_eval[@]}"}
  "$python" -m deferral.report "$run/compare/$name" --overwrite \
    --cost_1 1.25 --cost_e 0.25 --costs 1:0.25 1.25:0 1.25:0.25 --out "$run/compare/$name-report.html"
done
