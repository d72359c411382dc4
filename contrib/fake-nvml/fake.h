/*
 * What the parts of the fake library share: the state file, and the beginning that every function has.
 */
#ifndef FAKE_H
#define FAKE_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvml.h"

enum { MAX_GPUS = 64, MAX_MIGS = 7, MAX_VALUE = 4096, WHOLE = -1 };

/* What a handle points to: a GPU, or a MIG instance of it. */
struct nvmlDevice_st {
    unsigned int index;
    int mig; /* WHOLE, or the K of gpu.N.mig.K */
};

/* An event.K line. */
struct event {
    unsigned long long k, type, data;
    unsigned int gpu, gi, ci;
};

/* state.c */
int find(const char *key, char value[MAX_VALUE]); /* 1 when the key is there */
int state_orders(void); /* whether any call is to crash, hang or fail: mostly not, and then nobody looks for which */
unsigned long long number(const char *key, unsigned long long otherwise);
int device_find(nvmlDevice_t device, const char *what, char value[MAX_VALUE]);
unsigned long long device_number(nvmlDevice_t device, const char *what, unsigned long long otherwise);
int event_after(unsigned long long k, struct event *e); /* the first with a higher K */
unsigned long long event_last(void);
unsigned long state_changes(void);                    /* how often the file has changed */
void state_wait(unsigned long changes, int milliseconds); /* until it has changed more often */

/* fake_nvml.c */
nvmlDevice_t whole(unsigned int gpu);
nvmlDevice_t instance(unsigned int gpu, int mig);
nvmlReturn_t begin(const char *fn);
nvmlReturn_t begin_gpu(const char *fn, nvmlDevice_t device);
nvmlReturn_t begin_whole(const char *fn, nvmlDevice_t device); /* not supported of a MIG instance */
nvmlReturn_t ordered(const char *prefix, const char *fn);      /* crash.FN, hang.FN, fail.FN */
nvmlReturn_t text(char *to, unsigned int length, const char *from);
/* A number of the state; "-" is not supported. */
nvmlReturn_t value(nvmlDevice_t device, const char *what, const char *otherwise, long long *v);

#define TRY(call) do { nvmlReturn_t r_ = (call); if (r_ != NVML_SUCCESS) return r_; } while (0)
#define BEGIN(fn) TRY(begin(fn))
#define BEGIN_GPU(fn, d) TRY(begin_gpu(fn, d))
#define BEGIN_WHOLE(fn, d) TRY(begin_whole(fn, d))

#endif
