#!/usr/bin/env bash
# Tables and figures of what eval.sh evaluated.  bash plot.sh [RUN]
source "$(dirname "$0")/pipeline.sh"

plot conf-score
