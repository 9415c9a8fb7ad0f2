#!/usr/bin/env bash
# Predictions and JSON of what train-conf-score.sh trained: bash eval.sh [RUN]
source "$(dirname "$0")/runs/common.sh"
evaluate conf-score
