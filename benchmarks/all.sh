#!/usr/bin/env bash
# Every benchmark of speed on one device, one after another on a machine that does nothing else:
#   bash benchmarks/all.sh DEVICE OUT
# Writes OUT/NAME-DEVICE.json and OUT/NAME-DEVICE.txt; what is there already is not made again.
# Half an hour on 2 CPU cores. On a GPU the tests of its own go first, and AlexNet, ViT-B/16 and
# torch.compile are in. NETS, ROUNDS: other edge nets, other numbers of rounds.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0
cd "$(dirname "$0")/.."
device=${1:?usage: bash benchmarks/all.sh DEVICE OUT}
out=${2:?usage: bash benchmarks/all.sh DEVICE OUT}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rounds=${ROUNDS:-5}

benchmark() {
  local name=$1
  shift
  if [ -s "$out/$name-$device.json" ]; then return; fi
  "$python" -m "$@" --device "$device" --out "$out/$name-$device.json" 2>&1 |
    tee "$out/$name-$device.txt"
}

nets="lenet5 convnet alexnet" more=()
if [[ $device == cuda* ]]; then
  nets="lenet5 alexnet vit" more=(--compile)
  "$python" -m pytest -q tests/test_cuda.py
fi
benchmark floor benchmarks.floor --nets ${NETS:-$nets} --rounds "$rounds" "${more[@]}"
benchmark sweep benchmarks.sweep --rounds "$rounds"
benchmark early_exit_speed benchmarks.early_exit_speed --compile
benchmark meta_gradient benchmarks.meta_gradient
benchmark evaluation benchmarks.evaluation
benchmark scale-settings benchmarks.scale
