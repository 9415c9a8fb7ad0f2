#!/usr/bin/env bash
# Predictions and JSON of what train-async.sh trained: bash eval-async.sh [RUN]
source "$(dirname "$0")/runs/common.sh"
evaluate async
