#!/usr/bin/env bash
# From nothing to the idea at work: bash quickstart.sh [RUN]
# Makes .venv (Python 3.10+), then on the digits of scikit-learn trains a local net that knows the
# classes 0-7 only, an edge net that knows all ten, and 24 rejectors beside it: one for each of
# c_1 in {1, 1.25}, c_e in {0.05, 0.1, 0.2, 0.3} and S in {1, 10, |D|}, in one pass.
# Under 3 minutes on 2 CPU cores once the packages are there. Run again, it skips what is complete
# and resumes what was killed. FAST=1 trains less, to see that all works.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0
cd "$(dirname "$0")"
source ./environment.sh

make_environment requirements.txt
run=${1:-results/runs/quickstart}
epochs=12 batch=16
if [ "${FAST:-0}" = 1 ]; then epochs=1 batch=64; fi

"$python" train_localnet.py --dataset digits --local_classes 0-7 --lr 0.01 --save_dir "$run" --resume
"$python" train_edgenet_async.py --dataset digits --edge_net resnet18 --epochs $epochs \
  --batch_size $batch --lr 0.01 --lr_rejector 0.02 --cost_1 1 1.25 --cost_e 0.05 0.1 0.2 0.3 \
  --async_freq 1 10 0 --save_dir "$run" --resume
"$python" eval_all.py --dataset digits --save_dir "$run" --resume
"$python" -m figures "$run"
"$python" -m deferral.report "$run" --cost_1 1.25 --cost_e 0.2 --overwrite
echo
echo "Figures (PNG and PDF) and tables (md, tex, csv) are in $run/figures; look at digits-risk.png first."
echo "The page to open in a browser is $run/digits-report.html."
