#!/usr/bin/env bash
# The tests: makes its environment if there is none, then runs pytest on the CPU, offline, a process a
# core with one thread each (two threads each would wait for one another).
# bash test.sh [pytest's arguments]; 5 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")"
source ./runs/environment.sh

make_environment requirements-dev.txt
export CUDA_VISIBLE_DEVICES= MPLBACKEND=Agg OMP_NUM_THREADS=1
export MALLOC_TRIM_THRESHOLD_=-1 MALLOC_MMAP_MAX_=0 # as in runs/common.sh
"$python" -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
