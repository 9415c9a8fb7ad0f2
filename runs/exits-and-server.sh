#!/usr/bin/env bash
# A device with early exits and a server behind it: trains and evaluates the exits, takes the last of
# them as the local net, trains an edge net and rejectors for it, and compares all rules in one report.
#   ARCH=msdnet SEEDS="0 1 2" bash runs/exits-and-server.sh [RUN]
#   EXITS        the run directory of trained and evaluated exits, DIR of DIR/seed-N; if not given they
#                are trained here
#   ARCH         the network with exits: msdnet (if not given), ranet, resnet or vit
#   EXTRA_EXITS  more flags for early_exit.train, as EXTRA_EXITS="--method l2w --epochs 100"
#   EXTRA        with --edge_only no rejectors are trained beside the edge net, as behind a server that
#                stays as it is: EXTRA="--edge_only --edge_net timm/resnet50 --edge_weights FILE --epochs 0"
#   COST_FLOPS   cost of one multiply-add in local errors; if not given, running the whole device costs
#                a tenth of a local error, whatever the network
# The rejectors are fitted on val, because the exits have seen all other images.
# The report is $run/joined/NAME-report.html, the figure is in $run/joined/NAME/figures.
source "$(dirname "$0")/common.sh"
no_seeds_in_extra

arch=${ARCH:-msdnet}
read -ra extra_exits <<< "${EXTRA_EXITS:-}"
price=(--device_cost 0.1)
if [ -n "${COST_FLOPS:-}" ]; then price=(--cost_flops "$COST_FLOPS"); fi
costs=(--costs 1:0.05 1:0.1 1:0.25 1.25:0.05 1.25:0.1 1.25:0.25)
beside=(--async_freq 1 "${costs[@]}" ${fast_rejectors[@]+"${fast_rejectors[@]}"})
if [[ " ${EXTRA:-} " = *" --edge_only "* ]]; then beside=(); fi

for dataset in "${datasets[@]}"; do
  name=$(basename "$dataset" .npz)
  common=(--dataset "$dataset" --seeds "${seeds[@]}" --resume ${everywhere[@]+"${everywhere[@]}"})
  exits=${EXITS:-$run/exits/$name} server=$run/server/$name
  if [ -z "${EXITS:-}" ]; then
    "$python" -m early_exit.train "${common[@]}" --save_dir "$exits" --arch "$arch" \
      ${fast_device[@]+"${fast_device[@]}"} ${extra_exits[@]+"${extra_exits[@]}"}
    "$python" -m early_exit.eval "${common[@]}" --save_dir "$exits"
  fi
  "$python" train_localnet.py "${common[@]}" --save_dir "$server" \
    --local_net "$arch:last" --exits_path "$exits"
  "$python" train_edgenet_async.py "${common[@]}" --save_dir "$server" \
    ${beside[@]+"${beside[@]}"} ${fast_edge[@]+"${fast_edge[@]}"} ${extra[@]+"${extra[@]}"}
  "$python" train_rejector.py "${common[@]}" --save_dir "$server" --rejector amortized \
    --rejector_input features ${fast_student[@]+"${fast_student[@]}"}
  "$python" eval_all.py "${common[@]}" --save_dir "$server" ${extra_eval[@]+"${extra_eval[@]}"}
  "$python" -m deferral.join "$exits" "$server" --seeds "${seeds[@]}" "${price[@]}" \
    --out "$run/joined/$name" --overwrite
  "$python" -m figures.exits_and_server "$run/joined/$name" --cost_1 1
  "$python" -m deferral.report "$run/joined/$name" --overwrite "${costs[@]}" \
    --cost_1 1 --cost_e 0.1 --out "$run/joined/$name-report.html"
done
