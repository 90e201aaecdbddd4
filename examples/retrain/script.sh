#!/bin/sh
set -eu
home=${RETRAIN_HOME:-${RGPU_FUNCTION_DIR:-$(cd "$(dirname "$0")" && pwd)}}
exec python3 "$home/retrain.py"
