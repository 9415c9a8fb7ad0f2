#!/usr/bin/env bash
# All rounds of all methods, from random labels to plot and table (Tang and Huang, NeurIPS 2022).
#   bash active_learning/iter_all.sh GPU T [RUN]
#   GPU       a CUDA device's number, or cpu
#   T         the number of targets: 2, 4, 6, 8 or 12 in the paper
#   RUN       a name (results/runs/NAME) or a path; "active" if not given
# From the environment:
#   DATASETS  names, folders or .npz files; "mnist kmnist" by default
#   METHODS   all of them by default; those of a second call are added to the first's
#   SEEDS     "0 1 2" by default
#   ROUNDS    the last round, 10 by default
#   INITIAL   labels in round 0, 3000 by default
#   BATCH     labels more in each round, 1500 by default
#   TARGETS   a JSON list of networks in place of the twelve published ones
#   STUDY     flags of every step, as STUDY="--val_size 0.2 --split_seed 1 --data_root /data";
#             --ofa_dir and --init are others
#   UNSEEN    ids of targets that are trained too, but have no vote
#   EXTRA     more flags for train_net.py, as EXTRA="--epochs 10 --lr 0.05"
#   CASCADE   flags of the cascade, as CASCADE="--cost_1 1 --cost_e 0.05"
#   DIAMQ     q of DIAM_qp, 1 by default
#   FORGET=1  remove weights that no further selection of this run needs (20 MB a network)
#   FAST=1    a few minutes on a CPU that show that all works, and nothing else
# Whatever is complete is skipped, and a killed run goes on where it was. Where the pool runs out
# before the last round, the study ends with the rounds that there are.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0

usage="usage: [DATASETS=...] [METHODS=...] [SEEDS=...] bash active_learning/iter_all.sh GPU T [RUN]"
gpu=${1:?$usage} models=${2:?$usage} run=${3:-active}
if [ $# -gt 3 ]; then echo "$usage" >&2; exit 2; fi
case $run in */*) ;; *) run=results/runs/$run ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
device=(--device cpu)
if [ "$gpu" != cpu ]; then device=(--device "cuda:$gpu"); fi
fast=() forget=()
if [ "${FAST:-0}" = 1 ]; then
  : "${DATASETS:=digits}" "${SEEDS:=0}" "${ROUNDS:=2}" "${INITIAL:=60}" "${BATCH:=20}"
  : "${TARGETS:=active_learning/small-targets.json}"
  fast=(--epochs 4 --batch_size 10 --lr 0.02 --crop_scale 0.6 1)
fi
if [ "${FORGET:-0}" = 1 ]; then forget=(--forget); fi
read -ra datasets <<< "${DATASETS:-mnist kmnist}"
read -ra methods <<< "${METHODS:-random entropy margin least_conf coreset CAL DIAM DIAM_qp risk}"
read -ra seeds <<< "${SEEDS:-0 1 2}"
read -ra unseen <<< "${UNSEEN:-}"
read -ra extra <<< "${EXTRA:-}"
read -ra cascade <<< "${CASCADE:-}"
read -ra study <<< "${STUDY:-}"
of_methods=()  # flags of al_select after round 0 that only these methods have a use for
case " ${methods[*]} " in *" risk "*) of_methods+=(${cascade[@]+"${cascade[@]}"}) ;; esac
if [ -n "${DIAMQ:-}" ]; then
  case " ${methods[*]} " in
    *" DIAM_qp "*) of_methods+=(--DIAMq "$DIAMQ") ;;
    *) echo "error: DIAMQ has no effect without DIAM_qp among the METHODS" >&2; exit 2 ;;
  esac
fi

every=(--save_dir "$run" --seeds "${seeds[@]}" --model_num "$models" --method "${methods[@]}"
  --resume "${device[@]}" ${study[@]+"${study[@]}"})
if [ -n "${TARGETS:-}" ]; then every+=(--targets "$TARGETS"); fi
voting=()
for ((net = 0; net < models; net++)); do voting+=("$net"); done
test=(${cascade[@]+"${cascade[@]}"})
if [ ${#unseen[@]} -gt 0 ]; then test+=(--unseen "${unseen[@]}"); fi

for dataset in "${datasets[@]}"; do
  "$python" -m active_learning.test_multi_models "${every[@]}" --dataset "$dataset" \
    ${test[@]+"${test[@]}"} --check
done
for dataset in "${datasets[@]}"; do
  common=("${every[@]}" --dataset "$dataset")
  for ((round = 0; round <= ${ROUNDS:-10}; round++)); do
    labels=(--initial_size "${INITIAL:-3000}") status=0
    if [ "$round" -gt 0 ]; then
      labels=(--batch_size "${BATCH:-1500}" --may_end ${of_methods[@]+"${of_methods[@]}"})
    fi
    if [ "$round" -gt 1 ]; then labels+=(${forget[@]+"${forget[@]}"}); fi
    "$python" -m active_learning.al_select "${common[@]}" --al_iter "$round" "${labels[@]}" ||
      status=$?
    if [ "$status" = 3 ]; then break; fi  # the pool ran out
    if [ "$status" != 0 ]; then exit "$status"; fi
    "$python" -m active_learning.train_net "${common[@]}" --al_iter "$round" \
      --net_id "${voting[@]}" ${unseen[@]+"${unseen[@]}"} \
      ${fast[@]+"${fast[@]}"} ${extra[@]+"${extra[@]}"}
    "$python" -m active_learning.test_multi_models "${common[@]}" --al_iter "$round" \
      ${test[@]+"${test[@]}"}
  done
done
"$python" -m active_learning.plot "$run"
"$python" -m active_learning.table "$run"
