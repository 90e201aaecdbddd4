/* A driver with one function more than CUDA has; the rest is that of the library it is linked with. */
#include <stdint.h>

int cuInvented(unsigned a, uint64_t *b) {
    *b = (uint64_t)a * 3 + 1;
    return a == 13 ? 999 : 0;
}
