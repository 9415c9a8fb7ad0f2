# Sourced by the pipelines: their arguments, and the steps that they share.
#   RUN         a name (results/runs/NAME) or a path, "default" if not given; all of the run lies there
#   DATASETS    "cifar10 SVHN" by default: names, folders or .npz files
#   EXTRA       more flags for train_edgenet_async.py, as EXTRA="--epochs 2 --device cpu"; those that
#               are no less the others', --device, --data_root and --seeds, all scripts of a chain get
#   EXTRA_LOCAL more flags for train_localnet.py, as EXTRA_LOCAL="--local_net msdnet:2 --exits_path DIR"
#   EXTRA_EVAL  more flags for eval_all.py, as EXTRA_EVAL="--batch_size 50"
#   FAST=1      a few minutes' run on a CPU that shows that all works, and nothing else
# Whatever is complete is skipped, and a killed run goes on where it was.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0

usage="usage: [DATASETS=...] [EXTRA=...] [FAST=1] bash $(basename "$0") [RUN]"
if [ $# -gt 1 ]; then echo "$usage" >&2; exit 2; fi
run=${1:-default}
case $run in */*) ;; *) run=results/runs/$run ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
read -ra datasets <<< "${DATASETS:-cifar10 SVHN}"
read -ra extra <<< "${EXTRA:-}"
read -ra extra_local <<< "${EXTRA_LOCAL:-}"
read -ra extra_eval <<< "${EXTRA_EVAL:-}"

# Of EXTRA, with their values, the flags that every script takes and means alike.
everywhere=() data_root=() several_seeds=0 flag=
for word in ${extra[@]+"${extra[@]}"}; do
  if [[ $word = --* ]]; then flag=${word%%=*}; fi
  case $flag in --device | --data_root | --seeds) everywhere+=("$word") ;; esac
  if [ "$flag" = --data_root ]; then data_root+=("$word"); fi
  if [ "$flag" = --seeds ]; then several_seeds=1; fi
done
# no_seeds_in_extra: for pipelines that have SEEDS.
no_seeds_in_extra() {
  if [ $several_seeds = 1 ]; then echo "error: EXTRA: SEEDS says the seeds here" >&2; exit 2; fi
}

fast_local=() fast_edge=() fast_rejectors=()
if [ "${FAST:-0}" = 1 ]; then
  # An exit of a trained network, as --local_net msdnet:2, is not trained.
  if ! [[ ${EXTRA_LOCAL:-} =~ --local_net[=\ ]+[a-z]+: ]]; then fast_local=(--epochs 3 --lr 0.01); fi
  fast_edge=(--edge_net resnet18 --epochs 2 --batch_size 64 --lr 0.02)
  fast_rejectors=(--lr_rejector 0.02)
fi

# train DATASET STUDY FLAGS...: the local net, once for all studies that share $localnet, then edge
# and rejectors. With --seeds each run has a local net of its own, in STUDY/seed-N.
localnet=localnet
train() {
  local dataset=$1 study=$2 name
  shift 2
  name=$(basename "$dataset" .npz)
  local where=$run/$localnet shared=(--local_path "$run/$localnet/$name-localnet.pth")
  if [ $several_seeds = 1 ]; then where=$run/$study shared=(); fi
  "$python" train_localnet.py --dataset "$dataset" --save_dir "$where" --resume \
    ${fast_local[@]+"${fast_local[@]}"} ${everywhere[@]+"${everywhere[@]}"} \
    ${extra_local[@]+"${extra_local[@]}"}
  "$python" train_edgenet_async.py --dataset "$dataset" --save_dir "$run/$study" --resume \
    ${shared[@]+"${shared[@]}"} "$@" ${fast_edge[@]+"${fast_edge[@]}"} \
    ${fast_rejectors[@]+"${fast_rejectors[@]}"} ${extra[@]+"${extra[@]}"}
}

# evaluate STUDY: predictions and JSON of every data set of the study.
evaluate() {
  local dataset
  for dataset in "${datasets[@]}"; do
    "$python" eval_all.py --dataset "$dataset" --save_dir "$run/$1" --resume \
      ${everywhere[@]+"${everywhere[@]}"} ${extra_eval[@]+"${extra_eval[@]}"}
  done
}

# plot STUDY: every table and figure that its predictions give.
plot() {
  "$python" -m figures "$run/$1"
}
