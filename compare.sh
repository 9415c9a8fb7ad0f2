#!/usr/bin/env bash
# Every rule against every other, several seeds: the paper's 42 cost settings, the rival surrogates
# at eight of them, rejectors fitted on images that neither net has seen, and one report with
# bootstrap intervals.  SEEDS="0 1 2" bash compare.sh RUN
# Keeps a tenth of the training images for the rejectors. The report is $run/compare/NAME-report.html.
source "$(dirname "$0")/pipeline.sh"
no_seeds_in_extra

read -ra seeds <<< "${SEEDS:-0 1 2}"
grid=(--cost_1 1 1.25 --cost_e 0 0.025 0.05 0.075 0.1 0.125 0.15 0.175 0.2 0.225 0.25
  0.275 0.3 0.325 0.35 0.375 0.4 0.425 0.45 0.475 0.5)
rivals=(cost_sensitive released mozannar_sontag one_vs_all)
rival_costs=(1:0 1:0.1 1:0.25 1:0.4 1.25:0 1.25:0.1 1.25:0.25 1.25:0.4)
fast_rejector=()
if [ "${FAST:-0}" = 1 ]; then fast_rejector=(--epochs 2); fi

for dataset in "${datasets[@]}"; do
  name=$(basename "$dataset" .npz)
  common=(--dataset "$dataset" --save_dir "$run/compare/$name" --seeds "${seeds[@]}" --resume
    ${everywhere[@]+"${everywhere[@]}"})
  "$python" train_localnet.py "${common[@]}" --rejector_val_size 0.1 \
    ${fast_local[@]+"${fast_local[@]}"} ${extra_local[@]+"${extra_local[@]}"}
  "$python" train_edgenet_async.py "${common[@]}" --rejector_val_size 0.1 --async_freq 1 \
    "${grid[@]}" --rivals "${rivals[@]}" --rival_costs "${rival_costs[@]}" \
    ${fast_edge[@]+"${fast_edge[@]}"} ${fast_rejectors[@]+"${fast_rejectors[@]}"} \
    ${extra[@]+"${extra[@]}"}
  "$python" train_rejector.py "${common[@]}" --rejector amortized per_cost \
    --rejector_input features image both "${grid[@]}" \
    --surrogates stage_switching cost_sensitive released ${fast_rejector[@]+"${fast_rejector[@]}"}
  "$python" eval_all.py "${common[@]}" ${extra_eval[@]+"${extra_eval[@]}"}
  "$python" -m deferral.report "$run/compare/$name" --overwrite \
    --cost_1 1.25 --cost_e 0.25 --costs 1:0.25 1.25:0 1.25:0.25 --out "$run/compare/$name-report.html"
done
