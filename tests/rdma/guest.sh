#!/bin/sh
# In the guest: a program that knows nothing of us must say the same over rdma:// as directly. The argument is an address of the device's.
set -eu
mkdir -p /tmp/served /tmp/direct
echo 0123456789abcdef0123456789abcdef >/tmp/token
chmod 600 /tmp/token
mkfifo /tmp/ready
export RGPU_TOKEN_FILE=/tmp/token
SOFTGPU_HOME=/tmp/served rgpud --driver /lib/softgpu/libcuda.so.1 --listen "rdma://$1:0" --token-file /tmp/token \
    >/tmp/ready 2>/tmp/rgpud.log &
exec 3</tmp/ready
read -r line <&3 || { cat /tmp/rgpud.log; exit 1; }
server=$(echo "$line" | sed -n 's|.*\(rdma://[0-9.:]*\).*|\1|p')
echo "rgpud: $server"

remotely() {
    LD_LIBRARY_PATH=/lib/rgpu RGPU_SERVERS=$1 conformance
}
LD_LIBRARY_PATH=/lib/softgpu SOFTGPU_HOME=/tmp/direct conformance >/tmp/directly
remotely "$server" >/tmp/remotely 2>/tmp/said && diff /tmp/directly /tmp/remotely || { cat /tmp/said /tmp/rgpud.log; exit 1; }
grep -q "rdma $1" /tmp/rgpud.log || { echo "it did not come by rdma"; cat /tmp/rgpud.log; exit 1; }
echo "conformance over rdma: $(grep -c . /tmp/remotely) facts as directly"

# The listener's relay dies while a program copies: the program gets an error, and words.
mkfifo /tmp/in /tmp/out
LD_LIBRARY_PATH=/lib/rgpu RGPU_SERVERS=$server session </tmp/in >/tmp/out 2>/tmp/lost &
exec 4>/tmp/in 5</tmp/out
answers() {
    read -r line <&5 && echo "session: $line"
    case $line in $1) ;; *) cat /tmp/lost /tmp/rgpud.log; exit 1 ;; esac
}
answers "ready 0"
echo compute >&4
answers "compute 0"
echo flood 4 >&4
for process in /proc/[0-9]*; do
    [ "$(cat "$process/comm" 2>/dev/null)" != rgpud-relay ] || kill -9 "${process#/proc/}"
done
answers "flood [1-9]*"
grep "the other side's relay has ended" /tmp/lost
exec 4>&-

# Another follows it at the same address.
# Until it is there, a client is told so.
tries=0
until remotely "$server" >/tmp/again 2>/tmp/refused && diff /tmp/directly /tmp/again; do
    tries=$((tries + 1))
    [ $tries -lt 20 ] || { cat /tmp/refused /tmp/rgpud.log; exit 1; }
    sleep 1
done
grep -q "the relay has ended" /tmp/rgpud.log
echo "after the relay's death: the same, $tries tries later"

remotely "rdma://$1:9" >/dev/null 2>/tmp/refused || true
grep "nobody takes RDMA connections there" /tmp/refused
