/* What is done stays done: events and streams that are asked about again and again. Each line is a fact. */
#include "by_name.h"

enum { TIMES = 200 };

static handle stream, other, event;
static ptr memory;

static void fact(const char *name, int result) { printf("%s %d\n", name, result); }

static int fill(handle where) {
    return CALL(cuMemsetD8Async, (ptr, unsigned char, size_t, handle), memory, 1, 4096, where);
}

static int record(handle where) { return CALL(cuEventRecord, (handle, handle), event, where); }

/* The first answer that is not like the first one, or that. */
static int again(int (*ask)(void)) {
    int first = ask();
    for (int i = 1; i < TIMES; i++) {
        int result = ask();
        if (result != first) return -1;
    }
    return first;
}

static int query_event(void) { return CALL(cuEventQuery, (handle), event); }
static int wait_event(void) { return CALL(cuEventSynchronize, (handle), event); }
static int query_stream(void) { return CALL(cuStreamQuery, (handle), stream); }
static int wait_stream(void) { return CALL(cuStreamSynchronize, (handle), stream); }
static int wait_default(void) { return CALL(cuStreamSynchronize, (handle), NULL); }

int main(void) {
    handle context;
    load();
    int result = CALL(cuInit, (unsigned), 0);
    if (!result) result = CALL(cuCtxCreate_v2, (handle *, unsigned, int), &context, 0, 0);
    if (!result) result = CALL(cuStreamCreate, (handle *, unsigned), &stream, 1);
    if (!result) result = CALL(cuStreamCreate, (handle *, unsigned), &other, 1);
    if (!result) result = CALL(cuEventCreate, (handle *, unsigned), &event, 0);
    if (!result) result = CALL(cuMemAlloc_v2, (ptr *, size_t), &memory, 4096);
    fact("begin", result);
    fact("an event that was never recorded", again(query_event));
    result = fill(stream);
    if (!result) result = record(stream);
    fact("work, and the event behind it", result);
    fact("  waited for", again(wait_event));
    fact("  asked about", again(query_event));
    fact("  the stream waited for", again(wait_stream));
    fact("  the stream asked about", again(query_stream));
    fact("  the default stream", again(wait_default));
    /* Other work changes nothing of what has ended. */
    result = fill(other);
    fact("other work", result);
    fact("  the event", again(query_event));
    fact("  its stream", again(wait_stream));
    /* What is recorded again is asked about again: a captured event has no answer. */
    result = CALL(cuStreamBeginCapture_v2, (handle, int), stream, 2);
    if (!result) result = record(stream);
    fact("recorded in a capture", result);
    fact("  asked about", query_event());
    fact("  the capture after that", CALL(cuStreamEndCapture, (handle, handle *), stream, &context));
    result = record(other);
    fact("recorded once more", result);
    fact("  waited for", again(wait_event));
    result = CALL(cuStreamDestroy_v2, (handle), stream);
    fact("the stream is gone", result);
    fact("  the event stays", again(query_event));
    fact("the event is gone", CALL(cuEventDestroy_v2, (handle), event));
    return 0;
}
