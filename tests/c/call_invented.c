/* Calls the invented function through whatever libcuda.so.1 is found. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

int main(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) return 2;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(library, "cuInit");
    int (*invented)(unsigned, uint64_t *) = (int (*)(unsigned, uint64_t *))dlsym(library, "cuInvented");
    if (!init || !invented) return 3;
    uint64_t b = 0;
    printf("init %d\n", init(0));
    printf("good %d", invented(7, &b));
    printf(" %llu\n", (unsigned long long)b);
    printf("bad %d\n", invented(13, &b));
    printf("null %d\n", invented(7, NULL));
    return 0;
}
