#!/usr/bin/env bash
# The tests: makes its environment if there is none, then runs pytest on the CPU, offline.
# bash test.sh [pytest's arguments]; some 4 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")"
source ./environment.sh

make_environment requirements-dev.txt
export CUDA_VISIBLE_DEVICES= MPLBACKEND=Agg
"$python" -m pytest "$@"
