/* libcuda.so.1 as programs load it, and its functions by their names; needs no CUDA header. */
#pragma once
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint64_t ptr;
typedef void *handle;
static void *library;

#define CALL(name, types, ...) ((int(*) types)symbol(#name))(__VA_ARGS__)

static void load(void) {
    library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
}

static void *symbol(const char *name) {
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "no symbol %s\n", name);
        exit(2);
    }
    return found;
}
