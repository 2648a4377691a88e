/* A stand-in for NVIDIA's libnvidia-ml.so.1, for tests where there is no GPU: four GPUs of 40 GiB that compute as many
 * per cent as the file USE in the folder of NVML_STANDIN says, and do not answer while a file HANGS is there (who asks
 * then is shown by a file ASKED).
 * Names, types and values: nvml.h of NVML 12. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;

static FILE *opened(const char *name, const char *how) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("NVML_STANDIN"), name);
    return fopen(path, how);
}

static int answer(void) {
    FILE *hangs;
    while ((hangs = opened("HANGS", "r"))) {
        fclose(hangs);
        fclose(opened("ASKED", "w"));
        usleep(20000);
    }
    return 0;
}

int nvmlInitWithFlags(unsigned flags) { return answer(); }
int nvmlInit_v2(void) { return answer(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return "an error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 4; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return answer(); }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) { snprintf(uuid, length, "GPU-%ld", (long)device - 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    memory->total = 40ULL << 30;
    memory->used = (unsigned long long)(long)device << 30;
    memory->free = memory->total - memory->used;
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *use) {
    FILE *file = opened("USE", "r");
    memset(use, 0, sizeof *use);
    if (!file || fscanf(file, "%u", &use->gpu) != 1) return 999; /* NVML_ERROR_UNKNOWN */
    fclose(file);
    return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, void *processes) { *count = 0; return 0; }
