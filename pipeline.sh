# Sourced by the pipelines: their arguments, and the steps that they share.
#   RUN         a name (results/runs/NAME) or a path; everything of the run lies there
#   DATASETS    "cifar10 SVHN" by default: names, folders or .npz files
#   EXTRA       more flags for train_edgenet_async.py or eval_all.py, as EXTRA="--device cpu"
#   EXTRA_LOCAL more flags for train_localnet.py, as EXTRA_LOCAL="--local_net msdnet:2 --exits_path DIR"
#   FAST=1      a few minutes' run on a CPU that shows that all works, and nothing else
# Whatever is complete is skipped, and a killed run goes on where it was.
set -euo pipefail

usage="usage: [DATASETS=...] [EXTRA=...] [FAST=1] bash $(basename "$0") RUN"
run=${1:?$usage}
if [ $# -gt 1 ]; then echo "$usage" >&2; exit 2; fi
case $run in */*) ;; *) run=results/runs/$run ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
read -ra datasets <<< "${DATASETS:-cifar10 SVHN}"
read -ra extra <<< "${EXTRA:-}"
read -ra extra_local <<< "${EXTRA_LOCAL:-}"
fast_local=() fast_edge=()
if [ "${FAST:-0}" = 1 ]; then
  # An exit of a trained network, as --local_net msdnet:2, is not trained.
  if ! [[ ${EXTRA_LOCAL:-} =~ --local_net[=\ ]+[a-z]+: ]]; then fast_local=(--epochs 3 --lr 0.01); fi
  fast_edge=(--edge_net resnet18 --epochs 2 --batch_size 64 --lr 0.02 --lr_rejector 0.02)
fi

# train DATASET STUDY FLAGS...: the local net, once for all studies that share $localnet, then edge
# and rejectors.
localnet=localnet
train() {
  local dataset=$1 study=$2 name
  shift 2
  name=$(basename "$dataset" .npz)
  "$python" train_localnet.py --dataset "$dataset" --save_dir "$run/$localnet" --resume \
    ${fast_local[@]+"${fast_local[@]}"} ${extra_local[@]+"${extra_local[@]}"}
  "$python" train_edgenet_async.py --dataset "$dataset" --save_dir "$run/$study" --resume \
    --local_path "$run/$localnet/$name-localnet.pth" "$@" \
    ${fast_edge[@]+"${fast_edge[@]}"} ${extra[@]+"${extra[@]}"}
}

# evaluate STUDY: predictions and JSON of every data set of the study.
evaluate() {
  local dataset
  for dataset in "${datasets[@]}"; do
    "$python" eval_all.py --dataset "$dataset" --save_dir "$run/$1" --resume \
      ${extra[@]+"${extra[@]}"}
  done
}

# plot STUDY: every table and figure that its predictions give.
plot() {
  "$python" -m figures "$run/$1"
}
