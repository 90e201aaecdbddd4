#!/bin/sh
set -eu
exec "$ECHO_PYTHON" "$RGPU_FUNCTION_DIR/paced.py"
