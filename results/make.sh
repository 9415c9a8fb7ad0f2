#!/usr/bin/env bash
# Run a study of real data, from its data to its tables.
#   bash results/make.sh               the studies: what each one shows, needs and takes
#   bash results/make.sh STUDY [RUN]   run it, or go on with it; it lies in results/runs/STUDY if RUN
#                                      is not given
# CIFAR10      a name or file that --dataset takes; "cifar10" (torchvision's, below DATA_ROOT) if not
#              given. What else a study needs is named where it is missing
# SEEDS        "0 1 2" if not given
# PUBLISH=1    when it is finished, replace results/published/STUDY and write every table
# ANSWERS      what ResNet-20 and -56 say of the test pictures; kept in the run if not given
# Relative paths start at the repository's root, wherever the script is called from.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ $# = 0 ]; then
  for file in "$here"/studies/*.sh; do
    basename "$file" .sh
    sed -n '/^#/!q; s/^# /  /p' "$file"
  done
  exit 0
fi
study=$1
studies=$(cd "$here/studies" && printf '%s ' *.sh)
if [ $# -gt 2 ] || [[ " $studies" != *" $study.sh "* ]]; then
  echo "error: usage: bash results/make.sh [STUDY [RUN]]; studies: ${studies//.sh/}" >&2
  exit 2
fi
set -- "${2:-$study}"
source "$here/../runs/common.sh"

cifar10=${CIFAR10:-cifar10}
name=$(basename "$cifar10" .npz)
tables=()  # that the study's predictions give
costs=()   # pairs of costs of those tables, beside the rejectors' own
numbers=() # files in $run that are kept in place of predictions

# need FILE HINT: stop with one line where a file is not there.
need() {
  if ! [ -e "$1" ]; then
    echo "error: $1: not there; $2" >&2
    exit 2
  fi
}

# pair_answers FLAGS...: what ResNet-20 and -56 say of the test pictures, once, in $answers.
answers=${ANSWERS:-$run/answers}
pair_answers() {
  local resnets=${RESNETS:-datasets} file
  for file in resnet20-12fca82f.th resnet56-4bfd9763.th; do
    need "$resnets/$file" "set RESNETS to its folder; from github.com/akamaster/pytorch_resnet_cifar10"
  done
  "$python" -m results.pair_answers "$cifar10" "$resnets" "$answers" "$@"
}

# each SEED-COMMAND...: a command for every seed, with --save_dir $run/seed-N and --seed N.
each() {
  local seed
  for seed in "${seeds[@]}"; do "$@" --save_dir "$run/seed-$seed" --seed "$seed" --resume; done
}

source "$here/studies/$study.sh"

kept=$run/kept/$study
rm -rf "$run/kept"
if [ ${#numbers[@]} -gt 0 ]; then
  mkdir -p "$kept"
  for file in "${numbers[@]}"; do cp "$run/$file" "$kept"; done
else
  "$python" -m results.keep "$run" "$kept" ${costs[@]+--costs "${costs[@]}"}
fi
if [ "${PUBLISH:-0}" = 1 ]; then
  rm -rf "results/published/$study"
  cp -r "$kept" "results/published/$study"
  "$python" -m results.tables
fi
"$python" -m results.tables --published "$run/kept" --show "${tables[@]}"
