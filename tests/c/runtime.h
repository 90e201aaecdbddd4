/* libcudart as compiled programs use it, by name and without a header of NVIDIA's: code is registered before main, in a fat binary made by hand. */
#pragma once
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *handle;
typedef struct { unsigned x, y, z; } dim3;
typedef struct { size_t width, height, depth; } extent;
typedef struct { void *ptr; size_t pitch, xsize, ysize; } pitched;
typedef struct { size_t x, y, z; } position;
struct copy3d { handle src_array; position src_pos; pitched src; handle dst_array; position dst_pos; pitched dst; extent size; int kind; };
struct kernel_node { void *function; dim3 grid, block; unsigned shared; void **params, **extra; };
struct memset_node { void *dst; size_t pitch; unsigned value, element; size_t width, height; };
struct host_node { void (*function)(void *); void *data; };
enum { HOST_TO_HOST, TO_DEVICE, TO_HOST, ON_DEVICE, DEFAULT };

static void *library;

#define CALL(name, types, ...) ((int(*) types)find(#name))(__VA_ARGS__)
#define FACT(what, ...) printf(what " %lld\n", (long long)(__VA_ARGS__))

static void *find(const char *name) {
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "no symbol %s\n", name);
        exit(2);
    }
    return found;
}

/* y[i] = a * x[i] + y[i] + offset, where offset is a variable; each thread below n. */
static const char PTX[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .global .align 4 .u32 offset = 5;\n"
    ".visible .const .align 4 .u32 table[4] = {1, 2, 3, 4};\n"
    ".visible .global .attribute(.managed) .align 4 .u32 tally = 3;\n"
    ".visible .entry scale(.param .u64 x, .param .u64 y, .param .u32 a, .param .u32 n)\n"
    "{\n"
    ".reg .b32 %r<9>; .reg .b64 %d<5>; .reg .pred %p;\n"
    "mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ntid.x; mov.u32 %r2, %tid.x;\n"
    "mad.lo.u32 %r0, %r0, %r1, %r2;\n"
    "ld.param.u32 %r3, [n]; setp.ge.u32 %p, %r0, %r3; @%p ret;\n"
    "ld.param.u64 %d0, [x]; ld.param.u64 %d1, [y]; ld.param.u32 %r4, [a];\n"
    "mul.wide.u32 %d2, %r0, 4; add.u64 %d0, %d0, %d2; add.u64 %d1, %d1, %d2;\n"
    "ld.global.u32 %r5, [%d0]; ld.global.u32 %r6, [%d1]; mad.lo.u32 %r6, %r5, %r4, %r6;\n"
    "ld.global.u32 %r7, [offset]; add.u32 %r6, %r6, %r7; st.global.u32 [%d1], %r6; ret;\n"
    "}\n"
    ".visible .entry count() { .reg .b32 %r; ld.global.u32 %r, [tally]; add.u32 %r, %r, 1; st.global.u32 [tally], %r; ret; }\n"
    ".visible .entry fault() { .reg .b64 %d; mov.u64 %d, 8; st.global.u32 [%d], 1; ret; }\n";

/* What stands for kernels and variables on the host: addresses, and nothing else of them is used. */
static char scale_stub, count_stub, fault_stub, absent_stub, offset_var, table_var;
/* Of a managed variable, where its pointer comes to. */
static int *tally;
__attribute__((unused)) static char stranger;
static void **registered;
static _Alignas(8) unsigned char image[16 + 80 + sizeof PTX + 8];
static struct { uint32_t magic, version; void *data, *unused; } wrapper = {0x466243b1, 1, image, NULL};

static void unregister(void) { ((void (*)(void **))find("__cudaUnregisterFatBinary"))(registered); }

/* A container with one entry: PTX for sm_70, not compressed; as nvcc's, since NVIDIA's driver crashes over less. */
static void make_image(void) {
    uint64_t payload = (sizeof PTX + 7) / 8 * 8;
    uint32_t magic = 0xba55ed50, arch = 70, header = 80, options = 64, none = 72;
    uint64_t size = header + payload, flags = 0x11;
    uint16_t version = 1, own = 16, kind = 1, form = 0x0101, major = 7;
    memcpy(image, &magic, 4), memcpy(image + 4, &version, 2), memcpy(image + 6, &own, 2), memcpy(image + 8, &size, 8);
    unsigned char *entry = image + 16;
    memcpy(entry, &kind, 2), memcpy(entry + 2, &form, 2), memcpy(entry + 4, &header, 4), memcpy(entry + 8, &payload, 8);
    memcpy(entry + 26, &major, 2), memcpy(entry + 28, &arch, 4), memcpy(entry + 40, &flags, 8);
    memcpy(entry + 20, &options, 4), memcpy(entry + options, &none, 4);
    memcpy(entry + header, PTX, sizeof PTX);
}

typedef void (*register_function)(void **, const char *, char *, const char *, int, void *, void *, void *, void *, int *);
typedef void (*register_variable)(void **, char *, char *, const char *, int, size_t, int, int);
typedef void (*register_managed)(void **, void **, const char *, const char *, int, size_t, int, int);

/* As a compiled program's constructors do, and its exit. */
static void load(const char *name) {
    library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    make_image();
    registered = ((void **(*)(void *))find("__cudaRegisterFatBinary"))(&wrapper);
    register_function function = find("__cudaRegisterFunction");
    function(registered, &scale_stub, "scale", "scale", -1, 0, 0, 0, 0, 0);
    function(registered, &count_stub, "count", "count", -1, 0, 0, 0, 0, 0);
    function(registered, &fault_stub, "fault", "fault", -1, 0, 0, 0, 0, 0);
    function(registered, &absent_stub, "absent", "absent", -1, 0, 0, 0, 0, 0);
    register_variable variable = find("__cudaRegisterVar");
    variable(registered, &offset_var, "offset", "offset", 0, 4, 0, 0);
    variable(registered, &table_var, "table", "table", 0, 16, 1, 0);
    ((register_managed)find("__cudaRegisterManagedVar"))(registered, (void **)&tally, "tally", "tally", 0, 4, 0, 0);
    ((void (*)(void **))find("__cudaRegisterFatBinaryEnd"))(registered);
    atexit(unregister);
}

/* `f<<<grid, block, shared, stream>>>(…)`, and the stub of f. */
static int launch(const char *by, void *stub, unsigned grid, unsigned block, handle stream, void **args) {
    dim3 g = {grid, 1, 1}, b = {block, 1, 1};
    size_t shared = 0;
    if (CALL(__cudaPushCallConfiguration, (dim3, dim3, size_t, handle), g, b, shared, stream) != 0) return -1;
    handle popped = NULL;
    memset(&g, 0, sizeof g), memset(&b, 0, sizeof b);
    int error = CALL(__cudaPopCallConfiguration, (dim3 *, dim3 *, size_t *, void *), &g, &b, &shared, &popped);
    if (error) return error;
    return ((int (*)(const void *, dim3, dim3, void **, size_t, handle))find(by))(stub, g, b, args, shared, popped);
}

static inline int scale(handle stream, void *x, void *y, int a, int n) {
    void *args[] = {&x, &y, &a, &n};
    return launch("cudaLaunchKernel", &scale_stub, (n + 63) / 64, 64, stream, args);
}

static inline void *device_memory(size_t size) {
    void *memory = NULL;
    if (CALL(cudaMalloc, (void **, size_t), &memory, size)) exit(3);
    return memory;
}

static int last_error(void) { return CALL(cudaGetLastError, (void)); }
static inline int copy(void *dst, const void *src, size_t n, int kind) {
    return CALL(cudaMemcpy, (void *, const void *, size_t, int), dst, src, n, kind);
}
static inline int synchronize(handle stream) { return CALL(cudaStreamSynchronize, (handle), stream); }
