#!/usr/bin/env bash
# Run a study of real data, from its data to its tables.
#   bash results/make.sh               the studies: what each one shows, needs and takes
#   bash results/make.sh STUDY [RUN]   run it, or go on with it; it lies in results/runs/STUDY if RUN
#                                      is not given
# CIFAR10      a name or file that --dataset takes; "cifar10" (torchvision's) if not given. What else
#              a study needs is named where it is missing
# DATA_ROOT    folder of torchvision's data sets, "data_root" if not given
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
data_root=${DATA_ROOT:-data_root}
everywhere=(--data_root "$data_root" ${everywhere[@]+"${everywhere[@]}"})
tables=()       # that the study gives
predictions=(.) # folders of the run whose predictions are kept for those tables
how=()          # flags of results.keep for them
files=()        # names of results and figures that are kept

# need FILE HINT: stop with one line where a file is not there.
need() {
  if ! [ -e "$1" ]; then
    echo "error: $1: not there; $2" >&2
    exit 2
  fi
}

# need_data DATASET VARIABLE: the same for a data set; a name of torchvision's needs no file.
need_data() {
  case $1 in */* | *.npz) need "$1" "set $2 to a name or file that --dataset takes" ;; esac
}

# pair_answers FLAGS...: what ResNet-20 and -56 say of the test pictures, once, in $answers. Where its
# files exist, results.pair_answers reads neither RESNETS nor CIFAR10.
answers=${ANSWERS:-$run/answers}
pair_answers() {
  local resnets=${RESNETS:-datasets} file
  if ! [ -e "$answers/clean.npz" ]; then
    need_data "$cifar10" CIFAR10
    for file in resnet20-12fca82f.th resnet56-4bfd9763.th; do
      need "$resnets/$file" "set RESNETS to its folder; from github.com/akamaster/pytorch_resnet_cifar10"
    done
  fi
  "$python" -m results.pair_answers "$cifar10" "$resnets" "$answers" --data_root "$data_root" "$@"
}

# behind_lite0 DATASET VARIABLE: LeNet-5 for every seed, and as its server an EfficientNet-Lite0 that is
# fine-tuned once at 128 px: it is the same network for every device.
behind_lite0() {
  local dataset=$1 name weights=${LITE0:-datasets/tf_efficientnet_lite0.pth} seed
  name=$(basename "$dataset" .npz)
  need_data "$dataset" "$2"
  need "$weights" "set LITE0 to a file of timm's weights, made where there is a network by: python -c \"import timm, torch; torch.save(timm.create_model('tf_efficientnet_lite0', pretrained=True).state_dict(), 'tf_efficientnet_lite0.pth')\""
  local split=(--dataset "$dataset" --val_size 2500 --rejector_val_size 2500 --resume "${everywhere[@]}")
  local server=(--edge_only --edge_net timm/tf_efficientnet_lite0 --edge_size 128)
  "$python" train_edgenet_async.py "${split[@]}" --save_dir "$run/server" --seed 0 "${server[@]}" \
    --edge_weights "$weights" --epochs 8 --batch_size 64 --lr 0.02 --schedule cosine \
    --weight_decay 1e-4 --augment flip_crop ${extra[@]+"${extra[@]}"}
  each "$python" train_localnet.py "${split[@]}" ${extra_local[@]+"${extra_local[@]}"}
  each "$python" train_edgenet_async.py "${split[@]}" "${server[@]}" --epochs 0 \
    --edge_weights "$run/server/$name-edgenet.pth"
  each "$python" train_rejector.py --dataset "$dataset" --rejector amortized per_cost \
    --rejector_input features image both --cost_1 1 1.25 --cost_e "${c_e_grid[@]}" \
    --surrogates stage_switching cost_sensitive released "${everywhere[@]}" \
    ${fast_student[@]+"${fast_student[@]}"}
  for seed in "${seeds[@]}"; do
    "$python" eval_all.py --dataset "$dataset" --save_dir "$run/seed-$seed" --resume "${everywhere[@]}"
  done
  "$python" -m deferral.report "$run" --overwrite --cost_1 1.25 --cost_e 0.25 --out "$run/$name-report.html"
  # The scores of all rejectors would be 57 MB: their numbers are in the report.
  files=("*-report.json") how=(--without_rejectors)
}

# each SEED-COMMAND...: a command for every seed, with --save_dir $run/seed-N and --seed N.
each() {
  local seed
  for seed in "${seeds[@]}"; do "$@" --save_dir "$run/seed-$seed" --seed "$seed" --resume; done
}

source "$here/studies/$study.sh"

kept=$run/kept/$study
rm -rf "$run/kept"
if [ ${#files[@]} -gt 0 ]; then
  "$python" -m results.keep "$run" "$kept" --files "${files[@]}"
fi
for folder in ${predictions[@]+"${predictions[@]}"}; do
  "$python" -m results.keep "$run/$folder" "$kept/$folder" ${how[@]+"${how[@]}"}
done
if [ "${PUBLISH:-0}" = 1 ]; then
  rm -rf "results/published/$study"
  cp -r "$kept" "results/published/$study"
  "$python" -m results.tables
fi
"$python" -m results.tables --published "$run/kept" --show "${tables[@]}"
