/*
 * Events: event.K lines with K growing, "gpu,type,data[,gi,ci]", numbers as C writes them. As with the real one, what is there when a GPU is
 * registered is past and not told; every later K is told once to each set. storm "gpu,xid,per_second" tells one XID again and again.
 */
#define _GNU_SOURCE
#include <time.h>
#include <unistd.h>

#include "fake.h"

struct nvmlEventSet_st {
    unsigned long long types[MAX_GPUS]; /* that each GPU is registered for */
    unsigned long long told;            /* the highest K */
    int registered;
    long long storm_at; /* when the next event of the storm is due, nanoseconds; 0: no storm */
};

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

#ifndef OMIT_nvmlEventSetCreate
nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    BEGIN("nvmlEventSetCreate");
    set->handle = calloc(1, sizeof *set->handle);
    return set->handle ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}
#endif

#ifndef OMIT_nvmlEventSetFree
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    BEGIN("nvmlEventSetFree");
    free(set.handle);
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetSupportedEventTypes
nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types) {
    BEGIN_WHOLE("nvmlDeviceGetSupportedEventTypes", device);
    *types = device_number(device, "events", nvmlEventTypeAll);
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceRegisterEvents
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    BEGIN_WHOLE("nvmlDeviceRegisterEvents", device);
    if (!set.handle)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (types & ~device_number(device, "events", nvmlEventTypeAll))
        return NVML_ERROR_NOT_SUPPORTED;
    if (!set.handle->registered) {
        set.handle->registered = 1;
        set.handle->told = event_last();
    }
    set.handle->types[device.handle->index] |= types;
    return NVML_SUCCESS;
}
#endif

static int deliver(struct nvmlEventSet_st *set, struct event *e, nvmlEventData_t *data) {
    if (e->gpu >= MAX_GPUS || !(set->types[e->gpu] & e->type))
        return 0;
    data->device = whole(e->gpu);
    data->eventType = e->type;
    data->eventData = e->data;
    data->gpuInstanceId = e->gi;
    data->computeInstanceId = e->ci;
    return 1;
}

/* The next event of the storm, when it is due; else when to look again, in milliseconds. */
static int storm(struct nvmlEventSet_st *set, struct event *e, int *again) {
    unsigned int rate = 0;
    char v[MAX_VALUE];

    *e = (struct event){0, nvmlEventTypeXidCriticalError, 0, 0, 0xffffffff, 0xffffffff};
    if (!find("storm", v) || sscanf(v, "%u,%llu,%u", &e->gpu, &e->data, &rate) != 3 || rate == 0) {
        set->storm_at = 0;
        return 0;
    }
    if (!set->storm_at)
        set->storm_at = now();
    if (now() < set->storm_at) {
        *again = 1;
        return 0;
    }
    set->storm_at += 1000000000LL / rate;
    return 1;
}

static int any_lost(struct nvmlEventSet_st *set) {
    unsigned int i;
    for (i = 0; i < MAX_GPUS; i++)
        if (set->types[i] && device_number(whole(i), "lost", 0))
            return 1;
    return 0;
}

#ifndef OMIT_nvmlEventSetWait_v2
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout) {
    long long until = now() + timeout * 1000000LL;
    unsigned long known;
    struct event e;
    int left, again;

    for (;;) {
        known = state_changes();
        BEGIN("nvmlEventSetWait_v2");
        if (!set.handle)
            return NVML_ERROR_INVALID_ARGUMENT;
        while (event_after(set.handle->told, &e)) {
            set.handle->told = e.k;
            if (deliver(set.handle, &e, data))
                return NVML_SUCCESS;
        }
        again = 1 << 20;
        if (storm(set.handle, &e, &again) && deliver(set.handle, &e, data))
            return NVML_SUCCESS;
        if (any_lost(set.handle))
            return NVML_ERROR_GPU_IS_LOST;
        left = (int)((until - now()) / 1000000);
        if (left <= 0)
            return NVML_ERROR_TIMEOUT;
        state_wait(known, left < again ? left : again);
    }
}
#endif
