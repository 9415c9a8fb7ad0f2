#!/usr/bin/env bash
# Tables and figures of what eval.sh evaluated: bash plot.sh [RUN]
source "$(dirname "$0")/runs/common.sh"
plot conf-score
