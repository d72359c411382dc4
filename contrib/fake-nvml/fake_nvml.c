/*
 * A libnvidia-ml.so.1 without a GPU behind it, for tests of forge-ml on the real cgo path.
 *
 * What it answers stands in a text file (README.md lists the keys), looked at again at every
 * call, so that a test can make a GPU disappear or a call hang while a process is inside.
 * It is compiled against go-nvml's own nvml.h, so the compiler checks every prototype.
 * -DOMIT_nvmlName leaves a symbol out, as a driver that is older than the caller does.
 *
 * Here: the library and what a GPU is. readings.c, links.c, processes.c, mig.c and events.c have the rest, state.c the file.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>

#include "fake.h"

static struct nvmlDevice_st devices[MAX_GPUS];
static struct nvmlDevice_st instances[MAX_GPUS][MAX_MIGS];
static int initialised;

nvmlDevice_t whole(unsigned int gpu) {
    return (nvmlDevice_t){&devices[gpu]};
}

nvmlDevice_t instance(unsigned int gpu, int mig) {
    return (nvmlDevice_t){&instances[gpu][mig]};
}

/* What the state orders for a call, before it answers. */
nvmlReturn_t ordered(const char *prefix, const char *fn) {
    char key[256];

    if (!state_orders())
        return NVML_SUCCESS;
    snprintf(key, sizeof key, "%scrash.%s", prefix, fn);
    if (number(key, 0))
        raise(SIGSEGV);
    snprintf(key, sizeof key, "%shang.%s", prefix, fn);
    while (number(key, 0))
        usleep(5000);
    snprintf(key, sizeof key, "%sfail.%s", prefix, fn);
    return (nvmlReturn_t)number(key, NVML_SUCCESS);
}

nvmlReturn_t begin(const char *fn) {
    nvmlReturn_t r = ordered("", fn);
    if (r == NVML_SUCCESS && !initialised)
        r = NVML_ERROR_UNINITIALIZED;
    return r;
}

nvmlReturn_t begin_gpu(const char *fn, nvmlDevice_t device) {
    char prefix[32];

    TRY(begin(fn));
    if (!device.handle || device.handle->index >= number("count", 0))
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(prefix, sizeof prefix, "gpu.%u.", device.handle->index);
    TRY(ordered(prefix, fn));
    return device_number(whole(device.handle->index), "lost", 0) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

nvmlReturn_t begin_whole(const char *fn, nvmlDevice_t device) {
    TRY(begin_gpu(fn, device));
    return device.handle->mig == WHOLE ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t text(char *to, unsigned int length, const char *from) {
    if (!to)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(from) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, from);
    return NVML_SUCCESS;
}

nvmlReturn_t value(nvmlDevice_t device, const char *what, const char *otherwise, long long *v) {
    char s[MAX_VALUE];

    if (!device_find(device, what, s) || !*s)
        snprintf(s, sizeof s, "%s", otherwise);
    if (strcmp(s, "-") == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    *v = strtoll(s, NULL, 0);
    return NVML_SUCCESS;
}

/* ---- library ---- */

static nvmlReturn_t init(const char *fn) {
    nvmlReturn_t r = ordered("", fn);
    unsigned int i;
    int k;

    if (r == NVML_SUCCESS)
        r = (nvmlReturn_t)number("init", NVML_SUCCESS);
    if (r != NVML_SUCCESS)
        return r;
    for (i = 0; i < MAX_GPUS; i++) {
        devices[i] = (struct nvmlDevice_st){i, WHOLE};
        for (k = 0; k < MAX_MIGS; k++)
            instances[i][k] = (struct nvmlDevice_st){i, k};
    }
    initialised = 1;
    return NVML_SUCCESS;
}

#ifndef OMIT_nvmlInit_v2
nvmlReturn_t nvmlInit_v2(void) {
    return init("nvmlInit_v2");
}
#endif

#ifndef OMIT_nvmlInitWithFlags
nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    return init("nvmlInitWithFlags");
}
#endif

#ifndef OMIT_nvmlShutdown
nvmlReturn_t nvmlShutdown(void) {
    BEGIN("nvmlShutdown");
    initialised = 0;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlErrorString
const char *nvmlErrorString(nvmlReturn_t r) {
    switch (r) {
    case NVML_SUCCESS: return "The operation was successful";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU requires reset";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}
#endif

#ifndef OMIT_nvmlSystemGetDriverVersion
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    char v[MAX_VALUE];
    BEGIN("nvmlSystemGetDriverVersion");
    return text(version, length, find("driver", v) ? v : "570.00.00");
}
#endif

#ifndef OMIT_nvmlDeviceGetCount_v2
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    BEGIN("nvmlDeviceGetCount_v2");
    *count = (unsigned int)number("count", 0);
    return NVML_SUCCESS;
}
#endif

/* ---- devices ---- */

#ifndef OMIT_nvmlDeviceGetHandleByIndex_v2
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    if (index >= MAX_GPUS)
        return NVML_ERROR_INVALID_ARGUMENT;
    BEGIN_GPU("nvmlDeviceGetHandleByIndex_v2", whole(index));
    *device = whole(index);
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetIndex
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    BEGIN_GPU("nvmlDeviceGetIndex", device);
    *index = device.handle->index;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetUUID
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    char v[MAX_VALUE];
    BEGIN_GPU("nvmlDeviceGetUUID", device);
    if (device_find(device, "uuid", v))
        return text(uuid, length, v);
    if (device.handle->mig == WHOLE)
        snprintf(v, sizeof v, "GPU-00000000-0000-0000-0000-%012x", device.handle->index);
    else
        snprintf(v, sizeof v, "MIG-00000000-0000-0000-%04x-%012x", device.handle->mig, device.handle->index);
    return text(uuid, length, v);
}
#endif

#ifndef OMIT_nvmlDeviceGetName
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    char v[MAX_VALUE], profile[MAX_VALUE], both[2 * MAX_VALUE + 8];
    BEGIN_GPU("nvmlDeviceGetName", device);
    if (!device_find(whole(device.handle->index), "name", v))
        strcpy(v, "NVIDIA H100 80GB HBM3");
    if (device.handle->mig == WHOLE || !device_find(device, "profile", profile))
        return text(name, length, v);
    snprintf(both, sizeof both, "%s MIG %s", v, profile);
    return text(name, length, both);
}
#endif

#ifndef OMIT_nvmlDeviceGetMinorNumber
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    BEGIN_WHOLE("nvmlDeviceGetMinorNumber", device);
    *minor = (unsigned int)device_number(device, "minor", device.handle->index);
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetPciInfo_v3
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    char v[MAX_VALUE];
    BEGIN_GPU("nvmlDeviceGetPciInfo_v3", device);
    memset(pci, 0, sizeof *pci);
    pci->bus = device.handle->index + 1;
    if (device_find(whole(device.handle->index), "pci", v) &&
        sscanf(v, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return NVML_ERROR_UNKNOWN;
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT, pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff);
    return NVML_SUCCESS;
}
#endif

/* Bytes. v1 counts what the driver reserves as used, v2 splits it off: as the real one does. */
static void memory(nvmlDevice_t device, unsigned long long *total, unsigned long long *reserved, unsigned long long *used) {
    int is_whole = device.handle->mig == WHOLE;
    *total = device_number(device, "mem.total", (is_whole ? 81559ULL : 9984ULL) << 20);
    *reserved = device_number(device, "mem.reserved", (is_whole ? 600ULL : 12ULL) << 20);
    *used = device_number(device, "mem.used", 0);
}

#ifndef OMIT_nvmlDeviceGetMemoryInfo
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *m) {
    unsigned long long reserved;
    BEGIN_GPU("nvmlDeviceGetMemoryInfo", device);
    memory(device, &m->total, &reserved, &m->used);
    m->used += reserved;
    m->free = m->total - m->used;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetMemoryInfo_v2
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *m) {
    BEGIN_GPU("nvmlDeviceGetMemoryInfo_v2", device);
    if (m->version != nvmlMemory_v2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memory(device, &m->total, &m->reserved, &m->used);
    m->free = m->total - m->reserved - m->used;
    return NVML_SUCCESS;
}
#endif
