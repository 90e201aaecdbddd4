/* Processes that work on each other's memory in turns, by events alone, with the runtime API: the shape of NVIDIA's sample simpleIPC. */
#include "runtime.h"
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, N = 1 << 16, LAZY = 1, NO_TIMING = 2, INTERPROCESS = 4 };

typedef struct { unsigned char bytes[64]; } token;
struct offer { token memory[PROCESSES], event[PROCESSES]; };

static int read_all(int from, void *bytes, size_t count) {
    for (size_t have = 0; have < count;) {
        ssize_t more = read(from, (char *)bytes + have, count - have);
        if (more <= 0) return 1;
        have += more;
    }
    return 0;
}

static int worker(int number, int socket) {
    struct offer offer;
    int *buffers[PROCESSES], *back = malloc(4 * N), failed = 0;
    handle events[PROCESSES], stream = NULL;
    if (read_all(socket, &offer, sizeof offer)) return 9;
    for (int i = 0; i < PROCESSES; i++) {
        failed += CALL(cudaIpcOpenMemHandle, (void **, token, unsigned), (void **)&buffers[i], offer.memory[i], LAZY) != 0;
        failed += CALL(cudaIpcOpenEventHandle, (handle *, token), &events[i], offer.event[i]) != 0;
    }
    failed += CALL(cudaStreamCreateWithFlags, (handle *, unsigned), &stream, 1) != 0;
    int *ones = device_memory(4 * N);
    for (int i = 0; i < N; i++) back[i] = 1;
    failed += copy(ones, back, 4 * N, TO_DEVICE) != 0;
    for (int i = 0; i < PROCESSES; i++) {
        int at = (number + i) % PROCESSES;
        char byte = 0;
        failed += CALL(cudaStreamWaitEvent, (handle, handle, unsigned), stream, events[at], 0) != 0;
        failed += scale(stream, ones, buffers[at], number + 1, N) != 0;
        failed += CALL(cudaEventRecord, (handle, handle), events[at], stream) != 0;
        /* All of them have come so far. */
        failed += write(socket, &byte, 1) != 1 || read_all(socket, &byte, 1);
    }
    failed += CALL(cudaStreamWaitEvent, (handle, handle, unsigned), stream, events[number], 0) != 0;
    failed += CALL(cudaMemcpyAsync, (void *, const void *, size_t, int, handle), back, buffers[number], 4 * N, TO_HOST, stream) != 0;
    failed += synchronize(stream) != 0;
    for (int i = 0; i < N && !failed; i++) failed += back[i] != 30;
    for (int i = 0; i < PROCESSES; i++) {
        failed += CALL(cudaIpcCloseMemHandle, (void *), buffers[i]) != 0;
        failed += CALL(cudaEventDestroy, (handle), events[i]) != 0;
    }
    return failed;
}

int main(int count, char **words) {
    char name[32];
    int sockets[PROCESSES], failed = 0, *buffers[PROCESSES];
    pid_t workers[PROCESSES];
    handle events[PROCESSES], plain = NULL;
    struct offer offer;
    token out;
    snprintf(name, sizeof name, "libcudart.so.%s", count > 1 ? words[1] : "13");
    if (count > 3) {
        load(name);
        return worker(atoi(words[2]), atoi(words[3]));
    }
    for (int i = 0; i < PROCESSES; i++) {
        int pair[2];
        char number[16], socket[16];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 2;
        workers[i] = fork();
        if (!workers[i]) {
            snprintf(number, sizeof number, "%d", i), snprintf(socket, sizeof socket, "%d", pair[1]);
            close(pair[0]);
            execl("/proc/self/exe", words[0], count > 1 ? words[1] : "13", number, socket, NULL);
            _exit(8);
        }
        close(pair[1]);
        sockets[i] = pair[0];
    }
    load(name);
    for (int i = 0; i < PROCESSES; i++) {
        buffers[i] = device_memory(4 * N);
        failed += CALL(cudaMemset, (void *, int, size_t), buffers[i], 0, 4 * N) != 0;
        failed += CALL(cudaIpcGetMemHandle, (token *, void *), &offer.memory[i], buffers[i]) != 0;
        failed += CALL(cudaEventCreateWithFlags, (handle *, unsigned), &events[i], NO_TIMING | INTERPROCESS) != 0;
        failed += CALL(cudaIpcGetEventHandle, (token *, handle), &offer.event[i], events[i]) != 0;
    }
    failed += CALL(cudaDeviceSynchronize, (void)) != 0;
    FACT("failed so far", failed);
    FACT("cudaIpcGetMemHandle(NULL)", CALL(cudaIpcGetMemHandle, (token *, void *), NULL, buffers[0]));
    FACT("cudaIpcGetMemHandle(host)", CALL(cudaIpcGetMemHandle, (token *, void *), &out, &offer));
    FACT("cudaIpcOpenMemHandle of one's own", CALL(cudaIpcOpenMemHandle, (void **, token, unsigned), (void **)&plain, offer.memory[0], LAZY));
    FACT("cudaIpcOpenMemHandle(no flags)", CALL(cudaIpcOpenMemHandle, (void **, token, unsigned), (void **)&plain, offer.memory[0], 0));
    CALL(cudaEventCreateWithFlags, (handle *, unsigned), &plain, NO_TIMING);
    FACT("cudaIpcGetEventHandle(not interprocess)", CALL(cudaIpcGetEventHandle, (token *, handle), &out, plain));
    FACT("cudaIpcCloseMemHandle of one's own", CALL(cudaIpcCloseMemHandle, (void *), buffers[0]));
    FACT("cudaGetLastError", last_error());
    for (int i = 0; i < PROCESSES; i++) failed += write(sockets[i], &offer, sizeof offer) != sizeof offer;
    for (int round = 0; round < PROCESSES; round++) {
        char byte = 0;
        for (int i = 0; i < PROCESSES; i++) failed += read_all(sockets[i], &byte, 1);
        for (int i = 0; i < PROCESSES; i++) failed += write(sockets[i], &byte, 1) != 1;
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = -1;
        waitpid(workers[i], &status, 0);
        FACT("a process's end", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
    int sum = 0, *back = malloc(4 * N);
    for (int i = 0; i < PROCESSES; i++) {
        failed += copy(back, buffers[i], 4 * N, TO_HOST) != 0;
        for (int j = 0; j < N; j++) sum += back[j];
    }
    FACT("  sum", sum);
    FACT("failed in all", failed);
    return 0;
}
