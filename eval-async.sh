#!/usr/bin/env bash
# Predictions and JSON of what train-async.sh trained.  bash eval-async.sh [RUN]
source "$(dirname "$0")/pipeline.sh"

evaluate async
