#!/bin/sh
# Calls a command of DEEPaaS' kind. DEEPAAS_PREDICT names it; without that, it is the one of PATH, or else the stand-in of this folder.
# DEEPAAS_OUTPUT: `file` for commands that take --output-file, `folder` for those that take --output (as DEEPaaS 2 does).
set -eu
home=${DEEPAAS_HOME:-${RGPU_FUNCTION_DIR:-$(cd "$(dirname "$0")" && pwd)}}
if [ -n "${DEEPAAS_PREDICT:-}" ]; then
    command=$DEEPAAS_PREDICT
    output=${DEEPAAS_OUTPUT:-folder}
elif command=$(command -v deepaas-predict); then
    output=${DEEPAAS_OUTPUT:-folder}
else
    command=$home/deepaas-predict
    output=${DEEPAAS_OUTPUT:-file}
fi
name=$(basename "$INPUT_FILE_PATH")
case $output in
file) exec "$command" --input-file "$INPUT_FILE_PATH" --output-file "$TMP_OUTPUT_DIR/${name%.*}.json" ;;
folder) exec "$command" --input-file "$INPUT_FILE_PATH" --content-type application/json --output "$TMP_OUTPUT_DIR/" ;;
*) echo "DEEPAAS_OUTPUT is $output; it is file or folder" && exit 2 ;;
esac
