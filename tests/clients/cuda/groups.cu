// Cooperative groups: tiles, what is active, the whole grid.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
namespace cg = cooperative_groups;

extern "C" __global__ void tiles(const int *in, int *out) {
    cg::thread_block block = cg::this_thread_block();
    auto tile = cg::tiled_partition<8>(block);
    int i = block.group_index().x * block.size() + block.thread_rank(), v = in[i];
    int sum = cg::reduce(tile, v, cg::plus<int>()), most = cg::reduce(tile, v, cg::greater<int>());
    int before = cg::exclusive_scan(tile, v, cg::plus<int>());
    out[i] = sum * 1000000 + most * 1000 + before + tile.shfl(v, 3);
}

extern "C" __global__ void active(const int *in, int *counter, int *places) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (in[i] % 3 == 0) {
        auto together = cg::coalesced_threads();
        int first = 0;
        if (together.thread_rank() == 0) first = atomicAdd(counter, together.size());
        places[i] = together.shfl(first, 0) + together.thread_rank();
    }
}

// Each round needs what all blocks made in the last one.
extern "C" __global__ void rounds(int *a, int *b, int n, int times) {
    cg::grid_group grid = cg::this_grid();
    int i = grid.thread_rank();
    for (int t = 0; t < times; t++) {
        int *from = t % 2 ? b : a, *to = t % 2 ? a : b;
        if (i < n) to[i] = from[(i + 1) % n] + from[(i + n / 2) % n] % 1000;
        grid.sync();
    }
}
