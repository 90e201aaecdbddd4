#!/bin/sh
# The platform runs a copy of this text elsewhere: ECHO_HOME, or the folder that it knows the definition by, says where
# the function's files are.
set -eu
home=${ECHO_HOME:-${RGPU_FUNCTION_DIR:-$(cd "$(dirname "$0")" && pwd)}}
exec "${ECHO_PYTHON:-python3}" "$home/classify.py"
