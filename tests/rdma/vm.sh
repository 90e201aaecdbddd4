#!/bin/sh
# Runs the RDMA tests on soft-RoCE, in a virtual machine of this host's. See README.md beside it.
set -eu
cd "$(dirname "$0")/../.."
work=$PWD/target/rdma
root=$work/root
: "${LIBCLANG_PATH:=/usr/lib/llvm-14/lib}"
export LIBCLANG_PATH

for tool in qemu-system-x86_64 cpio busybox modprobe depmod rdma dpkg-deb; do
    command -v "$tool" >/dev/null || { echo "$tool is missing; README.md beside this script names the packages" >&2; exit 2; }
done

mkdir -p "$work"
if [ ! -e "$work/kernel/boot" ]; then
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    (cd "$work" && rm -f linux-image-*.deb && apt-get download "$package")
    dpkg-deb -x "$work"/linux-image-*.deb "$work/kernel"
fi
release=$(basename "$work"/kernel/lib/modules/*)
[ -e "$work/kernel/lib/modules/$release/modules.dep" ] || depmod -b "$work/kernel" "$release"

rm -rf "$root"
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/etc/libibverbs.d"

# A program or library, with the libraries that it loads, at the places where they are here.
install_with_libraries() {
    install -D -s "$1" "$root/$2"
    ldd "$1" | awk '/=> \// { print $3 } $1 ~ /^\// { print $1 }' | while read -r library; do
        [ -e "$root/$library" ] || install -D "$library" "$root/$library"
    done
}

tests=$(cargo test --quiet -p rgpu-rdma --features verbs --test soft_roce --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*soft_roce[^"]*\)".*/\1/p')
install_with_libraries "$tests" bin/soft_roce
if [ "${1-}" != --alone ]; then
    . tests/rdma/system.sh
fi

cp "$(command -v busybox)" "$root/bin/busybox"
for command in sh mount ip ls cat mkdir mkfifo sleep kill poweroff sync chmod head grep sed diff; do
    ln -s busybox "$root/bin/$command"
done
install_with_libraries "$(command -v modprobe)" bin/modprobe
install_with_libraries "$(command -v rdma)" bin/rdma
install_with_libraries /usr/lib/*/libibverbs/librxe-rdmav*.so "$(ls /usr/lib/*/libibverbs/librxe-rdmav*.so)"
cp /etc/libibverbs.d/rxe.driver "$root/etc/libibverbs.d/"
echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"

for module in dummy crc32_generic udp_tunnel ip6_udp_tunnel ib_core ib_uverbs rdma_rxe configfs ib_cm iw_cm rdma_cm rdma_ucm; do
    modprobe -d "$work/kernel" -S "$release" --show-depends "$module" | awk '/^insmod/ { print $2 }'
done | sort -u | while read -r file; do
    install -D "$file" "$root/${file#"$work"/kernel}"
done
cp "$work/kernel/lib/modules/$release/modules.order" "$work/kernel/lib/modules/$release"/modules.builtin* "$root/lib/modules/$release/"
depmod -b "$root" "$release"
install tests/rdma/init "$root/init"

(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$work/initramfs"
# A guest that hangs must not hold the caller.
timeout --foreground "${RDMA_VM_TIMEOUT:-300}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "${RDMA_VM_MEMORY:-2048}" \
    -nographic -no-reboot -nic none -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet panic=-1 ${RDMA_VM_ONLY:+only=$RDMA_VM_ONLY}" </dev/null | tee "$work/log"
tail -n 20 "$work/log" | grep -q '^rdma tests: passed' || { echo "the RDMA tests have failed" >&2; exit 1; }
