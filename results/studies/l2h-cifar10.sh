# The paper's protocol: LeNet-5 and AlexNet, 42 costs, 12 asynchronous settings, and other rejectors.
# needs: CIFAR-10
# takes: 30 hours on one core at most: 5 a seed for the 42 costs, and no more for the asynchronous
need_data "$cifar10" CIFAR10
no_seeds_in_extra
split=(--val_size 2500 --rejector_val_size 2500)
if [ "${FAST:-0}" = 1 ]; then split=(--val_size 0.2 --rejector_val_size 0.2) c_e_grid=(0 0.25); fi
common=(--dataset "$cifar10" --seeds "${seeds[@]}" --resume "${everywhere[@]}"
  ${streamed[@]+"${streamed[@]}"})
grid=(--cost_1 1 1.25 --cost_e "${c_e_grid[@]}")
settings=("${grid[@]}" --async_freq 1
  --extra_surrogates cost_sensitive released mozannar_sontag mozannar_sontag_centred one_vs_all
  --extra_costs 1:0 1:0.1 1:0.25 1:0.4 1.25:0 1.25:0.1 1.25:0.25 1.25:0.4)
for part in conf-score async; do
  if [ "$part" = async ]; then
    settings=(--async_freq 1 100 1000 0 --costs 1:0.25 1.25:0 1.25:0.25)
  fi
  "$python" train_localnet.py "${common[@]}" --save_dir "$run/$part" "${split[@]}" \
    ${fast_local[@]+"${fast_local[@]}"} ${extra_local[@]+"${extra_local[@]}"}
  # 15 epochs at batch 16, as in the paper, are the defaults.
  "$python" train_edgenet_async.py "${common[@]}" --save_dir "$run/$part" "${split[@]}" \
    --edge_net alexnet "${settings[@]}" ${fast_edge[@]+"${fast_edge[@]}"} \
    ${fast_rejectors[@]+"${fast_rejectors[@]}"} ${extra[@]+"${extra[@]}"}
  if [ "$part" = conf-score ]; then
    "$python" train_rejector.py "${common[@]}" --save_dir "$run/$part" \
      --rejector amortized per_cost --rejector_input features image both "${grid[@]}" \
      --surrogates stage_switching cost_sensitive released ${fast_student[@]+"${fast_student[@]}"}
  fi
  "$python" eval_all.py "${common[@]}" --save_dir "$run/$part" \
    ${extra_eval[@]+"${extra_eval[@]}"}
done
"$python" -m deferral.report "$run/conf-score" --overwrite --cost_1 1.25 --cost_e 0.25 \
  --costs 1:0.25 1.25:0 1.25:0.25 --out "$run/l2h-cifar10-report.html"
files=("*-report.json") predictions=(async) # the scores of all rejectors would be 60 MB
tables=(l2h-cifar10 l2h-cifar10-async)
