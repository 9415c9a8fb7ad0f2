#!/usr/bin/env bash
# Predictions and JSON of what train-noniid.sh trained.  bash eval-noniid.sh [RUN]
source "$(dirname "$0")/pipeline.sh"

evaluate noniid
