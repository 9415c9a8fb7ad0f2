#!/usr/bin/env bash
# The paper's 12 asynchronous settings: bash train-async.sh [RUN], then eval-async.sh and plot-async.sh.
source "$(dirname "$0")/runs/common.sh"
train_async
