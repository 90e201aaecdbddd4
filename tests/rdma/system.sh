# Part of vm.sh: what a user has, in the guest: rgpud with a relay, the client library with another, softgpu, and a program of CUDA's.
cargo build --quiet -p rgpud -p rgpu-cli -p rgpu-shim-cuda -p softgpu-driver --features rgpud/rdma,rgpu-cli/rdma
built=target/debug
install_with_libraries "$built/rgpud" bin/rgpud
install_with_libraries "$built/rgpu" bin/rgpu
install_with_libraries "$built/librgpu_cuda.so" lib/rgpu/libcuda.so.1
install_with_libraries "$built/libsoftgpu_cuda.so" lib/softgpu/libcuda.so.1
if ldd "$built/librgpu_cuda.so" | grep -E 'ibverbs|rdmacm'; then
    echo "libcuda.so.1 must not load RDMA's libraries" >&2
    exit 1
fi
for program in conformance session; do
    gcc -std=gnu11 -O1 -o "$work/$program" "tests/c/$program.c" -ldl -lpthread
    install_with_libraries "$work/$program" "bin/$program"
done
install -m 755 tests/rdma/guest.sh "$root/system"
