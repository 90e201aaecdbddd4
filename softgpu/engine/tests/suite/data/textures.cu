// Compiled to textures.ptx by NVRTC 12.9 for compute_86.
typedef cudaTextureObject_t T;
typedef cudaSurfaceObject_t S;
extern "C" __global__ void lookups(float4 *out, T t, float x, float y, float z, int l)
{
    int i = threadIdx.x;
    out[i * 20 + 0] = tex1Dfetch<float4>(t, i);
    out[i * 20 + 1] = tex1D<float4>(t, x);
    out[i * 20 + 2] = tex2D<float4>(t, x, y);
    out[i * 20 + 3] = tex3D<float4>(t, x, y, z);
    out[i * 20 + 4] = tex1DLayered<float4>(t, x, l);
    out[i * 20 + 5] = tex2DLayered<float4>(t, x, y, l);
    out[i * 20 + 6] = texCubemap<float4>(t, x, y, z);
    out[i * 20 + 7] = texCubemapLayered<float4>(t, x, y, z, l);
    out[i * 20 + 8] = tex2Dgather<float4>(t, x, y, 2);
    out[i * 20 + 9] = tex2DLod<float4>(t, x, y, z);
    out[i * 20 + 10] = tex2DGrad<float4>(t, x, y, make_float2(x, y), make_float2(y, x));
    out[i * 20 + 11] = tex3DGrad<float4>(t, x, y, z, make_float4(x, y, z, 0), make_float4(z, y, x, 0));
    out[i * 20 + 12] = tex1DLod<float4>(t, x, z);
    out[i * 20 + 13] = tex2DLayeredLod<float4>(t, x, y, l, z);
    out[i * 20 + 14] = texCubemapLod<float4>(t, x, y, z, x);
    uchar4 u = tex2D<uchar4>(t, x, y);
    short2 s = tex2D<short2>(t, x, y);
    int w = tex2D<int>(t, x, y);
    unsigned v = tex1Dfetch<unsigned>(t, i);
    out[i * 20 + 15] = make_float4(u.x + s.y, u.y + w, u.z + s.x, u.w + v);
    bool r;
    out[i * 20 + 16] = tex2D<float4>(t, x, y, &r);
    out[i * 20 + 17] = make_float4(r, 0, 0, 0);
}
extern "C" __global__ void surfaces(S a, S b, int l)
{
    int x = threadIdx.x, y = threadIdx.y, z = threadIdx.z;
    surf1Dwrite(surf1Dread<int>(a, x * 4), b, x * 4);
    surf2Dwrite(surf2Dread<uchar4>(a, x * 4, y), b, x * 4, y);
    surf2Dwrite(surf2Dread<float4>(a, x * 16, y, cudaBoundaryModeZero), b, x * 16, y, cudaBoundaryModeClamp);
    surf3Dwrite(surf3Dread<short2>(a, x * 4, y, z, cudaBoundaryModeClamp), b, x * 4, y, z, cudaBoundaryModeZero);
    surf1DLayeredwrite(surf1DLayeredread<uint2>(a, x * 8, l), b, x * 8, l);
    surf2DLayeredwrite(surf2DLayeredread<longlong2>(a, x * 16, y, l), b, x * 16, y, l);
    surf2Dwrite(surf2Dread<unsigned char>(a, x, y), b, x, y);
    surfCubemapwrite(surfCubemapread<float>(a, x * 4, y, 3), b, x * 4, y, 4);
    surfCubemapLayeredwrite(surfCubemapLayeredread<ushort4>(a, x * 8, y, 9), b, x * 8, y, 8);
}
