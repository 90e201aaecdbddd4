/* libcuda.so.1 as programs load it, and its functions by their names; needs no CUDA header. */
#pragma once
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef uint64_t ptr;
typedef void *handle;
static void *library;

/* With GUARD_CALLS set a call that crashes is a fact: minus the signal. NVIDIA's driver reads through dead handles, which the programs hand over. */
static int guarding;
static _Thread_local volatile int guarded;
static _Thread_local sigjmp_buf guard_point;

#define CALL(name, types, ...)                                            \
    ({                                                                    \
        int caught_ = guarding ? sigsetjmp(guard_point, 1) : 0;                \
        guarded = guarding && !caught_;                                   \
        int result_ = caught_ ? -caught_ : ((int(*) types)symbol(#name))(__VA_ARGS__); \
        guarded = 0;                                                      \
        result_;                                                          \
    })

static void crashed(int number) {
    if (guarded) siglongjmp(guard_point, number);
    signal(number, SIG_DFL);
    raise(number);
}

static void load(void) {
    library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    guarding = getenv("GUARD_CALLS") != NULL;
    for (const int *number = (int[]){SIGSEGV, SIGBUS, SIGABRT, SIGFPE, 0}; guarding && *number; number++) signal(*number, crashed);
}

static int absent(void) { return 500; }

static void *symbol(const char *name) {
    void *found = dlsym(library, name);
    /* A driver may be older than cuda.h. */
    if (!found && guarding) return (void *)absent;
    if (!found) {
        fprintf(stderr, "no symbol %s\n", name);
        exit(2);
    }
    return found;
}
