#!/bin/sh
# The platform runs a copy of this text elsewhere: the folder that it knows the definition by says where the function's files are.
set -eu
home=${DIGITS_HOME:-${RGPU_FUNCTION_DIR:-$(cd "$(dirname "$0")" && pwd)}}
exec python3 "$home/predict.py"
