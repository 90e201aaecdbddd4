/* A driver that does in its worker what it is ordered to, by the value of cuMemsetD16: what a client might do that had taken its worker over. All
   else is softgpu, which this library is linked to. What came of it goes into the memory that was to be filled: device memory is at its own address. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CRASH = 1, SPIN, EAT, MULTIPLY, BREAK_OUT, STOP };

/* The worker of another session, by its name; 0: there is none. */
static int sibling(void) {
    DIR *folder = opendir("/proc");
    int found = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int pid = atoi(entry->d_name), file;
        char path[64], name[32] = "";
        if (pid <= 0 || pid == getpid()) continue;
        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        if ((file = open(path, O_RDONLY)) < 0) continue;
        if (read(file, name, sizeof name - 1) > 0 && !strncmp(name, "rgpud-s", 7)) found = pid;
        close(file);
    }
    if (folder) closedir(folder);
    return found;
}

static int opens(const char *path, int flags) {
    int file = open(path, flags, 0600);
    if (file >= 0) close(file);
    return file >= 0;
}

static int opens_of(int pid, const char *name, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return opens(path, flags);
}

/* Whether any file of another process can be had through /proc. */
static int has_files_of(int pid) {
    for (int number = 0; number < 64; number++) {
        char name[32];
        snprintf(name, sizeof name, "fd/%d", number);
        if (opens_of(pid, name, O_RDWR)) return 1;
    }
    return 0;
}

static int gets(int family, int type) {
    int file = socket(family, type, 0);
    if (file >= 0) close(file);
    return file >= 0;
}

static int forks(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    return child > 0;
}

/* Refused for good, and not only for its arguments. */
static int is_known(long result) {
    return result != -1 || (errno != EPERM && errno != EACCES && errno != ENOSYS);
}

static void try(uint32_t *out, int *number, int succeeded) {
    if (succeeded) {
        fprintf(stderr, "hostile: attempt %d succeeded\n", *number);
        out[0]++;
    }
    (*number)++;
    out[1]++;
}

static void break_out(uint32_t *out) {
    int broker = getppid(), other = sibling(), n = 0;
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct rlimit none = {0, 0};
    cpu_set_t cpu;
    CPU_ZERO(&cpu);
    CPU_SET(0, &cpu);
    out[0] = out[1] = 0;
    try(out, &n, other == 0);
    /* 1: files */
    for (const char *const *path = (const char *const[]){SECRETS, "/etc/shadow", "/root", "/home", "/etc/rgpu", "/tmp", 0}; *path; path++)
        try(out, &n, opens(*path, O_RDONLY));
    try(out, &n, opens("/tmp/hostile", O_CREAT | O_WRONLY));
    try(out, &n, opens("/usr/hostile", O_CREAT | O_WRONLY));
    try(out, &n, opens("/proc/sys/kernel/core_pattern", O_WRONLY));
    try(out, &n, mkdir("/dev/shm/../hostile", 0700) == 0);
    /* Sockets of a network. */
    try(out, &n, gets(AF_INET, SOCK_STREAM));
    try(out, &n, gets(AF_INET, SOCK_DGRAM));
    try(out, &n, gets(AF_INET6, SOCK_STREAM));
    try(out, &n, gets(AF_NETLINK, SOCK_RAW));
    try(out, &n, gets(AF_PACKET, SOCK_RAW));
    /* Other processes. */
    for (const int *pid = (int[]){other, broker, 0}; *pid; pid++) {
        try(out, &n, kill(*pid, 0) == 0);
        try(out, &n, kill(*pid, SIGKILL) == 0);
        try(out, &n, syscall(SYS_tgkill, *pid, *pid, SIGKILL) == 0);
        try(out, &n, ptrace(PTRACE_SEIZE, *pid, 0, 0) == 0);
        try(out, &n, process_vm_readv(*pid, &part, 1, &part, 1, 0) >= 0);
        try(out, &n, syscall(SYS_pidfd_open, *pid, 0) >= 0);
        try(out, &n, prlimit(*pid, RLIMIT_NOFILE, &none, NULL) == 0);
        try(out, &n, sched_setaffinity(*pid, sizeof cpu, &cpu) == 0);
        try(out, &n, setpriority(PRIO_PROCESS, *pid, 19) == 0);
        try(out, &n, opens_of(*pid, "mem", O_RDWR));
        try(out, &n, opens_of(*pid, "environ", O_RDONLY));
        try(out, &n, opens_of(*pid, "oom_score_adj", O_WRONLY));
        try(out, &n, has_files_of(*pid));
    }
    try(out, &n, kill(-1, 0) == 0);
    try(out, &n, kill(0, 0) == 0);
    /* More rights, and the rest of the system. */
    try(out, &n, setuid(0) == 0);
    try(out, &n, is_known(syscall(SYS_execve, "/no/such/program", NULL, NULL)));
    try(out, &n, unshare(CLONE_NEWUSER) == 0);
    try(out, &n, mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
    try(out, &n, is_known(syscall(SYS_bpf, 0, NULL, 0)));
    try(out, &n, is_known(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0)));
    try(out, &n, is_known(syscall(SYS_keyctl, 0, 0, 0)));
    try(out, &n, is_known(syscall(SYS_userfaultfd, 0)));
    try(out, &n, is_known(syscall(SYS_io_uring_setup, 1, NULL)));
    try(out, &n, is_known(syscall(SYS_init_module, NULL, 0, "")));
    try(out, &n, is_known(syscall(SYS_setns, -1, 0)));
    try(out, &n, forks());
    /* It is no more than that. */
    try(out, &n, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1);
    try(out, &n, getrlimit(RLIMIT_CORE, &none) || none.rlim_max != 0);
}

/* MiB that it gets before it gets no more. They are given back: it must be able to say so. */
static uint32_t eat(void) {
    static char *eaten[65536];
    uint32_t mib = 0;
    while (mib < 65536 && (eaten[mib] = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED)
        memset(eaten[mib++], 1, 1 << 20);
    for (uint32_t i = 0; i < mib; i++) munmap(eaten[i], 1 << 20);
    return mib;
}

static pthread_mutex_t until_counted = PTHREAD_MUTEX_INITIALIZER;

static void *stay(void *nothing) {
    pthread_mutex_lock(&until_counted);
    pthread_mutex_unlock(&until_counted);
    return nothing;
}

/* Processes and threads that it gets. */
static void multiply(uint32_t *out) {
    static pthread_t threads[20000];
    pthread_attr_t small;
    out[0] = out[1] = 0;
    for (int i = 0; i < 1000; i++) out[0] += forks();
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    pthread_mutex_lock(&until_counted);
    while (out[1] < 20000 && !pthread_create(&threads[out[1]], &small, stay, NULL)) out[1]++;
    pthread_mutex_unlock(&until_counted);
    for (uint32_t i = 0; i < out[1]; i++) pthread_join(threads[i], NULL);
}

typedef int filling(uint64_t, unsigned short, size_t);

int cuMemsetD16_v2(uint64_t at, unsigned short order, size_t count) {
    uint32_t *out = (uint32_t *)at;
    switch (count == 2 ? order : 0) {
    case CRASH:
        *(volatile int *)8 = 1;
        break;
    case SPIN:
        for (volatile int on = 1; on;) {}
        break;
    case EAT:
        out[0] = eat();
        return 0;
    case MULTIPLY:
        multiply(out);
        return 0;
    case BREAK_OUT:
        break_out(out);
        return 0;
    case STOP:
        raise(SIGSTOP);
        return 0;
    }
    return ((filling *)dlsym(RTLD_NEXT, "cuMemsetD16_v2"))(at, order, count);
}
