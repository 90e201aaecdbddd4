"""The layer on a GPU, by the CUDA driver API alone: no package is needed, and any libcuda.so.1 will do, a remote one too."""

import ctypes

NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE

# A thread for each class of a picture, a block for each picture: out[picture][class] = bias[class] + weights[class] . in[picture].
PTX = b"""
.version 6.0
.target sm_50
.address_size 64

.visible .entry layer(.param .u64 out, .param .u64 weights, .param .u64 bias, .param .u64 in, .param .u32 length, .param .u32 classes)
{
    .reg .pred %p<3>;
    .reg .b32 %r<9>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<14>;

    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    ld.param.u32 %r3, [length];
    ld.param.u32 %r4, [classes];
    setp.ge.u32 %p1, %r1, %r4;
    @%p1 bra END;
    ld.param.u64 %rd1, [out];
    ld.param.u64 %rd2, [weights];
    ld.param.u64 %rd3, [bias];
    ld.param.u64 %rd4, [in];
    cvta.to.global.u64 %rd5, %rd1;
    cvta.to.global.u64 %rd6, %rd2;
    cvta.to.global.u64 %rd7, %rd3;
    cvta.to.global.u64 %rd8, %rd4;
    mul.lo.u32 %r5, %r1, %r3;
    mul.wide.u32 %rd9, %r5, 4;
    add.s64 %rd6, %rd6, %rd9;
    mul.lo.u32 %r6, %r2, %r3;
    mul.wide.u32 %rd10, %r6, 4;
    add.s64 %rd8, %rd8, %rd10;
    mul.wide.u32 %rd11, %r1, 4;
    add.s64 %rd7, %rd7, %rd11;
    ld.global.f32 %f1, [%rd7];
    mov.u32 %r7, 0;
LOOP:
    setp.ge.u32 %p2, %r7, %r3;
    @%p2 bra STORE;
    ld.global.f32 %f2, [%rd6];
    ld.global.f32 %f3, [%rd8];
    fma.rn.f32 %f1, %f2, %f3, %f1;
    add.s64 %rd6, %rd6, 4;
    add.s64 %rd8, %rd8, 4;
    add.u32 %r7, %r7, 1;
    bra LOOP;
STORE:
    mad.lo.u32 %r8, %r2, %r4, %r1;
    mul.wide.u32 %rd12, %r8, 4;
    add.s64 %rd13, %rd5, %rd12;
    st.global.f32 [%rd13], %f1;
END:
    ret;
}
"""


class Layer:
    """A model's layer on the first device; call it with pictures. `with` lets the device go again."""

    def __init__(self, cuda, model):
        self.cuda, self.model, self.held = cuda, model, []
        self.device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(self.device), 0)
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self.call("cuCtxSetCurrent", context)
        module, self.kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.call("cuModuleGetFunction", ctypes.byref(self.kernel), module, b"layer")
        self.weights = self.put([w for row in model.weights for w in row])
        self.bias = self.put(model.bias)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call("cuDevicePrimaryCtxRelease_v2", self.device)

    def call(self, name, *arguments):
        result = getattr(self.cuda, name)(*arguments)
        if result != 0:
            raise RuntimeError(f"{name}: CUresult {result}")

    def allocate(self, count):
        place = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(4 * count))
        return place

    def put(self, numbers):
        place, host = self.allocate(len(numbers)), (ctypes.c_float * len(numbers))(*numbers)
        self.call("cuMemcpyHtoD_v2", place, host, ctypes.c_size_t(ctypes.sizeof(host)))
        return place

    def __call__(self, pictures):
        length, classes = len(pictures[0]), len(self.model.classes)
        given = self.put([pixel for picture in pictures for pixel in picture])
        made = self.allocate(len(pictures) * classes)
        values = [made, self.weights, self.bias, given, ctypes.c_uint32(length), ctypes.c_uint32(classes)]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        grid, block = (len(pictures), 1, 1), (classes, 1, 1)
        self.call("cuLaunchKernel", self.kernel, *grid, *block, 0, None, pointers, None)
        host = (ctypes.c_float * (len(pictures) * classes))()
        self.call("cuMemcpyDtoH_v2", host, made, ctypes.c_size_t(ctypes.sizeof(host)))
        self.call("cuMemFree_v2", given)
        self.call("cuMemFree_v2", made)
        return [list(host[at : at + classes]) for at in range(0, len(host), classes)]


def driver():
    """The CUDA driver, or None where there is no device. What else is wrong is an error: it may be better in the next attempt."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    result = cuda.cuInit(0)
    if result == NO_DEVICE:
        return None
    if result != 0:
        raise RuntimeError(f"cuInit: CUresult {result}")
    return cuda
