#!/bin/sh
# A peer of `cargo xtask bench fast --peer rgpu=bench/peers/rgpu.sh` that is this project itself: FOLDER COMMAND [ARGUMENT…].
# Shows what such a script has to do, and tests that the bench can use one. RGPU_DIST: where the programs are, else dist/; RGPU_PEER_TRANSPORT: tcp.
set -eu
folder=$1
shift
dist=${RGPU_DIST:-$(cd "$(dirname "$0")/../.." && pwd)/dist}
home=$(mktemp -d)
server=
end() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || :; }
    rm -rf "$home"
}
trap end EXIT
trap 'exit 130' INT TERM
(umask 077 && od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$home/token")
# Its line says when it is ready, and where.
mkfifo "$home/ready"
"$dist/bin/rgpud" --driver "$folder/libcuda.so.1" --listen tcp://127.0.0.1:0 --listen "unix://$home/socket" --token-file "$home/token" \
    > "$home/ready" 2> "$home/log" &
server=$!
read -r line < "$home/ready" || { cat "$home/log" >&2; exit 1; }
transport=${RGPU_PEER_TRANSPORT:-tcp}
case $transport in
tcp) address=$(printf '%s' "$line" | sed 's/.*"\(tcp:[^"]*\)".*/\1/') ;;
*) address=unix://$home/socket ;;
esac
# Not exec: the trap has to run behind it.
"$dist/bin/rgpu" run --server "$address" --token-file "$home/token" --transport "$transport" -- "$@"
