# Sourced by the pipelines of this folder: their arguments, and the steps that they share.
#   RUN       a name (results/runs/NAME) or a path; everything of the run lies there
#   DATASETS  names, folders or .npz files; each pipeline has its own default
#   SEEDS     "0 1 2" by default
#   EXTRA     more flags for early_exit.train, as EXTRA="--bf16 --epochs 30"; the last of a flag counts
#   FAST=1    a minute's run on a CPU that shows that all works, and nothing else
# Whatever is complete is skipped, and a killed run goes on where it was.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0

usage="usage: [DATASETS=...] [SEEDS=...] [EXTRA=...] [FAST=1] bash early_exit/$(basename "$0") RUN"
run=${1:?$usage}
if [ $# -gt 1 ]; then echo "$usage" >&2; exit 2; fi
case $run in */*) ;; *) run=results/runs/$run ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
read -ra seeds <<< "${SEEDS:-0 1 2}"
read -ra extra <<< "${EXTRA:-}"
fast_msdnet=() fast_ranet=() fast_eval=()
if [ "${FAST:-0}" = 1 ]; then
  fast=(--epochs 1 --batch_size 64 --lr 0.05 --n_channels 8 --growth_rate 4)
  fast_msdnet=("${fast[@]}" --n_blocks 3 --base 1 --step 1)
  fast_ranet=("${fast[@]}" --n_blocks 1 --block_step 1 --step 2)
  fast_eval=(--seconds 0.3)
fi

# exits DATASET STUDY METHOD FLAGS...: trained, evaluated with its optimism, and stopped early for
# real, every seed, in $run/STUDY/METHOD/seed-N.
exits() {
  local dataset=$1 study=$2 method=$3
  shift 3
  local common=(--dataset "$dataset" --save_dir "$run/$study/$method" --seeds "${seeds[@]}" --resume)
  local stream=()
  for flag in "$@"; do if [ "$flag" = --stream ]; then stream=(--workers 8); fi; done
  "$python" -m early_exit.train "${common[@]}" --method "$method" "$@" \
    ${stream[@]+"${stream[@]}"} ${extra[@]+"${extra[@]}"}
  "$python" -m early_exit.eval "${common[@]}" --optimism
  "$python" -m early_exit.infer "${common[@]}" ${fast_eval[@]+"${fast_eval[@]}"}
}

# plot STUDY: figures and tables of all its methods and seeds, published points beside them.
plot() {
  "$python" -m figures.early_exit "$run/$1"
}
