/* A stand-in for the NVML of a host with a card that has every UUID. What is absent here, the card has not. */
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory;

static int text(char *to, unsigned room, const char *from) {
    if (strlen(from) >= room) return 7;
    strcpy(to, from);
    return 0;
}

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *to, unsigned room) { return text(to, room, "580.159.04"); }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { return *device = (void *)1, uuid ? 0 : 2; }
int nvmlDeviceGetMemoryInfo(void *device, memory *is) {
    return (void)device, *is = (memory){4ull << 30, 3ull << 30, 1ull << 30}, 0;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *degrees) { return (void)device, (void)sensor, *degrees = 41, 0; }
int nvmlDeviceGetSerial(void *device, char *to, unsigned room) { return (void)device, text(to, room, "1650000000017"); }
int nvmlDeviceGetVbiosVersion(void *device, char *to, unsigned room) { return (void)device, text(to, room, "96.00.74.00.01"); }
int nvmlDeviceGetPersistenceMode(void *device, unsigned *mode) { return (void)device, *mode = 1, 0; }
int nvmlDeviceGetBAR1MemoryInfo(void *device, memory *is) { return (void)device, *is = (memory){131072, 131070, 2}, 0; }
int nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned counter, unsigned long long *errors) {
    return (void)device, *errors = 10 * kind + counter + 5, 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) { return (void)device, *reasons = 4, 0; }
int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *least, unsigned *most) {
    return (void)device, *least = 200, *most = 700, 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *pending) { return (void)device, *now = *pending = 1, 0; }
