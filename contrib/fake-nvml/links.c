/* What a GPU is next to: NVLinks, other GPUs, CPUs and memory. */
#include "fake.h"

/*
 * gpu.N.link.L is what link L leads to, domain:bus:device; "down" is a link that is not up, and so is one without a line below the highest that
 * has one. A GPU without such lines has no NVLink.
 */
static nvmlReturn_t link_of(nvmlDevice_t device, unsigned int link, char v[MAX_VALUE]) {
    char what[32];
    int i;

    if (link >= NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (i = NVML_NVLINK_MAX_LINKS - 1; i >= 0; i--) {
        snprintf(what, sizeof what, "link.%d", i);
        if (device_find(device, what, v))
            break;
    }
    if (i < 0)
        return NVML_ERROR_NOT_SUPPORTED;
    if ((int)link > i)
        return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(what, sizeof what, "link.%u", link);
    if (!device_find(device, what, v))
        strcpy(v, "down");
    return NVML_SUCCESS;
}

#ifndef OMIT_nvmlDeviceGetNvLinkState
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, nvmlEnableState_t *active) {
    char v[MAX_VALUE];
    BEGIN_WHOLE("nvmlDeviceGetNvLinkState", device);
    TRY(link_of(device, link, v));
    *active = strcmp(v, "down") == 0 ? NVML_FEATURE_DISABLED : NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetNvLinkRemotePciInfo_v2
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *pci) {
    char v[MAX_VALUE];
    BEGIN_WHOLE("nvmlDeviceGetNvLinkRemotePciInfo_v2", device);
    TRY(link_of(device, link, v));
    memset(pci, 0, sizeof *pci);
    if (sscanf(v, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device) != 3)
        return NVML_ERROR_UNKNOWN;
    snprintf(pci->busId, sizeof pci->busId, NVML_DEVICE_PCI_BUS_ID_FMT, pci->domain, pci->bus, pci->device);
    return NVML_SUCCESS;
}
#endif

/* gpu.N.link.L.replay, .recovery and .crc */
#ifndef OMIT_nvmlDeviceGetNvLinkErrorCounter
nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned int link, nvmlNvLinkErrorCounter_t counter, unsigned long long *n) {
    static const char *const names[] = {"replay", "recovery", "crc"};
    char v[MAX_VALUE], what[32];
    long long count;
    BEGIN_WHOLE("nvmlDeviceGetNvLinkErrorCounter", device);
    TRY(link_of(device, link, v));
    if (counter >= sizeof names / sizeof *names)
        return NVML_ERROR_NOT_SUPPORTED;
    snprintf(what, sizeof what, "link.%u.%s", link, names[counter]);
    TRY(value(device, what, "0", &count));
    *n = (unsigned long long)count;
    return NVML_SUCCESS;
}
#endif

/* topo.A.B, the smaller number first, is a level of nvmlGpuTopologyLevel_t. */
#ifndef OMIT_nvmlDeviceGetTopologyCommonAncestor
nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuTopologyLevel_t *level) {
    unsigned int low, high;
    char key[64];
    BEGIN_WHOLE("nvmlDeviceGetTopologyCommonAncestor", a);
    BEGIN_WHOLE("nvmlDeviceGetTopologyCommonAncestor", b);
    low = a.handle->index < b.handle->index ? a.handle->index : b.handle->index;
    high = a.handle->index + b.handle->index - low;
    snprintf(key, sizeof key, "topo.%u.%u", low, high);
    *level = (nvmlGpuTopologyLevel_t)number(key, low == high ? NVML_TOPOLOGY_INTERNAL : NVML_TOPOLOGY_SYSTEM);
    return NVML_SUCCESS;
}
#endif

/* ---- CPUs and memory ---- */

/* A list as Linux writes it, 0-3,8, in a bitmap of longs. */
static nvmlReturn_t bitmap(nvmlDevice_t device, const char *what, unsigned int longs, unsigned long *set) {
    char v[MAX_VALUE], *at;
    unsigned long from, to;

    if (!device_find(device, what, v) || strcmp(v, "-") == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    memset(set, 0, longs * sizeof *set);
    for (at = v; *at; at += *at == ',') {
        from = to = strtoul(at, &at, 10);
        if (*at == '-')
            to = strtoul(at + 1, &at, 10);
        for (; from <= to && from < longs * 64UL; from++)
            set[from / 64] |= 1UL << from % 64;
        if (*at && *at != ',')
            return NVML_ERROR_UNKNOWN;
    }
    return NVML_SUCCESS;
}

#ifndef OMIT_nvmlDeviceGetCpuAffinity
nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int longs, unsigned long *set) {
    BEGIN_WHOLE("nvmlDeviceGetCpuAffinity", device);
    return bitmap(device, "cpus", longs, set);
}
#endif

#ifndef OMIT_nvmlDeviceGetMemoryAffinity
nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int longs, unsigned long *set, nvmlAffinityScope_t scope) {
    BEGIN_WHOLE("nvmlDeviceGetMemoryAffinity", device);
    if (scope != NVML_AFFINITY_SCOPE_NODE)
        return NVML_ERROR_NOT_SUPPORTED;
    return bitmap(device, "numa", longs, set);
}
#endif

/* Of machines whose GPU memory is a NUMA node: that node, not the one next to it. */
#ifndef OMIT_nvmlDeviceGetNumaNodeId
nvmlReturn_t nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node) {
    long long v;
    BEGIN_WHOLE("nvmlDeviceGetNumaNodeId", device);
    TRY(value(device, "numa.memory", "-", &v));
    *node = (unsigned int)v;
    return NVML_SUCCESS;
}
#endif
