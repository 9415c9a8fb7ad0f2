#!/usr/bin/env bash
# The paper's 42 cost settings: bash train-conf-score.sh [RUN], then eval.sh and plot.sh.
source "$(dirname "$0")/runs/common.sh"
train_conf_score
