/* A kernel whose assertion fails: what it says on stderr, and what the program hears. */
#include "by_name.h"

#define SAY(fact, value) printf("%-52s %lld\n", fact, (long long)(value))

static const char *const code =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".extern .func __assertfail (.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s);\n"
    ".global .align 1 .b8 message[6] = {120, 32, 60, 32, 51, 0};\n"
    ".global .align 1 .b8 file[5] = {97, 46, 99, 117, 0};\n"
    ".global .align 1 .b8 name[7] = {107, 101, 114, 110, 101, 108, 0};\n"
    ".visible .entry kernel() {\n"
    "  .reg .u32 %x; .reg .u64 %m, %f, %n, %s; .reg .pred %fine;\n"
    "  mov.u32 %x, %tid.x; setp.lt.u32 %fine, %x, 3; @%fine bra done;\n"
    "  mov.u64 %m, message; cvta.global.u64 %m, %m; mov.u64 %f, file; cvta.global.u64 %f, %f; mov.u64 %n, name; cvta.global.u64 %n, %n;\n"
    "  mov.u64 %s, 1; mov.u32 %x, 12;\n"
    "  { .param .b64 m; .param .b64 f; .param .b32 l; .param .b64 n; .param .b64 s;\n"
    "  st.param.b64 [m], %m; st.param.b64 [f], %f; st.param.b32 [l], %x; st.param.b64 [n], %n; st.param.b64 [s], %s;\n"
    "  call.uni __assertfail, (m, f, l, n, s); }\n"
    "done: ret;\n}\n";

int main(void) {
    handle context, module, kernel;
    load();
    CALL(cuInit, (unsigned), 0);
    CALL(cuDevicePrimaryCtxRetain, (handle *, int), &context, 0);
    CALL(cuCtxSetCurrent, (handle), context);
    SAY("cuModuleLoadData", CALL(cuModuleLoadData, (handle *, const void *), &module, code));
    CALL(cuModuleGetFunction, (handle *, handle, const char *), &kernel, module, "kernel");
    for (unsigned threads = 3; threads < 5; threads++) {
        SAY("cuLaunchKernel",
            CALL(cuLaunchKernel, (handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **), kernel, 1, 1, 1,
                 threads, 1, 1, 0, NULL, NULL, NULL));
        SAY(threads > 3 ? "  all but one are fine" : "  all are fine", CALL(cuCtxSynchronize, (void)));
    }
    return 0;
}
