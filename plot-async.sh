#!/usr/bin/env bash
# Tables and figures of what eval-async.sh evaluated: bash plot-async.sh [RUN]
source "$(dirname "$0")/runs/common.sh"
plot async
