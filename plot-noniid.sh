#!/usr/bin/env bash
# Tables and figures of what eval-noniid.sh evaluated.  bash plot-noniid.sh [RUN]
source "$(dirname "$0")/pipeline.sh"

plot noniid
