/*
 * A CUDA program for contrib/gpu-check: holds memory of the one GPU that it can see and keeps it busy, or makes the mistake that a program can make.
 * It loads the driver by name, so that it is built where there is no CUDA: cc -O1 -o hold hold.c -ldl
 *
 *   hold MIB SECONDS spin|idle|fault     prints "holding UUID" once it does; SIGTERM ends it
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char ptx[] =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry spin(.param .u64 ns)\n{\n"
    ".reg .u64 %rd<5>;\n.reg .pred %p1;\n"
    "ld.param.u64 %rd1, [ns];\nmov.u64 %rd2, %globaltimer;\n"
    "AGAIN:\nmov.u64 %rd3, %globaltimer;\nsub.u64 %rd4, %rd3, %rd2;\nsetp.lt.u64 %p1, %rd4, %rd1;\n@%p1 bra AGAIN;\nret;\n}\n"
    ".visible .entry fault()\n{\n"
    ".reg .u64 %rd1;\n.reg .u32 %r1;\nmov.u64 %rd1, 16;\nmov.u32 %r1, 1;\nst.global.u32 [%rd1], %r1;\nret;\n}\n";

static void *cuda;

static void *need(const char *name) {
    void *f = dlsym(cuda, name);
    if (!f) {
        fprintf(stderr, "hold: the driver has no %s\n", name);
        exit(2);
    }
    return f;
}

static void check(int result, const char *what) {
    if (result != 0) {
        fprintf(stderr, "hold: %s: CUDA error %d\n", what, result);
        exit(3);
    }
}

#define CALL(name, args, ...) check(((int (*) args)need(#name))(__VA_ARGS__), #name)

int main(int argc, char **argv) {
    int device, busy;
    void *context, *module, *function, *params[1];
    unsigned long long memory, ns = 200000000ULL, mib;
    unsigned char uuid[16];
    time_t end;

    if (argc != 4) {
        fprintf(stderr, "usage: hold MIB SECONDS spin|idle|fault\n");
        return 2;
    }
    mib = strtoull(argv[1], NULL, 10);
    end = time(NULL) + strtol(argv[2], NULL, 10);
    busy = strcmp(argv[3], "spin") == 0;
    if (!(cuda = dlopen("libcuda.so.1", RTLD_NOW))) {
        fprintf(stderr, "hold: %s\n", dlerror());
        return 2;
    }
    CALL(cuInit, (unsigned), 0);
    CALL(cuDeviceGet, (int *, int), &device, 0);
    CALL(cuDeviceGetUuid, (unsigned char *, int), uuid, device);
    CALL(cuCtxCreate_v2, (void **, unsigned, int), &context, 4 /* blocking wait: a CPU that spins is not the point */, device);
    CALL(cuMemAlloc_v2, (unsigned long long *, size_t), &memory, (size_t)mib << 20);
    CALL(cuModuleLoadData, (void **, const void *), &module, ptx);
    CALL(cuModuleGetFunction, (void **, void *, const char *), &function, module, strcmp(argv[3], "fault") == 0 ? "fault" : "spin");
    printf("holding GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", uuid[0], uuid[1], uuid[2], uuid[3], uuid[4], uuid[5],
           uuid[6], uuid[7], uuid[8], uuid[9], uuid[10], uuid[11], uuid[12], uuid[13], uuid[14], uuid[15]);
    fflush(stdout);
    params[0] = &ns;
    while (time(NULL) < end) {
        if (!busy && strcmp(argv[3], "fault") != 0) {
            usleep(100000);
            continue;
        }
        CALL(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **), function, 132, 1, 1, 32, 1, 1, 0,
             NULL, busy ? params : NULL, NULL);
        check(((int (*)(void))need("cuCtxSynchronize"))(), "cuCtxSynchronize");
    }
    return 0;
}
