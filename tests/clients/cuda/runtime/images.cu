// Arrays, texture and surface objects.
#include "check.h"
#include <vector>

const int W = 40, H = 24, D = 6;

__global__ void look_up(cudaTextureObject_t texture, float *out, float shift) {
    int x = threadIdx.x, y = blockIdx.x;
    out[y * W + x] = tex2D<float>(texture, x + shift, y + shift);
}
__global__ void fetch(cudaTextureObject_t texture, int4 *out) { out[threadIdx.x] = tex1Dfetch<int4>(texture, threadIdx.x + 1); }
__global__ void volume(cudaTextureObject_t texture, float *out) {
    out[(blockIdx.y * H + blockIdx.x) * W + threadIdx.x] = tex3D<float>(texture, threadIdx.x + 0.5f, blockIdx.x + 0.5f, blockIdx.y + 0.5f);
}
__global__ void layer(cudaTextureObject_t texture, float *out) {
    out[blockIdx.x * W + threadIdx.x] = tex2DLayered<float>(texture, threadIdx.x + 0.5f, 0.5f, blockIdx.x);
}
__global__ void levels(cudaTextureObject_t texture, float *out) { out[threadIdx.x] = tex2DLod<float>(texture, 0.5f, 0.5f, threadIdx.x); }
__global__ void write(cudaSurfaceObject_t surface) {
    int x = threadIdx.x, y = blockIdx.x;
    float old;
    surf2Dread(&old, surface, x * sizeof(float), y);
    surf2Dwrite(old * 2 + 1, surface, x * sizeof(float), y);
}
__global__ void bytes(cudaTextureObject_t texture, float *out) { out[threadIdx.x] = tex2D<float>(texture, (threadIdx.x + 0.5f) / 4, 0.5f); }

static cudaResourceDesc of(cudaArray_t array) {
    cudaResourceDesc resource = {};
    resource.resType = cudaResourceTypeArray;
    resource.res.array.array = array;
    return resource;
}

int main() {
    std::vector<float> in(W * H * D), out(W * H * D);
    for (size_t i = 0; i < in.size(); i++) in[i] = i;
    float *result;
    OK(cudaMalloc(&result, in.size() * sizeof(float)));
    auto read = [&](size_t count) { OK(cudaMemcpy(out.data(), result, count * sizeof(float), cudaMemcpyDeviceToHost)); };

    // Two dimensions: points, then halfway between them.
    cudaArray_t array;
    cudaChannelFormatDesc format = cudaCreateChannelDesc<float>();
    OK(cudaMallocArray(&array, &format, W, H, cudaArraySurfaceLoadStore));
    OK(cudaMemcpy2DToArray(array, 0, 0, in.data(), W * sizeof(float), W * sizeof(float), H, cudaMemcpyHostToDevice));
    cudaChannelFormatDesc told;
    cudaExtent extent;
    unsigned flags;
    OK(cudaArrayGetInfo(&told, &extent, &flags, array));
    IS(told.x * 1000 + told.f, 32000 + cudaChannelFormatKindFloat);
    IS(extent.width * 100 + extent.height, W * 100 + H);
    cudaResourceDesc resource = of(array);
    cudaTextureDesc texture = {};
    texture.addressMode[0] = texture.addressMode[1] = cudaAddressModeClamp;
    cudaTextureObject_t object;
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    look_up<<<H, W>>>(object, result, 0.5f);
    read(W * H);
    IS(out[3 * W + 7], 3 * W + 7);
    cudaTextureDesc back;
    OK(cudaGetTextureObjectTextureDesc(&back, object));
    IS(back.addressMode[1], cudaAddressModeClamp);
    OK(cudaDestroyTextureObject(object));
    texture.filterMode = cudaFilterModeLinear;
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    look_up<<<H, W>>>(object, result, 1.0f);
    read(W * H);
    IS(out[3 * W + 7], 3 * W + 7 + 0.5 + W * 0.5);
    IS(out[W * H - 1], W * H - 1);
    OK(cudaDestroyTextureObject(object));

    // A surface changes the array in place.
    cudaSurfaceObject_t surface;
    OK(cudaCreateSurfaceObject(&surface, &resource));
    write<<<H, W>>>(surface);
    OK(cudaMemcpy2DFromArray(out.data(), W * sizeof(float), array, 0, 0, W * sizeof(float), H, cudaMemcpyDeviceToHost));
    IS(out[5 * W + 5], 2 * (5 * W + 5) + 1);
    OK(cudaDestroySurfaceObject(surface));
    OK(cudaFreeArray(array));

    // Linear memory.
    std::vector<int> numbers(64);
    for (int i = 0; i < 64; i++) numbers[i] = i;
    int4 *linear, *four;
    OK(cudaMalloc(&linear, 256));
    OK(cudaMalloc(&four, 256));
    OK(cudaMemcpy(linear, numbers.data(), 256, cudaMemcpyHostToDevice));
    resource = {};
    resource.resType = cudaResourceTypeLinear;
    resource.res.linear.devPtr = linear;
    resource.res.linear.desc = cudaCreateChannelDesc<int4>();
    resource.res.linear.sizeInBytes = 256;
    texture = {};
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    fetch<<<1, 8>>>(object, four);
    int4 got[8];
    OK(cudaMemcpy(got, four, sizeof got, cudaMemcpyDeviceToHost));
    IS(got[2].w, 15);
    cudaResourceDesc again;
    OK(cudaGetTextureObjectResourceDesc(&again, object));
    IS(again.res.linear.sizeInBytes, 256);
    IS(again.res.linear.desc.w, 32);
    OK(cudaDestroyTextureObject(object));

    // Bytes as fractions, by coordinates from 0 to 1, of pitched memory.
    unsigned char gray[4] = {0, 51, 102, 255}, *rows;
    size_t pitch;
    OK(cudaMallocPitch(&rows, &pitch, 4, 1));
    OK(cudaMemcpy(rows, gray, 4, cudaMemcpyHostToDevice));
    resource = {};
    resource.resType = cudaResourceTypePitch2D;
    resource.res.pitch2D.devPtr = rows;
    resource.res.pitch2D.desc = cudaCreateChannelDesc<unsigned char>();
    resource.res.pitch2D.width = 4;
    resource.res.pitch2D.height = 1;
    resource.res.pitch2D.pitchInBytes = pitch;
    texture = {};
    texture.readMode = cudaReadModeNormalizedFloat;
    texture.normalizedCoords = 1;
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    bytes<<<1, 4>>>(object, result);
    read(4);
    IS(out[1], 51 / 255.0f);
    IS(out[3], 1);
    OK(cudaDestroyTextureObject(object));

    // Three dimensions, and layers.
    cudaArray_t cube;
    OK(cudaMalloc3DArray(&cube, &format, make_cudaExtent(W, H, D)));
    cudaMemcpy3DParms copy = {};
    copy.srcPtr = make_cudaPitchedPtr(in.data(), W * sizeof(float), W, H);
    copy.dstArray = cube;
    copy.extent = make_cudaExtent(W, H, D);
    copy.kind = cudaMemcpyHostToDevice;
    OK(cudaMemcpy3D(&copy));
    resource = of(cube);
    texture = {};
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    volume<<<dim3(H, D), W>>>(object, result);
    read(W * H * D);
    IS(out[W * H * D - 3], W * H * D - 3);
    OK(cudaDestroyTextureObject(object));
    OK(cudaFreeArray(cube));
    OK(cudaMalloc3DArray(&cube, &format, make_cudaExtent(W, 1, D), cudaArrayLayered));
    copy.srcPtr = make_cudaPitchedPtr(in.data(), W * sizeof(float), W, 1);
    copy.dstArray = cube;
    copy.extent = make_cudaExtent(W, 1, D);
    OK(cudaMemcpy3D(&copy));
    resource = of(cube);
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    layer<<<D, W>>>(object, result);
    read(W * D);
    IS(out[4 * W + 9], 4 * W + 9);
    OK(cudaDestroyTextureObject(object));
    OK(cudaFreeArray(cube));

    // Levels of a mipmap.
    cudaMipmappedArray_t mipmap;
    OK(cudaMallocMipmappedArray(&mipmap, &format, make_cudaExtent(8, 8, 0), 3));
    for (int level = 0; level < 3; level++) {
        std::vector<float> fill(64, 10.0f * level + 1);
        OK(cudaGetMipmappedArrayLevel(&array, mipmap, level));
        size_t width = 8 >> level;
        OK(cudaMemcpy2DToArray(array, 0, 0, fill.data(), width * sizeof(float), width * sizeof(float), width, cudaMemcpyHostToDevice));
    }
    resource = {};
    resource.resType = cudaResourceTypeMipmappedArray;
    resource.res.mipmap.mipmap = mipmap;
    texture.normalizedCoords = 1;
    texture.maxMipmapLevelClamp = 2;
    OK(cudaCreateTextureObject(&object, &resource, &texture, nullptr));
    levels<<<1, 3>>>(object, result);
    read(3);
    IS(out[0] + out[1] * 100 + out[2] * 10000, 1 + 1100 + 210000);
    OK(cudaDestroyTextureObject(object));
    OK(cudaFreeMipmappedArray(mipmap));
    std::puts("ok");
}
