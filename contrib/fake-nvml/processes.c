/* Who uses a GPU: procs, procs.graphics and procs.mps are "pid:bytes,pid:bytes"; bytes "-" are not available. */
#include "fake.h"

/* As the real one: too little room is answered with the need, which the caller then has. */
static nvmlReturn_t list(nvmlDevice_t device, const char *what, unsigned int *count, nvmlProcessInfo_t *infos) {
    char v[MAX_VALUE], *at, *end;
    unsigned int room = *count, n = 0;
    nvmlProcessInfo_t p;

    if (!device_find(device, what, v))
        v[0] = '\0';
    if (strcmp(v, "-") == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    for (at = v; *at; at = *end ? end + 1 : end) {
        end = at + strcspn(at, ",");
        p.pid = (unsigned int)strtoul(at, &at, 10);
        p.usedGpuMemory = at[0] == ':' && at[1] != '-' ? strtoull(at + 1, NULL, 10) : (unsigned long long)NVML_VALUE_NOT_AVAILABLE;
        p.gpuInstanceId = p.computeInstanceId = 0xffffffff;
        if (device.handle->mig != WHOLE) {
            p.gpuInstanceId = (unsigned int)device_number(device, "gi", (unsigned long long)device.handle->mig + 1);
            p.computeInstanceId = (unsigned int)device_number(device, "ci", 0);
        }
        if (n < room && infos)
            infos[n] = p;
        n++;
    }
    *count = n;
    return n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define LISTS(fn, what) \
    nvmlReturn_t fn(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) { \
        BEGIN_GPU(#fn, device); \
        return list(device, what, count, infos); \
    }

#ifndef OMIT_nvmlDeviceGetComputeRunningProcesses_v3
LISTS(nvmlDeviceGetComputeRunningProcesses_v3, "procs")
#endif

#ifndef OMIT_nvmlDeviceGetGraphicsRunningProcesses_v3
LISTS(nvmlDeviceGetGraphicsRunningProcesses_v3, "procs.graphics")
#endif

#ifndef OMIT_nvmlDeviceGetMPSComputeRunningProcesses_v3
LISTS(nvmlDeviceGetMPSComputeRunningProcesses_v3, "procs.mps")
#endif
