# Sourced by every pipeline: its arguments, and the steps that pipelines share.
#   RUN          a name (results/runs/NAME) or a path; "default" if not given. Everything lies there
#   DATASETS     names, folders or .npz files; "cifar10 SVHN" unless the pipeline says otherwise
#   SEEDS        "0 1 2" if not given; the pipelines of the paper's settings (train-*.sh, eval*.sh and
#                runs/noniid.sh) train one seed and take EXTRA="--seeds 0 1 2" instead
#   EXTRA        more flags for the training of the edge net (the network with exits in a study of
#                exits), as EXTRA="--epochs 2 --device cpu". Scripts that take --device, --data_root
#                and --seeds get those too, and those of learning to help --stream, --stream_size and
#                --workers
#   EXTRA_LOCAL  more flags for train_localnet.py, as EXTRA_LOCAL="--local_net msdnet:2 --exits_path DIR"
#   EXTRA_EVAL   more flags for eval_all.py, as EXTRA_EVAL="--batch_size 50"
#   FAST=1       a run of a few minutes on a CPU, to check that everything works
# Finished steps are skipped and a killed run resumes. Relative paths start at the repository's root,
# wherever the script is called from.
set -euo pipefail

usage=${usage:-"usage: [DATASETS=...] [EXTRA=...] [FAST=1] bash $0 [RUN]"}
if [ $# -gt 1 ]; then echo "$usage" >&2; exit 2; fi
run=${1:-default}
case $run in */*) ;; *) run=results/runs/$run ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
# On a CPU, glibc returns large freed tensors to the kernel, which clears their pages at every step.
# These settings keep the memory; elsewhere they have no effect.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0

read -ra datasets <<< "${DATASETS:-${default_datasets:-cifar10 SVHN}}"
read -ra seeds <<< "${SEEDS:-0 1 2}"
read -ra extra <<< "${EXTRA:-}"
read -ra extra_local <<< "${EXTRA_LOCAL:-}"
read -ra extra_eval <<< "${EXTRA_EVAL:-}"

# The flags of EXTRA, with their values, that every script of a chain takes.
everywhere=() streamed=() seeds_in_extra=0 flag=
for word in ${extra[@]+"${extra[@]}"}; do
  if [[ $word = --* ]]; then flag=${word%%=*}; fi
  case $flag in
    --device | --data_root | --seeds) everywhere+=("$word") ;;
    --stream | --stream_size | --workers) streamed+=("$word") ;;
  esac
  if [ "$flag" = --seeds ]; then seeds_in_extra=1; fi
done

# no_seeds_in_extra: for pipelines that read SEEDS.
no_seeds_in_extra() {
  if [ $seeds_in_extra = 1 ]; then
    echo "error: EXTRA: --seeds has no effect here; set SEEDS instead" >&2
    exit 2
  fi
}

# no_seeds: for pipelines that do not read SEEDS.
no_seeds() {
  if [ -n "${SEEDS:-}" ]; then
    echo "error: SEEDS has no effect here; set EXTRA=\"--seeds $SEEDS\" instead" >&2
    exit 2
  fi
}

c_e_grid=(0 0.025 0.05 0.075 0.1 0.125 0.15 0.175 0.2 0.225 0.25
  0.275 0.3 0.325 0.35 0.375 0.4 0.425 0.45 0.475 0.5)

fast_local=() fast_edge=() fast_rejectors=() fast_student=() fast_device=()
fast_msdnet=() fast_ranet=() fast_infer=()
if [ "${FAST:-0}" = 1 ]; then
  # An exit of a trained network (--local_net msdnet:2) is not trained again.
  if ! [[ ${EXTRA_LOCAL:-} =~ --local_net[=\ ]+[a-z]+: ]]; then fast_local=(--epochs 3 --lr 0.01); fi
  fast_edge=(--edge_net resnet18 --epochs 2 --batch_size 64 --lr 0.02)
  fast_rejectors=(--lr_rejector 0.02)
  fast_student=(--epochs 2)
  fast_device=(--epochs 2 --lr 0.05)
  narrow=(--n_channels 8 --growth_rate 4) small=(--n_blocks 3 --base 1 --step 1)
  if [ "${ARCH:-msdnet}" = msdnet ]; then fast_device+=("${small[@]}" "${narrow[@]}"); fi
  fast_exits=(--epochs 1 --batch_size 64 --lr 0.05 "${narrow[@]}")
  fast_msdnet=("${fast_exits[@]}" "${small[@]}")
  fast_ranet=("${fast_exits[@]}" --n_blocks 1 --block_step 1 --step 2)
  fast_infer=(--seconds 0.1 --batch_sizes 1 16)
fi

# train DATASET STUDY FLAGS...: the local net, shared by all studies with the same $localnet, then the
# edge net and its rejectors. With --seeds every run trains a local net of its own in STUDY/seed-N.
localnet=localnet
train() {
  local dataset=$1 study=$2 name
  shift 2
  no_seeds
  name=$(basename "$dataset" .npz)
  local local_dir=$run/$localnet shared=(--local_path "$run/$localnet/$name-localnet.pth")
  if [ $seeds_in_extra = 1 ]; then local_dir=$run/$study shared=(); fi
  "$python" train_localnet.py --dataset "$dataset" --save_dir "$local_dir" --resume \
    ${fast_local[@]+"${fast_local[@]}"} ${everywhere[@]+"${everywhere[@]}"} \
    ${streamed[@]+"${streamed[@]}"} ${extra_local[@]+"${extra_local[@]}"}
  "$python" train_edgenet_async.py --dataset "$dataset" --save_dir "$run/$study" --resume \
    ${shared[@]+"${shared[@]}"} "$@" ${fast_edge[@]+"${fast_edge[@]}"} \
    ${fast_rejectors[@]+"${fast_rejectors[@]}"} ${extra[@]+"${extra[@]}"}
}

# evaluate STUDY: predictions and JSON of every data set of the study.
evaluate() {
  local dataset
  no_seeds
  for dataset in "${datasets[@]}"; do
    "$python" eval_all.py --dataset "$dataset" --save_dir "$run/$1" --resume \
      ${everywhere[@]+"${everywhere[@]}"} ${streamed[@]+"${streamed[@]}"} \
      ${extra_eval[@]+"${extra_eval[@]}"}
  done
}

# plot STUDY: every table and figure that its predictions allow.
plot() {
  "$python" -m figures "$run/$1"
}

# The paper's 42 cost settings with S = 1, one pass a data set.
train_conf_score() {
  local dataset
  for dataset in "${datasets[@]}"; do
    train "$dataset" conf-score --async_freq 1 --cost_1 1 1.25 --cost_e "${c_e_grid[@]}"
  done
}

# The paper's 12 asynchronous settings, S in {1, 100, 1000, |D|} (|D| is 0), one pass a data set.
train_async() {
  local dataset
  for dataset in "${datasets[@]}"; do
    train "$dataset" async --async_freq 1 100 1000 0 --costs 1:0.25 1.25:0 1.25:0.25
  done
}

# The edge net without rejectors, and its evaluation.
train_edgeonly() {
  local dataset
  no_seeds
  for dataset in "${datasets[@]}"; do
    "$python" train_edgenet_async.py --dataset "$dataset" --save_dir "$run/edgeonly" --resume \
      --edge_only ${fast_edge[@]+"${fast_edge[@]}"} ${extra[@]+"${extra[@]}"}
  done
  evaluate edgeonly
}

# exits DATASET STUDY METHOD FLAGS...: a network with exits for every seed, in
# $run/STUDY/METHOD/seed-N: trained, evaluated with --optimism, and run with real early stopping.
exits() {
  local dataset=$1 study=$2 method=$3
  shift 3
  local common=(--dataset "$dataset" --save_dir "$run/$study/$method" --seeds "${seeds[@]}" --resume
    ${everywhere[@]+"${everywhere[@]}"})
  local stream=()
  for flag in "$@"; do if [ "$flag" = --stream ]; then stream=(--workers 8); fi; done
  "$python" -m early_exit.train "${common[@]}" --method "$method" "$@" \
    ${stream[@]+"${stream[@]}"} ${extra[@]+"${extra[@]}"}
  "$python" -m early_exit.eval "${common[@]}" --optimism
  "$python" -m early_exit.infer "${common[@]}" ${fast_infer[@]+"${fast_infer[@]}"}
}

# plot_exits STUDY: figures and tables of all its methods and seeds, with published points.
plot_exits() {
  "$python" -m figures.early_exit "$run/$1"
}
