/* MIG: gpu.N.mig is the mode, gpu.N.mig.K.profile an instance. */
#include "fake.h"

#ifndef OMIT_nvmlDeviceGetMigMode
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetMigMode", device);
    TRY(value(device, "mig", "-", &v));
    *current = *pending = (unsigned int)v;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetMaxMigDeviceCount
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    char v[MAX_VALUE];
    BEGIN_WHOLE("nvmlDeviceGetMaxMigDeviceCount", device);
    *count = device_find(device, "mig", v) ? MAX_MIGS : 0;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetMigDeviceHandleByIndex
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig) {
    char v[MAX_VALUE];
    BEGIN_WHOLE("nvmlDeviceGetMigDeviceHandleByIndex", device);
    if (index >= MAX_MIGS)
        return NVML_ERROR_INVALID_ARGUMENT;
    *mig = instance(device.handle->index, (int)index);
    return device_find(*mig, "profile", v) ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}
#endif

#ifndef OMIT_nvmlDeviceIsMigDeviceHandle
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is) {
    BEGIN_GPU("nvmlDeviceIsMigDeviceHandle", device);
    *is = device.handle->mig != WHOLE;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetDeviceHandleFromMigDeviceHandle
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig, nvmlDevice_t *device) {
    BEGIN_GPU("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", mig);
    if (mig.handle->mig == WHOLE)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = whole(mig.handle->index);
    return NVML_SUCCESS;
}
#endif

static nvmlReturn_t id(const char *fn, nvmlDevice_t device, const char *what, unsigned long long otherwise, unsigned int *out) {
    BEGIN_GPU(fn, device);
    if (device.handle->mig == WHOLE)
        return NVML_ERROR_INVALID_ARGUMENT;
    *out = (unsigned int)device_number(device, what, otherwise);
    return NVML_SUCCESS;
}

#ifndef OMIT_nvmlDeviceGetGpuInstanceId
nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *out) {
    return id("nvmlDeviceGetGpuInstanceId", device, "gi", device.handle ? (unsigned long long)device.handle->mig + 1 : 0, out);
}
#endif

#ifndef OMIT_nvmlDeviceGetComputeInstanceId
nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *out) {
    return id("nvmlDeviceGetComputeInstanceId", device, "ci", 0, out);
}
#endif

/* The slices stand in the profile's name: 1g.10gb, 1c.3g.40gb. */
#ifndef OMIT_nvmlDeviceGetAttributes_v2
nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *a) {
    unsigned int gi = 0, ci = 0;
    char v[MAX_VALUE];
    BEGIN_GPU("nvmlDeviceGetAttributes_v2", device);
    if (device.handle->mig == WHOLE || !device_find(device, "profile", v))
        return NVML_ERROR_NOT_SUPPORTED;
    if (sscanf(v, "%uc.%ug.", &ci, &gi) != 2) {
        if (sscanf(v, "%ug.", &gi) != 1)
            return NVML_ERROR_UNKNOWN;
        ci = gi;
    }
    memset(a, 0, sizeof *a);
    a->gpuInstanceSliceCount = gi;
    a->computeInstanceSliceCount = ci;
    a->memorySizeMB = device_number(device, "mem.total", 9984ULL << 20) >> 20;
    return NVML_SUCCESS;
}
#endif
