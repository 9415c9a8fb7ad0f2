#!/usr/bin/env bash
# Every speed benchmark on one device, one after another, on an otherwise idle machine:
#   bash benchmarks/all.sh DEVICE OUT
#   NETS    edge nets of benchmarks.floor; "lenet5 convnet alexnet" on a CPU if not given
#   ROUNDS  rounds of each measurement, 5 if not given
# Writes OUT/NAME-DEVICE.json and OUT/NAME-DEVICE.txt and skips benchmarks whose files exist. On a GPU
# it runs the GPU tests first and includes AlexNet, ViT-B/16 and torch.compile.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0
cd "$(dirname "$0")/.."
device=${1:?usage: bash benchmarks/all.sh DEVICE OUT}
out=${2:?usage: bash benchmarks/all.sh DEVICE OUT}
python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
export MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-4294967296}
export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-8589934592}
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
benchmark floor benchmarks.floor --nets ${NETS:-$nets} --rounds "$rounds" ${more[@]+"${more[@]}"}
benchmark sweep benchmarks.sweep --rounds "$rounds"
benchmark early_exit_speed benchmarks.early_exit_speed --compile
benchmark meta_gradient benchmarks.meta_gradient
benchmark text_batches benchmarks.text_batches
benchmark evaluation benchmarks.evaluation
benchmark scale-settings benchmarks.scale
benchmark stream benchmarks.stream
