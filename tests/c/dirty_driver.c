/* softgpu, but that what it gives is full of what others have left: device memory is at its own address. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#define NEXT(name, types) ((int(*) types)dlsym(RTLD_NEXT, #name))

int cuMemSetAccess(uint64_t at, size_t bytes, const void *access, size_t count) {
    int result = NEXT(cuMemSetAccess, (uint64_t, size_t, const void *, size_t))(at, bytes, access, count);
    if (!result) memset((void *)at, 0xa5, bytes);
    return result;
}

int cuMemAlloc_v2(uint64_t *at, size_t bytes) {
    int result = NEXT(cuMemAlloc_v2, (uint64_t *, size_t))(at, bytes);
    if (!result) memset((void *)*at, 0xa5, bytes);
    return result;
}
