/* A session, and a child forked after it began, which lives until its stdin ends. */
#include "by_name.h"
#include <unistd.h>

int main(void) {
    load();
    int result = CALL(cuInit, (unsigned), 0);
    if (fork() == 0) {
        char byte;
        while (read(0, &byte, 1) > 0) {}
        _exit(0);
    }
    printf("ready %d\n", result);
    fflush(stdout);
    for (;;) pause();
}
