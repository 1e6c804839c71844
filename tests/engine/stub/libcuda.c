/* A stand-in for libcuda.so.1 on a machine without a GPU: host memory, a stream that works at once, graphs of what was
   queued. It shows that ours calls the driver with the right arguments in the right order, and gives everything back.
   It proves nothing about a GPU. Knobs: STUB_CUINIT, STUB_GPU, STUB_SM, STUB_NO_CAPTURE. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*work)(void);
typedef struct { void *to; const void *from; size_t bytes; work run; } step;
typedef struct { step steps[16]; int count; } graph;

static int live, capturing, current;
static graph captured;

int stub_live(void) { return live; }

static int queue(step s) {
    if (!current) return 201;  /* CUDA_ERROR_INVALID_CONTEXT */
    if (capturing) { captured.steps[captured.count++] = s; return 0; }
    if (s.run) return s.run();
    memcpy(s.to, s.from, s.bytes);
    return 0;
}

int stub_enqueue(void *stream, work run) { return stream ? queue((step){0, 0, 0, run}) : 400; }

int cuInit(unsigned flags) { const char *code = getenv("STUB_CUINIT"); return flags ? 1 : code ? atoi(code) : 0; }
int cuDriverGetVersion(int *v) { *v = 12060; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *device, int i) { *device = 7; return i ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) {
    const char *given = getenv("STUB_GPU");
    snprintf(name, size, "%s", given ? given : "Orin (nvgpu)");
    return device == 7 ? 0 : 101;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *given = getenv("STUB_SM");
    int sm = given ? atoi(given) : 87;
    if (device != 7) return 101;
    if (attribute == 75) { *value = sm / 10; return 0; }
    if (attribute == 76) { *value = sm % 10; return 0; }
    return 1;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &live; live++; return device == 7 ? 0 : 101; }
int cuDevicePrimaryCtxRelease_v2(int device) { live--; return device == 7 ? 0 : 101; }
int cuCtxSetCurrent(void *context) { current = context == &live; return current ? 0 : 201; }
int cuMemAlloc_v2(uint64_t *address, size_t bytes) { *address = (uint64_t)(uintptr_t)malloc(bytes); live++; return 0; }
int cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); live--; return 0; }
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) { *address = malloc(bytes); live++; return flags; }
int cuMemFreeHost(void *address) { free(address); live--; return 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    return stream ? queue((step){(void *)(uintptr_t)to, from, bytes, 0}) : 400;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    return stream ? queue((step){to, (void *)(uintptr_t)from, bytes, 0}) : 400;
}
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); live++; return flags == 1 ? 0 : 1; }
int cuStreamDestroy_v2(void *stream) { free(stream); live--; return 0; }
int cuStreamSynchronize(void *stream) { return stream && !capturing ? 0 : 900; }
int cuStreamBeginCapture_v2(void *stream, int mode) {
    captured.count = 0;
    capturing = 1;
    return stream && mode == 1 ? 0 : 1;
}
int cuStreamEndCapture(void *stream, void **g) {
    capturing = 0;
    if (!stream || getenv("STUB_NO_CAPTURE")) { *g = 0; return 901; }
    *g = malloc(sizeof(graph));
    memcpy(*g, &captured, sizeof(graph));
    live++;
    return 0;
}
int cuGraphInstantiateWithFlags(void **executable, void *g, uint64_t flags) {
    *executable = malloc(sizeof(graph));
    memcpy(*executable, g, sizeof(graph));
    live++;
    return flags ? 1 : 0;
}
int cuGraphLaunch(void *executable, void *stream) {
    graph *g = executable;
    for (int i = 0; i < g->count; i++) {
        int code = stream ? queue(g->steps[i]) : 400;
        if (code) return code;
    }
    return 0;
}
int cuGraphDestroy(void *g) { free(g); live--; return 0; }
int cuGraphExecDestroy(void *executable) { free(executable); live--; return 0; }
int cuGetErrorName(int code, const char **name) {
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 901 ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" : "CUDA_ERROR";
    return 0;
}
