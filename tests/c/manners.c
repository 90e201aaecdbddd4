/* A library in someone's process: what fork, exit, dlclose, signals and many threads find. Each way is a process of its own (`manners WAY`);
 * without an argument all of them run, one after another. A line is a fact: its name and a CUDA error, or a count. */
#include "by_name.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const char *PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry twice(.param .u64 data) {\n"
    "  .reg .u32 %r<3>; .reg .u64 %d<3>;\n"
    "  ld.param.u64 %d0, [data]; mov.u32 %r0, %tid.x; mul.wide.u32 %d1, %r0, 4; add.u64 %d2, %d0, %d1;\n"
    "  ld.global.u32 %r1, [%d2]; add.u32 %r2, %r1, %r1; st.global.u32 [%d2], %r2; ret;\n}\n"
    ".visible .entry never() {\n"
    "  .reg .u32 %r<2>; .reg .pred %p;\n"
    "again: mov.u32 %r0, %clock; setp.ne.u32 %p, %r0, %r1; @%p bra again; bra again;\n}\n";

static void fact(const char *name, int result) {
    printf("%s %d\n", name, result);
    fflush(stdout);
}

typedef struct { handle context, module, twice, never; ptr data; } work;

static int begin(work *it) {
    memset(it, 0, sizeof *it);
    int result = CALL(cuInit, (unsigned), 0);
    if (!result) result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &it->context, 0, 0);
    if (!result) result = CALL(cuModuleLoadData, (handle *, const void *), &it->module, PTX);
    if (!result) result = CALL(cuModuleGetFunction, (handle *, handle, const char *), &it->twice, it->module, "twice");
    if (!result) result = CALL(cuModuleGetFunction, (handle *, handle, const char *), &it->never, it->module, "never");
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &it->data, 1024);
    return result;
}

static int launch(handle function, unsigned threads, void **params) {
    return CALL(cuLaunchKernel,
                (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **),
                function, 1, 1, 1, threads, 1, 1, 0, NULL, params, NULL);
}

/* 0: right; -1: wrong values; else CUDA's error. */
static int compute(work *it, unsigned seed) {
    uint32_t host[256], back[256];
    for (unsigned i = 0; i < 256; i++) host[i] = i + seed;
    void *params[] = {&it->data};
    int result = CALL(cuMemcpyHtoD_v2, (ptr, const void *, size_t), it->data, host, sizeof host);
    if (!result) result = launch(it->twice, 256, params);
    if (!result) result = CALL(cuMemcpyDtoH_v2, (void *, ptr, size_t), back, it->data, sizeof back);
    for (unsigned i = 0; !result && i < 256; i++)
        if (back[i] != 2 * (i + seed)) result = -1;
    return result;
}

static void in_child(void (*body)(work *), work *it) {
    pid_t child = fork();
    if (!child) {
        body(it);
        fflush(stdout);
        exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    fact("  the child's end", status);
}

static void forked(work *it) {
    int count = 0;
    handle context = NULL;
    fact("  in the child: cuInit", CALL(cuInit, (unsigned), 0));
    fact("  in the child: cuDeviceGetCount", CALL(cuDeviceGetCount, (int *), &count));
    fact("  in the child: cuCtxGetCurrent", CALL(cuCtxGetCurrent, (handle *), &context));
    fact("  in the child: cuMemFree", CALL(cuMemFree_v2, (ptr), it->data));
    fact("  in the child: cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    int version = 0;
    fact("  in the child: cuDriverGetVersion", CALL(cuDriverGetVersion, (int *), &version));
}

static void fork_after_init(void) {
    work it;
    load();
    fact("begin", begin(&it));
    in_child(forked, &it);
    fact("the parent goes on", compute(&it, 1));
    in_child(forked, &it);
    fact("and on", compute(&it, 2));
}

static void afresh(work *it) {
    fact("  in the child: begin", begin(it));
    fact("  in the child: compute", compute(it, 3));
}

static void fork_before_init(void) {
    work it;
    load();
    in_child(afresh, &it);
    fact("begin", begin(&it));
    fact("compute", compute(&it, 4));
}

static void spawn_after_init(void) {
    work it;
    load();
    fact("begin", begin(&it));
    char self[4096] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) exit(3);
    char *arguments[] = {self, "fork_before_init", NULL};
    pid_t child;
    int status = -1;
    if (!posix_spawn(&child, self, NULL, NULL, arguments, environ)) waitpid(child, &status, 0);
    fact("another program in between", status);
    fact("compute", compute(&it, 5));
}

static void close_and_open(void) {
    work it;
    load();
    fact("begin", begin(&it));
    fact("dlclose", dlclose(library));
    load();
    fact("compute", compute(&it, 6));
    fact("cuInit again", CALL(cuInit, (unsigned), 0));
}

static work late;

static void at_exit(void) {
    int count = 0;
    fact("at exit: cuMemFree", CALL(cuMemFree_v2, (ptr), late.data));
    fact("at exit: cuCtxSynchronize", CALL(cuCtxSynchronize, (void)));
    fact("at exit: cuDeviceGetCount", CALL(cuDeviceGetCount, (int *), &count));
    fact("at exit: cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), late.context));
    fact("at exit: cuInit", CALL(cuInit, (unsigned), 0));
}

static void exit_handlers(void) {
    load();
    /* Before the driver's own, so that it runs behind that. */
    atexit(at_exit);
    fact("begin", begin(&late));
    fact("compute", compute(&late, 7));
}

static void early(void) {
    handle context = NULL;
    fact("in time: cuCtxGetCurrent", CALL(cuCtxGetCurrent, (handle *), &context));
    fact("  the same", context == late.context);
    fact("in time: compute", compute(&late, 9));
    fact("in time: cuMemFree", CALL(cuMemFree_v2, (ptr), late.data));
    fact("in time: cuCtxDestroy", CALL(cuCtxDestroy_v2, (handle), late.context));
}

static void exit_handler_in_time(void) {
    load();
    fact("begin", begin(&late));
    atexit(early);
}

static void never_init(void) {
    load();
    int count = 0;
    fact("cuDeviceGetCount", CALL(cuDeviceGetCount, (int *), &count));
}

static volatile sig_atomic_t ticks;
static pthread_t main_thread;
static volatile sig_atomic_t elsewhere;

static void tick(int signal) {
    (void)signal;
    ticks++;
    if (!pthread_equal(pthread_self(), main_thread)) elsewhere = 1;
}

static void called(void *times) { ++*(volatile int *)times; }

static void interrupted_calls(void) {
    work it;
    load();
    main_thread = pthread_self();
    struct sigaction action = {.sa_handler = tick}; /* no SA_RESTART */
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 500}, {0, 500}};
    setitimer(ITIMER_REAL, &often, NULL);
    int result = begin(&it), times = 0;
    for (unsigned i = 0; !result && i < 60; i++) result = compute(&it, i);
    /* A thread of the library's must not take the program's signals. */
    if (!result) result = CALL(cuLaunchHostFunc, (handle, void (*)(void *), void *), NULL, called, &times);
    if (!result) result = CALL(cuCtxSynchronize, (void));
    for (unsigned i = 0; !result && i < 60; i++) result = compute(&it, i);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    fact("calls under signals", result);
    fact("  host functions", times);
    fact("  some came", ticks > 0);
    fact("  to another thread", elsewhere);
    struct sigaction now;
    int foreign = 0;
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGALRM && !sigaction(signal, NULL, &now) && now.sa_handler != SIG_DFL) foreign++;
    fact("  handlers that are not the program's", foreign);
}

/* Ctrl-C while a call waits: the program ends by the signal, at once. */
static void interrupt(void) {
    int ready[2];
    if (pipe(ready)) exit(3);
    pid_t child = fork();
    if (!child) {
        work it;
        load();
        int result = begin(&it);
        if (!result) result = launch(it.never, 1, NULL);
        if (write(ready[1], &result, sizeof result) < 0) exit(3);
        CALL(cuCtxSynchronize, (void));
        exit(0);
    }
    int result = -1, status = 0;
    if (read(ready[0], &result, sizeof result) < 0) exit(3);
    fact("the child waits", result);
    kill(child, SIGINT);
    waitpid(child, &status, 0);
    fact("its end by SIGINT", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
}

enum { THREADS = 64, ROUNDS = 8 };
static pthread_barrier_t line;

static void *one_of_many(void *number) {
    work it;
    pthread_barrier_wait(&line);
    int result = begin(&it);
    pthread_barrier_wait(&line);
    for (int i = 0; !result && i < ROUNDS; i++) result = compute(&it, (unsigned)(intptr_t)number * 1000 + i);
    if (!result) result = CALL(cuCtxDestroy_v2, (handle), it.context);
    return (void *)(intptr_t)result;
}

static void many_threads(void) {
    load();
    fact("cuInit", CALL(cuInit, (unsigned), 0));
    pthread_barrier_init(&line, NULL, THREADS);
    pthread_t threads[THREADS];
    int first = 0;
    for (intptr_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, one_of_many, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        if (!first) first = (int)(intptr_t)result;
    }
    fact("64 threads with a context each", first);
}

static void *without_end(void *it) {
    while (!CALL(cuCtxSetCurrent, (handle), ((work *)it)->context) && !compute(it, 8)) {}
    return NULL;
}

/* exit() while other threads are within calls. */
static void exit_among_calls(void) {
    static work it[4];
    load();
    int result = 0;
    for (int i = 0; i < 4; i++) {
        pthread_t thread;
        if (!result) result = begin(&it[i]);
        if (!result) pthread_create(&thread, NULL, without_end, &it[i]);
    }
    work mine;
    if (!result) result = begin(&mine);
    for (int i = 0; !result && i < 20; i++) result = compute(&mine, i);
    fact("exit among calls", result);
}

static int inheritable(void) {
    int count = 0;
    for (int fd = 3; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && !(flags & FD_CLOEXEC)) count++;
    }
    return count;
}

/* No descriptor of the library's goes to a program that this one starts. */
static void descriptors(void) {
    work it;
    int before = inheritable();
    load();
    fact("begin", begin(&it));
    fact("  descriptors that an exec would inherit", inheritable() - before);
}

#define WAY(name) {#name, name}
static const struct { const char *name; void (*run)(void); } WAYS[] = {
    WAY(fork_after_init), WAY(fork_before_init), WAY(spawn_after_init), WAY(close_and_open), WAY(exit_handlers),
    WAY(exit_handler_in_time), WAY(never_init), WAY(interrupted_calls), WAY(interrupt), WAY(many_threads),
    WAY(exit_among_calls), WAY(descriptors),
};

int main(int count, char **arguments) {
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        if (count > 1) {
            if (!strcmp(arguments[1], WAYS[i].name)) return WAYS[i].run(), 0;
            continue;
        }
        printf("%s:\n", WAYS[i].name);
        fflush(stdout);
        char *way[] = {arguments[0], (char *)WAYS[i].name, NULL};
        pid_t child;
        int status = -1;
        if (!posix_spawn(&child, arguments[0], NULL, NULL, way, environ)) waitpid(child, &status, 0);
        fact("end", status);
    }
    return count > 1 ? 2 : 0;
}
