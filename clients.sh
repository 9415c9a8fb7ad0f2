#!/usr/bin/env bash
# Devices with early exits whose data differ, and one server for all: the images of a data set are
# split over clients, a network with exits is trained on each client's own, an edge net on all;
# then thresholds are shared by all clients or refitted on each, without labels and with.
#   ARCH=msdnet SEEDS="0 1 2" bash clients.sh RUN
#   DATASETS     one data set; cifar10 if not given
#   CLIENTS      10 if not given; PARTITION, flags of data.partition, if not given
#                "noniid equal dir --alpha 0.3 --train_only --test_share 0.2"
#   ARCH         the network with exits: msdnet (if not given), ranet, resnet or vit
#   EXTRA_EXITS  more flags for early_exit.train, as EXTRA_EXITS="--method l2w --epochs 100"
#   DEVICE_COST  what running the whole device costs, in local errors; 0.05 if not given
#   COSTS        flags of the figure, COSTS="--cost_1 1 --cost_e 0.05" if not given
# A client's val images (VAL_SIZE, 0.2 if not given, of its own) are no one's training images.
# The figure, its table and numbers: $run/joined/figures.
source "$(dirname "$0")/pipeline.sh"
no_seeds_in_extra

arch=${ARCH:-msdnet} val_size=${VAL_SIZE:-0.2}
read -ra datasets <<< "${DATASETS:-cifar10}"
read -ra seeds <<< "${SEEDS:-0 1 2}"
default="noniid equal dir --alpha 0.3 --train_only --test_share 0.2"
read -ra partition <<< "${PARTITION:-$default}"
read -ra extra_exits <<< "${EXTRA_EXITS:-}"
read -ra costs <<< "${COSTS:---cost_1 1 --cost_e 0.05}"
if [ ${#datasets[@]} -gt 1 ]; then echo "error: DATASETS: give one data set" >&2; exit 2; fi
fast_exits=()
if [ "${FAST:-0}" = 1 ]; then
  fast_exits=(--epochs 2 --lr 0.05)
  if [ "$arch" = msdnet ]; then
    fast_exits+=(--n_blocks 3 --base 1 --step 1 --n_channels 8 --growth_rate 4)
  fi
fi

parts=$run/parts
if [ ! -e "$parts/partition.json" ]; then
  "$python" -m data.partition "${partition[@]}" --dataset "${datasets[0]}" \
    --clients "${CLIENTS:-10}" --pool "$val_size" --out "$parts" --overwrite \
    ${data_root[@]+"${data_root[@]}"}
fi
all=(--seeds "${seeds[@]}" --resume ${everywhere[@]+"${everywhere[@]}"})
"$python" train_edgenet_async.py --dataset "$parts/all.npz" --save_dir "$run/server" --edge_only \
  "${all[@]}" ${fast_edge[@]+"${fast_edge[@]}"} ${extra[@]+"${extra[@]}"}
for client in "$parts"/client-*.npz; do
  name=$(basename "$client" .npz)
  "$python" -m early_exit.train --dataset "$client" --save_dir "$run/$name/exits" "${all[@]}" \
    --arch "$arch" --val_size "$val_size" \
    ${fast_exits[@]+"${fast_exits[@]}"} ${extra_exits[@]+"${extra_exits[@]}"}
  "$python" -m early_exit.eval --dataset "$client" --save_dir "$run/$name/exits" "${all[@]}"
  "$python" eval_all.py --dataset "$client" --save_dir "$run/$name/server" "${all[@]}" \
    --edge_path "$run/server" --val_size "$val_size" ${extra_eval[@]+"${extra_eval[@]}"}
  "$python" -m deferral.join "$run/$name/exits" "$run/$name/server" --seeds "${seeds[@]}" \
    --device_cost "${DEVICE_COST:-0.05}" --out "$run/joined/$name" --overwrite
done
"$python" -m figures.client_risk "$run/joined" "${costs[@]}"
