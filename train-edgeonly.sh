#!/usr/bin/env bash
# The edge net without rejectors, and its evaluation: bash train-edgeonly.sh [RUN]
source "$(dirname "$0")/runs/common.sh"
train_edgeonly
