#!/usr/bin/env bash
# Every benchmark of docs/speed.md on one device, one after another, on an otherwise idle machine:
#   bash benchmarks/all.sh DEVICE OUT
#   NETS    edge nets of benchmarks.floor; "lenet5 convnet alexnet" on a CPU if not given
#   ROUNDS  rounds of floor, sweep and evaluation, 5 if not given
# Writes OUT/NAME-DEVICE.json and OUT/NAME-DEVICE.txt and skips benchmarks whose files exist. On a GPU
# it runs the GPU tests first and includes AlexNet, ViT-B/16 and torch.compile; the reports and
# k-center, which use no GPU, and several processes, which need a GPU each, run on a CPU only.
set -euo pipefail
# glibc keeps freed memory instead of clearing its pages anew at every step; ignored on macOS.
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0
cd "$(dirname "$0")/.."
device=${1:?usage: bash benchmarks/all.sh DEVICE OUT}
out=${2:?usage: bash benchmarks/all.sh DEVICE OUT}
python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" > /dev/null; then python=python3; fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
rounds=${ROUNDS:-5}

# benchmark NAME MODULE FLAGS...
benchmark() {
  local name=$1
  shift
  if [ -s "$out/$name-$device.json" ]; then return; fi
  "$python" -m "$@" --out "$out/$name-$device.json" 2>&1 | tee "$out/$name-$device.txt"
}

nets="lenet5 convnet alexnet" more=() stream=(--batch_size 8 --steps 6 --rounds 1)
if [[ $device == cuda* ]]; then
  nets="lenet5 alexnet vit" more=(--compile) stream=()
  "$python" -m pytest -q tests/test_cuda.py
fi
on=(--device "$device")
benchmark floor benchmarks.floor --nets ${NETS:-$nets} --rounds "$rounds" "${on[@]}" ${more[@]+"${more[@]}"}
benchmark sweep benchmarks.sweep --rounds "$rounds" "${on[@]}"
benchmark amortized benchmarks.amortized "${on[@]}"
benchmark early_exit_speed benchmarks.early_exit_speed "${on[@]}"
benchmark early_exit_speed-compile benchmarks.early_exit_speed --compile "${on[@]}"
benchmark meta_gradient benchmarks.meta_gradient "${on[@]}"
benchmark text_batches benchmarks.text_batches "${on[@]}"
benchmark evaluation benchmarks.evaluation --rounds "$rounds" "${on[@]}"
benchmark scale-settings benchmarks.scale "${on[@]}"
benchmark stream benchmarks.stream "${on[@]}" ${stream[@]+"${stream[@]}"}
if [ "$device" = cpu ]; then
  benchmark report benchmarks.report
  benchmark processes benchmarks.processes "${on[@]}"
  OMP_NUM_THREADS=1 benchmark kcenter benchmarks.kcenter --full_matrix --rounds 1
fi
