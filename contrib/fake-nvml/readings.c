/* What a GPU measures and counts. */
#include "fake.h"

/* A function that gives one number of the state through a pointer. */
#define GIVES(fn, type, what, otherwise) \
    nvmlReturn_t fn(nvmlDevice_t device, type *out) { \
        long long v; \
        BEGIN_WHOLE(#fn, device); \
        TRY(value(device, what, otherwise, &v)); \
        *out = (type)v; \
        return NVML_SUCCESS; \
    }

#ifndef OMIT_nvmlDeviceGetUtilizationRates
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *u) {
    long long gpu, memory;
    BEGIN_WHOLE("nvmlDeviceGetUtilizationRates", device);
    TRY(value(device, "util.gpu", "0", &gpu));
    TRY(value(device, "util.mem", "0", &memory));
    u->gpu = (unsigned int)gpu;
    u->memory = (unsigned int)memory;
    return NVML_SUCCESS;
}
#endif

/* ---- temperature ---- */

#ifndef OMIT_nvmlDeviceGetTemperature
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *t) {
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetTemperature", device);
    if (sensor != NVML_TEMPERATURE_GPU)
        return NVML_ERROR_INVALID_ARGUMENT;
    TRY(value(device, "temp", "35", &v));
    *t = (unsigned int)v;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetTemperatureV
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *t) {
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetTemperatureV", device);
    if (t->version != nvmlTemperature_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    TRY(value(device, "temp", "35", &v));
    t->temperature = (int)v;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetTemperatureThreshold
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t which, unsigned int *t) {
    static const char *const keys[] = {"temp.shutdown", "temp.slowdown", "temp.mem_max", "temp.max"};
    static const char *const otherwise[] = {"95", "89", "95", "87"};
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetTemperatureThreshold", device);
    if (which >= sizeof keys / sizeof *keys)
        return NVML_ERROR_NOT_SUPPORTED;
    TRY(value(device, keys[which], otherwise[which], &v));
    *t = (unsigned int)v;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetMarginTemperature
nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_t *t) {
    char otherwise[32] = "-";
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetMarginTemperature", device);
    if (t->version != nvmlMarginTemperature_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (value(device, "temp", "35", &v) == NVML_SUCCESS)
        snprintf(otherwise, sizeof otherwise, "%lld", 87 - v);
    TRY(value(device, "temp.margin", otherwise, &v));
    t->marginTemperature = (int)v;
    return NVML_SUCCESS;
}
#endif

/* ---- power and clocks ---- */

#ifndef OMIT_nvmlDeviceGetPowerUsage
GIVES(nvmlDeviceGetPowerUsage, unsigned int, "power", "70000")
#endif

#ifndef OMIT_nvmlDeviceGetEnforcedPowerLimit
GIVES(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "power.limit", "700000")
#endif

#ifndef OMIT_nvmlDeviceGetTotalEnergyConsumption
GIVES(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy", "1000000")
#endif

#ifndef OMIT_nvmlDeviceGetClockInfo
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock) {
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetClockInfo", device);
    if (type != NVML_CLOCK_SM && type != NVML_CLOCK_MEM)
        return NVML_ERROR_NOT_SUPPORTED;
    TRY(type == NVML_CLOCK_SM ? value(device, "clock.sm", "1980", &v) : value(device, "clock.mem", "2619", &v));
    *clock = (unsigned int)v;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetCurrentClocksEventReasons
GIVES(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "throttle", "0x1")
#endif

#ifndef OMIT_nvmlDeviceGetCurrentClocksThrottleReasons
GIVES(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle", "0x1")
#endif

/* ---- memory errors ---- */

#ifndef OMIT_nvmlDeviceGetTotalEccErrors
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, unsigned long long *n) {
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetTotalEccErrors", device);
    if (counter != NVML_VOLATILE_ECC)
        return NVML_ERROR_NOT_SUPPORTED;
    TRY(value(device, type == NVML_MEMORY_ERROR_TYPE_CORRECTED ? "ecc.corrected" : "ecc.uncorrected", "0", &v));
    *n = (unsigned long long)v;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetRemappedRows
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending, unsigned int *failure) {
    long long c, u, p, f;
    BEGIN_WHOLE("nvmlDeviceGetRemappedRows", device);
    TRY(value(device, "remap.corrected", "0", &c));
    TRY(value(device, "remap.uncorrected", "0", &u));
    TRY(value(device, "remap.pending", "0", &p));
    TRY(value(device, "remap.failure", "0", &f));
    *corrected = (unsigned int)c;
    *uncorrected = (unsigned int)u;
    *pending = (unsigned int)p;
    *failure = (unsigned int)f;
    return NVML_SUCCESS;
}
#endif

/* GPUs before Ampere; asked without a buffer it says how many. */
#ifndef OMIT_nvmlDeviceGetRetiredPages
nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *count, unsigned long long *addresses) {
    unsigned int room = *count, i;
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetRetiredPages", device);
    TRY(value(device, cause == NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR ? "retired.dbe" : "retired.sbe", "-", &v));
    *count = (unsigned int)v;
    if (room < *count)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (i = 0; i < *count; i++)
        addresses[i] = 0x1000ULL * (i + 1);
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetRetiredPagesPendingStatus
GIVES(nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, "retired.pending", "-")
#endif

#ifndef OMIT_nvmlDeviceGetPcieReplayCounter
GIVES(nvmlDeviceGetPcieReplayCounter, unsigned int, "pcie.replay", "0")
#endif

/* ---- fields ---- */

/* gpu.N.field.ID, or what another key says of the same thing. */
static nvmlReturn_t field(nvmlDevice_t device, unsigned int id, long long *v) {
    char what[32], given[MAX_VALUE];

    snprintf(what, sizeof what, "field.%u", id);
    if (device_find(device, what, given))
        return value(device, what, "-", v);
    switch (id) {
    case NVML_FI_DEV_MEMORY_TEMP: return value(device, "temp.mem", "40", v);
    case NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: return value(device, "recovery", "0", v);
    case NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT: *v = -8; return NVML_SUCCESS;
    case NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT: *v = -2; return NVML_SUCCESS;
    case NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT: *v = 0; return NVML_SUCCESS;
    case NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT: *v = 0; return NVML_SUCCESS;
    default: return NVML_ERROR_NOT_SUPPORTED;
    }
}

#ifndef OMIT_nvmlDeviceGetFieldValues
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    long long v;
    int i;
    BEGIN_WHOLE("nvmlDeviceGetFieldValues", device);
    if (count <= 0 || !values)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (i = 0; i < count; i++) {
        memset(&values[i].value, 0, sizeof values[i].value);
        values[i].nvmlReturn = field(device, values[i].fieldId, &v);
        if (values[i].nvmlReturn != NVML_SUCCESS)
            continue;
        if (values[i].fieldId >= NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT && values[i].fieldId <= NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT) {
            values[i].valueType = NVML_VALUE_TYPE_SIGNED_INT;
            values[i].value.siVal = (int)v;
        } else {
            values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
            values[i].value.uiVal = (unsigned int)v;
        }
    }
    return NVML_SUCCESS;
}
#endif
