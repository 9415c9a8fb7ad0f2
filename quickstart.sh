#!/usr/bin/env bash
# The whole chain on a small example: bash quickstart.sh [RUN]
# Makes .venv (Python 3.10 or newer), then on scikit-learn's digits trains a local net that knows only
# the classes 0 to 7, an edge net that knows all ten, and 24 rejectors, one for each of c_1 in
# {1, 1.25}, c_e in {0.05, 0.1, 0.2, 0.3} and S in {1, 10, |D|}, in one pass.
# Under 3 minutes on 2 CPU cores once the packages are installed. A second call skips finished steps
# and resumes killed ones. FAST=1 trains less, to check that everything works.
set -euo pipefail
source "$(dirname "$0")/runs/common.sh" "${@:-quickstart}"
source ./runs/environment.sh

make_environment requirements.txt
edge_net=resnet18 epochs=12 batch=16 costs=(0.05 0.1 0.2 0.3) local=() report=()
if [ "${FAST:-0}" = 1 ]; then
  edge_net=convnet epochs=1 batch=64 costs=(0.1 0.2) local=(--epochs 2) report=(--draws 50)
fi

"$python" train_localnet.py --dataset digits --local_classes 0-7 --lr 0.01 ${local[@]+"${local[@]}"} \
  --save_dir "$run" --resume
"$python" train_edgenet_async.py --dataset digits --edge_net $edge_net --epochs $epochs \
  --batch_size $batch --lr 0.01 --lr_rejector 0.02 --cost_1 1 1.25 --cost_e "${costs[@]}" \
  --async_freq 1 10 0 --save_dir "$run" --resume
"$python" eval_all.py --dataset digits --save_dir "$run" --resume
"$python" -m figures "$run"
"$python" -m deferral.report "$run" --cost_1 1.25 --cost_e 0.2 --overwrite \
  ${report[@]+"${report[@]}"}
echo
echo "Figures (PNG and PDF) and tables (md, tex, csv) are in $run/figures; start with digits-risk.png."
echo "The report to open in a browser is $run/digits-report.html."
