#!/bin/sh
# The platform may run a copy of this text elsewhere: ECHO_HOME says where the function's files are.
set -eu
home=${ECHO_HOME:-$(cd "$(dirname "$0")" && pwd)}
exec "${ECHO_PYTHON:-python3}" "$home/classify.py"
