/* What NVML says of a device, beside what CUDA says. `nvml hold` allocates memory, says what it sees and waits for a line on stdin;
 * `nvml watch` uses no CUDA. A line is a fact's name and its value. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MIB ((unsigned long long)1 << 20)

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu, compute; } process;
typedef struct { char old[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci;

static void *nvml, *cuda;
#define NVML(name, types, ...) ((int (*) types)dlsym(nvml, #name))(__VA_ARGS__)
#define CUDA(name, types, ...) ((int (*) types)dlsym(cuda, #name))(__VA_ARGS__)

static void fact(const char *name, long long value) {
    printf("%s %lld\n", name, value);
    fflush(stdout);
}

/* What nvidia-smi asks beside nvml.h: a table of functions by its number, and a set of events to wait for. */
static void internal(void *device) {
    static const unsigned char id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e, 0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};
    static const unsigned char other[16] = {1};
    struct { unsigned pid; unsigned long long used; unsigned gpu, compute; unsigned long long rest; char name[4096]; } list[4];
    void **table = NULL, *same = NULL, *set = NULL;
    unsigned room = 4;
    memset(list, 0, sizeof list);
    fact("table", NVML(nvmlInternalGetExportTable, (void ***, const unsigned char *), &table, id));
    fact("table_other", NVML(nvmlInternalGetExportTable, (void ***, const unsigned char *), &table, other));
    fact("table_null", NVML(nvmlInternalGetExportTable, (void ***, const unsigned char *), NULL, id));
    if (!table) return;
    fact("table_length", (uintptr_t)table[0] > 648);
    fact("table_handle", ((int (*)(unsigned, void **))table[81])(0, &same));
    fact("table_handle_same", same == device);
    fact("table_unknown", ((int (*)(void))table[72])());
    fact("table_processes", ((int (*)(void *, unsigned *, void *))table[213])(device, &room, list));
    fact("table_process_pid", list[0].pid);
    fact("table_process_memory", list[0].used / MIB);
    fact("table_process_name", strlen(list[0].name) > 0);
    room = 4;
    fact("table_graphics", ((int (*)(void *, unsigned *, void *))table[214])(device, &room, list));
    fact("table_graphics_none", room);
    struct { void *device; unsigned long long type, data; unsigned one, two; } event;
    fact("events", NVML(nvmlEventSetCreate, (void **), &set));
    fact("events_register", NVML(nvmlDeviceRegisterEvents, (void *, unsigned long long, void *), device, 8, set));
    fact("events_wait", NVML(nvmlEventSetWait_v2, (void *, void *, unsigned), set, &event, 1));
    fact("events_wait_nowhere", NVML(nvmlEventSetWait_v2, (void *, void *, unsigned), NULL, &event, 1));
    fact("events_free", NVML(nvmlEventSetFree, (void *), set));
}

/* What only the host's own NVML can tell. */
static void board(void *device) {
    char text[96] = "";
    void *same = NULL;
    unsigned one = 9, other = 9;
    unsigned long long number = 9;
    struct { unsigned long long total, free, used; } bar1 = {0, 0, 0};
    fact("serial", NVML(nvmlDeviceGetSerial, (void *, char *, unsigned), device, text, 96));
    fact("serial_length", strlen(text));
    fact("serial_short", NVML(nvmlDeviceGetSerial, (void *, char *, unsigned), device, text, 2));
    fact("by_serial", NVML(nvmlDeviceGetHandleBySerial, (const char *, void **), text, &same));
    fact("by_serial_same", same == device);
    fact("by_serial_none", NVML(nvmlDeviceGetHandleBySerial, (const char *, void **), "none", &same));
    fact("vbios", NVML(nvmlDeviceGetVbiosVersion, (void *, char *, unsigned), device, text, 96));
    fact("persistence", NVML(nvmlDeviceGetPersistenceMode, (void *, unsigned *), device, &one));
    fact("persistence_value", one);
    fact("bar1", NVML(nvmlDeviceGetBAR1MemoryInfo, (void *, void *), device, &bar1));
    fact("bar1_used", bar1.used);
    fact("ecc", NVML(nvmlDeviceGetTotalEccErrors, (void *, unsigned, unsigned, unsigned long long *), device, 1, 0, &number));
    fact("ecc_value", number);
    fact("ecc_kind", NVML(nvmlDeviceGetTotalEccErrors, (void *, unsigned, unsigned, unsigned long long *), device, 7, 0, &number) != 0);
    fact("reasons", NVML(nvmlDeviceGetCurrentClocksThrottleReasons, (void *, unsigned long long *), device, &number));
    fact("reasons_value", number);
    fact("power_limits", NVML(nvmlDeviceGetPowerManagementLimitConstraints, (void *, unsigned *, unsigned *), device, &one, &other));
    fact("power_limits_value", (long long)one * 1000 + other);
    one = other = 9;
    fact("mig", NVML(nvmlDeviceGetMigMode, (void *, unsigned *, unsigned *), device, &one, &other));
    fact("mig_value", one * 10 + other);
}

static void look(void) {
    unsigned count = 0, index = 9, cores = 0;
    void *device = NULL, *same = NULL;
    fact("count", NVML(nvmlDeviceGetCount_v2, (unsigned *), &count));
    fact("devices", count);
    fact("handle", NVML(nvmlDeviceGetHandleByIndex_v2, (unsigned, void **), 0, &device));
    fact("handle_beyond", NVML(nvmlDeviceGetHandleByIndex_v2, (unsigned, void **), count, &same));
    char name[96] = "", uuid[96] = "";
    fact("name", NVML(nvmlDeviceGetName, (void *, char *, unsigned), device, name, 96));
    fact("name_is_there", strlen(name) > 0);
    fact("name_short", NVML(nvmlDeviceGetName, (void *, char *, unsigned), device, name, 2));
    fact("name_null", NVML(nvmlDeviceGetName, (void *, char *, unsigned), device, NULL, 96));
    fact("name_no_device", NVML(nvmlDeviceGetName, (void *, char *, unsigned), NULL, name, 96));
    fact("name_bad_device", NVML(nvmlDeviceGetName, (void *, char *, unsigned), (void *)0x1234, name, 96));
    fact("uuid", NVML(nvmlDeviceGetUUID, (void *, char *, unsigned), device, uuid, 96));
    fact("by_uuid", NVML(nvmlDeviceGetHandleByUUID, (const char *, void **), uuid, &same));
    fact("by_uuid_same", same == device);
    fact("by_uuid_none", NVML(nvmlDeviceGetHandleByUUID, (const char *, void **), "GPU-none", &same));
    pci place;
    memset(&place, 0, sizeof place);
    fact("pci", NVML(nvmlDeviceGetPciInfo_v3, (void *, pci *), device, &place));
    same = NULL;
    fact("by_pci", NVML(nvmlDeviceGetHandleByPciBusId_v2, (const char *, void **), place.bus_id, &same));
    fact("by_pci_same", same == device);
    fact("index", NVML(nvmlDeviceGetIndex, (void *, unsigned *), device, &index));
    fact("index_value", index);
    fact("cores", NVML(nvmlDeviceGetNumGpuCores, (void *, unsigned *), device, &cores));
    fact("cores_some", cores > 0);
    memory now = {0};
    memory_v2 newer = {sizeof newer | 2u << 24, 0, 0, 0, 0}, wrong = {7, 0, 0, 0, 0};
    fact("memory", NVML(nvmlDeviceGetMemoryInfo, (void *, memory *), device, &now));
    fact("memory_total", now.total / MIB);
    fact("memory_used", now.used / MIB);
    fact("memory_sum", now.total - now.free - now.used);
    fact("memory_v2", NVML(nvmlDeviceGetMemoryInfo_v2, (void *, memory_v2 *), device, &newer));
    fact("memory_v2_same", newer.total == now.total && newer.used == now.used);
    fact("memory_v2_version", NVML(nvmlDeviceGetMemoryInfo_v2, (void *, memory_v2 *), device, &wrong));
    process list[8] = {{0, 0, 0, 0}};
    unsigned room = 0;
    int asked = NVML(nvmlDeviceGetComputeRunningProcesses_v3, (void *, unsigned *, process *), device, &room, NULL);
    fact("processes_asked", asked);
    fact("processes", room);
    room = 8;
    fact("processes_listed", NVML(nvmlDeviceGetComputeRunningProcesses_v3, (void *, unsigned *, process *), device, &room, list));
    fact("process_pid", list[0].pid);
    fact("process_memory", list[0].used / MIB);
    unsigned degrees;
    fact("temperature", NVML(nvmlDeviceGetTemperature, (void *, int, unsigned *), device, 0, &degrees));
    internal(device);
    board(device);
    fact("not_served", NVML(nvmlDeviceGetNvLinkState, (void *, unsigned, unsigned *), device, 0, &degrees));
}

int main(int count, char **arguments) {
    (void)count;
    nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!nvml) return fprintf(stderr, "%s\n", dlerror()), 2;
    unsigned devices;
    fact("before_init", NVML(nvmlDeviceGetCount_v2, (unsigned *), &devices));
    fact("shutdown_before_init", NVML(nvmlShutdown, (void)));
    int holds = !strcmp(arguments[1], "hold");
    if (holds) {
        cuda = dlopen("libcuda.so.1", RTLD_NOW);
        if (!cuda) return fprintf(stderr, "%s\n", dlerror()), 2;
        void *context;
        uint64_t address;
        size_t free, total;
        fact("cuInit", CUDA(cuInit, (unsigned), 0));
        fact("cuCtxCreate", CUDA(cuCtxCreate_v2, (void **, unsigned, int), &context, 0, 0));
        fact("cuMemAlloc", CUDA(cuMemAlloc_v2, (uint64_t *, size_t), &address, 200 * MIB));
        fact("cuMemGetInfo", CUDA(cuMemGetInfo_v2, (size_t *, size_t *), &free, &total));
        fact("cuda_total", total / MIB);
        fact("cuda_used", (total - free) / MIB);
    }
    fact("init", NVML(nvmlInit_v2, (void)));
    fact("init_again", NVML(nvmlInit_v2, (void)));
    fact("shutdown_once", NVML(nvmlShutdown, (void)));
    look();
    fact("own_pid", getpid());
    printf("ready\n");
    fflush(stdout);
    if (holds) getchar();
    fact("shutdown", NVML(nvmlShutdown, (void)));
    fact("after_shutdown", NVML(nvmlDeviceGetCount_v2, (unsigned *), &devices));
    return 0;
}
