/*
 * A libnvidia-ml.so.1 without a GPU behind it, for tests of forge-ml on the real cgo path.
 *
 * What it answers stands in a text file (README.md lists the keys), looked at again at every
 * call, so that a test can make a GPU disappear or a call hang while a process is inside.
 * It is compiled against go-nvml's own nvml.h, so the compiler checks every prototype.
 * -DOMIT_nvmlName leaves a symbol out, as a driver that is older than the caller does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nvml.h"

enum { MAX_GPUS = 64, MAX_STATE = 64 * 1024, MAX_VALUE = 256 };

struct nvmlDevice_st { unsigned int index; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nvmlDevice_st devices[MAX_GPUS];
static int initialised;
static char state[MAX_STATE + 1];
static struct stat seen;

/* The state file: $FAKENVML_STATE, or state.txt beside this library. */
static const char *state_path(void) {
    static char path[PATH_MAX];
    const char *env = getenv("FAKENVML_STATE");
    Dl_info self;
    char *slash;

    if (env && *env)
        return env;
    if (!dladdr((void *)&lock, &self) || !self.dli_fname)
        return "state.txt";
    snprintf(path, sizeof path, "%s", self.dli_fname);
    slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, sizeof path - (size_t)(slash ? slash + 1 - path : 0), "state.txt");
    return path;
}

/* Tests replace the file by rename(2), so a read never sees half of one. */
static void refresh(void) {
    struct stat now;
    size_t n;
    FILE *f = fopen(state_path(), "re");

    if (!f || fstat(fileno(f), &now) != 0) {
        state[0] = '\0';
        memset(&seen, 0, sizeof seen);
    } else if (now.st_ino != seen.st_ino || now.st_size != seen.st_size ||
               now.st_mtim.tv_sec != seen.st_mtim.tv_sec || now.st_mtim.tv_nsec != seen.st_mtim.tv_nsec) {
        n = fread(state, 1, MAX_STATE, f);
        state[n] = '\0';
        seen = now;
    }
    if (f)
        fclose(f);
}

/* Copies the value of a key ("key value" lines, # comments) and returns 1, or returns 0. */
static int find(const char *key, char value[MAX_VALUE]) {
    size_t k = strlen(key), n;
    int found = 0;
    const char *line;

    pthread_mutex_lock(&lock);
    refresh();
    for (line = state; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (strncmp(line, key, k) != 0 || !strchr(" \t\n", line[k]))
            continue;
        line += k + strspn(line + k, " \t");
        n = strcspn(line, "\n");
        if (n >= MAX_VALUE)
            n = MAX_VALUE - 1;
        memcpy(value, line, n);
        value[n] = '\0';
        found = 1;
        break;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static unsigned long long number(const char *key, unsigned long long otherwise) {
    char v[MAX_VALUE];
    return find(key, v) && *v ? strtoull(v, NULL, 0) : otherwise;
}

static int gpu_find(unsigned int gpu, const char *what, char value[MAX_VALUE]) {
    char key[MAX_VALUE];
    snprintf(key, sizeof key, "gpu.%u.%s", gpu, what);
    return find(key, value);
}

static unsigned long long gpu_number(unsigned int gpu, const char *what, unsigned long long otherwise) {
    char v[MAX_VALUE];
    return gpu_find(gpu, what, v) && *v ? strtoull(v, NULL, 0) : otherwise;
}

/* What the state orders for a call, before it answers: crash.FN, hang.FN, fail.FN. */
static nvmlReturn_t ordered(const char *prefix, const char *fn) {
    char key[MAX_VALUE];

    snprintf(key, sizeof key, "%scrash.%s", prefix, fn);
    if (number(key, 0))
        raise(SIGSEGV);
    snprintf(key, sizeof key, "%shang.%s", prefix, fn);
    while (number(key, 0))
        usleep(5000);
    snprintf(key, sizeof key, "%sfail.%s", prefix, fn);
    return (nvmlReturn_t)number(key, NVML_SUCCESS);
}

static nvmlReturn_t begin(const char *fn) {
    nvmlReturn_t r = ordered("", fn);
    if (r == NVML_SUCCESS && !initialised)
        r = NVML_ERROR_UNINITIALIZED;
    return r;
}

static nvmlReturn_t begin_gpu(const char *fn, unsigned int gpu) {
    char prefix[32];
    nvmlReturn_t r = begin(fn);

    if (r != NVML_SUCCESS)
        return r;
    if (gpu >= MAX_GPUS || gpu >= number("count", 0))
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(prefix, sizeof prefix, "gpu.%u.", gpu);
    r = ordered(prefix, fn);
    if (r == NVML_SUCCESS && gpu_number(gpu, "lost", 0))
        r = NVML_ERROR_GPU_IS_LOST;
    return r;
}

static nvmlReturn_t text(char *to, unsigned int length, const char *from) {
    if (!to)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(from) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, from);
    return NVML_SUCCESS;
}

#define BEGIN(fn) do { nvmlReturn_t r_ = begin(fn); if (r_ != NVML_SUCCESS) return r_; } while (0)
#define BEGIN_GPU(fn, d) \
    do { \
        nvmlReturn_t r_ = (d).handle ? begin_gpu(fn, (d).handle->index) : NVML_ERROR_INVALID_ARGUMENT; \
        if (r_ != NVML_SUCCESS) return r_; \
    } while (0)

/* ---- library ---- */

static nvmlReturn_t init(const char *fn) {
    nvmlReturn_t r = ordered("", fn);
    unsigned int i;

    if (r == NVML_SUCCESS)
        r = (nvmlReturn_t)number("init", NVML_SUCCESS);
    if (r != NVML_SUCCESS)
        return r;
    for (i = 0; i < MAX_GPUS; i++)
        devices[i].index = i;
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
    nvmlReturn_t r = begin_gpu("nvmlDeviceGetHandleByIndex_v2", index);
    if (r == NVML_SUCCESS)
        device->handle = &devices[index];
    return r;
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
    if (!gpu_find(device.handle->index, "uuid", v))
        snprintf(v, sizeof v, "GPU-00000000-0000-0000-0000-%012x", device.handle->index);
    return text(uuid, length, v);
}
#endif

#ifndef OMIT_nvmlDeviceGetName
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    char v[MAX_VALUE];
    BEGIN_GPU("nvmlDeviceGetName", device);
    return text(name, length, gpu_find(device.handle->index, "name", v) ? v : "NVIDIA H100 80GB HBM3");
}
#endif

#ifndef OMIT_nvmlDeviceGetMinorNumber
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    BEGIN_GPU("nvmlDeviceGetMinorNumber", device);
    *minor = (unsigned int)gpu_number(device.handle->index, "minor", device.handle->index);
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetPciInfo_v3
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    char v[MAX_VALUE];
    BEGIN_GPU("nvmlDeviceGetPciInfo_v3", device);
    memset(pci, 0, sizeof *pci);
    pci->bus = device.handle->index + 1;
    if (gpu_find(device.handle->index, "pci", v) &&
        sscanf(v, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return NVML_ERROR_UNKNOWN;
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, NVML_DEVICE_PCI_BUS_ID_LEGACY_FMT, pci->domain & 0xffff, pci->bus & 0xff, pci->device & 0xff);
    return NVML_SUCCESS;
}
#endif

/* Bytes. v1 counts what the driver reserves as used, v2 splits it off: as the real one does. */
static void memory(unsigned int gpu, unsigned long long *total, unsigned long long *reserved, unsigned long long *used) {
    *total = gpu_number(gpu, "mem.total", 81559ULL << 20);
    *reserved = gpu_number(gpu, "mem.reserved", 600ULL << 20);
    *used = gpu_number(gpu, "mem.used", 0);
}

#ifndef OMIT_nvmlDeviceGetMemoryInfo
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *m) {
    unsigned long long reserved;
    BEGIN_GPU("nvmlDeviceGetMemoryInfo", device);
    memory(device.handle->index, &m->total, &reserved, &m->used);
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
    memory(device.handle->index, &m->total, &m->reserved, &m->used);
    m->free = m->total - m->reserved - m->used;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetMigMode
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    char v[MAX_VALUE];
    BEGIN_GPU("nvmlDeviceGetMigMode", device);
    if (!gpu_find(device.handle->index, "mig", v))
        return NVML_ERROR_NOT_SUPPORTED;
    *current = *pending = (unsigned int)strtoul(v, NULL, 0);
    return NVML_SUCCESS;
}
#endif

/* gpu.N.link.L is what link L leads to, domain:bus:device; "down" is a link that is not up. A GPU without such lines has no NVLink. */
static nvmlReturn_t link_of(unsigned int gpu, unsigned int link, char v[MAX_VALUE]) {
    char what[32];
    unsigned int i;

    for (i = 0; i < NVML_NVLINK_MAX_LINKS; i++) {
        snprintf(what, sizeof what, "link.%u", i);
        if (gpu_find(gpu, what, v))
            break;
    }
    if (i == NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_NOT_SUPPORTED;
    snprintf(what, sizeof what, "link.%u", link);
    if (!gpu_find(gpu, what, v))
        strcpy(v, "down");
    return NVML_SUCCESS;
}

#ifndef OMIT_nvmlDeviceGetNvLinkState
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *active) {
    char v[MAX_VALUE];
    nvmlReturn_t r;
    BEGIN_GPU("nvmlDeviceGetNvLinkState", device);
    if (link >= NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_INVALID_ARGUMENT;
    r = link_of(device.handle->index, link, v);
    if (r == NVML_SUCCESS)
        *active = strcmp(v, "down") == 0 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
    return r;
}
#endif

#ifndef OMIT_nvmlDeviceGetNvLinkRemotePciInfo_v2
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    char v[MAX_VALUE];
    nvmlReturn_t r;
    BEGIN_GPU("nvmlDeviceGetNvLinkRemotePciInfo_v2", device);
    if (link >= NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_INVALID_ARGUMENT;
    r = link_of(device.handle->index, link, v);
    if (r != NVML_SUCCESS)
        return r;
    memset(pci, 0, sizeof *pci);
    if (sscanf(v, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return NVML_ERROR_UNKNOWN;
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
    return NVML_SUCCESS;
}
#endif
