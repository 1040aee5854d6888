/* The CUDA backend: memory, recording and replay, and the table of kernels. */
#include "cuda/conv.h"
#include "cuda/transfer.h"
#include "cuda/vectors.h"

namespace
{

struct entry {
    ds_op op;
    const ds_kernel *kernel;
};

const entry KERNELS[] = {
#define KERNEL(op, symbol) {DS_OP_##op, &symbol},
#include "cuda/kernels.def"
#undef KERNEL
    {DS_OP_COUNT, NULL},
};

const ds_kernel *find(const ds_backend *backend, const ds_step *step)
{
    const bool plain = !step->epilogue.active && !step->epilogue.addend && !step->prologue.active;
    for (const entry *e = KERNELS; e->kernel; e++)
        if (e->op == step->op && (e->kernel->accepts ? e->kernel->accepts(backend, step) : plain))
            return e->kernel;
    return NULL;
}

size_t bytes(const ds_backend *, const ds_tensor *tensor)
{
    return (size_t)ds_count(tensor->shape) * ds_dtype_bytes(tensor->dtype);
}

/* After one of these every call in this process fails. */
bool is_lost(cudaError_t code)
{
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorIllegalInstruction:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
        return true;
    default:
        return false;
    }
}

/* Tells and forgets the first failure that was noted. */
ds_code told(ds_backend *backend, ds_status *status)
{
    ds_cuda *cuda = ds_cuda_of(backend);
    cudaError_t failed = cuda->failed;
    if (failed == cudaSuccess)
        return DS_OK;
    /* A library may have noted no more than that its call failed. */
    const cudaError_t last = cudaStreamSynchronize(cuda->stream);
    if (is_lost(last))
        failed = last;
    cuda->failed = cudaSuccess;
    return ds_cuda_check(failed, cuda->failed_in, status);
}

ds_code allocate(ds_backend *, size_t size, void *memory, ds_status *status)
{
    size_t free_bytes = 0, total = 0;
    void **address = (void **)memory;
    *address = NULL;
    cudaMemGetInfo(&free_bytes, &total);
    const cudaError_t code = cudaMalloc(address, size ? size : 1);
    if (code != cudaSuccess) {
        cudaGetLastError();
        *address = NULL;
        if (code != cudaErrorMemoryAllocation)
            return ds_cuda_check(code, "allocation", status);
        return ds_fail(status, DS_DEVICE_MEMORY,
                       "the device has not the %.1f MiB that are needed (%.1f MiB of %.1f are "
                       "free); use a smaller size",
                       (double)size / (1 << 20), (double)free_bytes / (1 << 20),
                       (double)total / (1 << 20));
    }
    return DS_OK;
}

void release(ds_backend *backend, void *memory)
{
    void **address = (void **)memory;
    if (*address)
        ds_cuda_note(backend, cudaFree(*address), "free");
    *address = NULL;
}

void enter(ds_backend *backend)
{
    ds_cuda_note(backend, cudaSetDevice(ds_cuda_of(backend)->ordinal), "choosing the GPU");
}

ds_code memory_left(ds_backend *, size_t *free_bytes, size_t *total, ds_status *status)
{
    return ds_cuda_check(cudaMemGetInfo(free_bytes, total), "asking for its memory", status);
}

void fill(ds_backend *backend, void *memory, int byte, size_t size)
{
    const cudaStream_t stream = ds_cuda_of(backend)->stream;
    ds_cuda_note(backend, cudaMemsetAsync(memory, byte, size, stream), "fill");
}

struct look {
    ds_view x;
    int *finite;
    __device__ void operator()(int64_t i) const
    {
        if (!isfinite(ds_load(x, i)))
            *finite = 0;
    }
};

struct forgive {
    int *finite;
    __device__ void operator()(int64_t) const
    {
        *finite = 1;
    }
};

void watch(ds_backend *backend, const ds_tensor *tensor)
{
    const look f = {ds_view_of(tensor), ds_cuda_of(backend)->finite};
    ds_each(backend, f, ds_count(tensor->shape));
}

bool all_finite(ds_backend *backend, const ds_tensor *tensor)
{
    int *flag = ds_cuda_of(backend)->finite + 1;
    int finite = 1;
    ds_each(backend, forgive{flag}, 1);
    ds_each(backend, look{ds_view_of(tensor), flag}, ds_count(tensor->shape));
    ds_transfer_read(backend, &finite, flag, sizeof finite);
    return finite != 0;
}

ds_code finish(ds_backend *backend, bool *finite, ds_status *status)
{
    ds_cuda *cuda = ds_cuda_of(backend);
    int flag = 1;
    ds_transfer_read(backend, &flag, cuda->finite, sizeof flag);
    *finite = flag != 0;
    if (!*finite)
        ds_each(backend, forgive{cuda->finite}, 1);
    return told(backend, status);
}

ds_code begin(ds_backend *backend, ds_status *status)
{
    return ds_cuda_check(
        cudaStreamBeginCapture(ds_cuda_of(backend)->stream, cudaStreamCaptureModeThreadLocal),
        "recording", status);
}

ds_code end(ds_backend *backend, void **recording, ds_status *status)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t ready = NULL;
    DS_TRY(ds_cuda_check(cudaStreamEndCapture(ds_cuda_of(backend)->stream, &graph), "recording",
                         status));
    DS_TRY(ds_cuda_check(cudaGraphInstantiate(&ready, graph, 0), "making the recording ready",
                         status));
exit:
    if (graph)
        cudaGraphDestroy(graph);
    *recording = ready;
    return status->code;
}

void replay(ds_backend *backend, void *recording)
{
    ds_cuda_note(backend, cudaGraphLaunch((cudaGraphExec_t)recording, ds_cuda_of(backend)->stream),
                 "replay");
}

void forget(ds_backend *, void **recording)
{
    cudaGraphExecDestroy((cudaGraphExec_t)*recording);
    *recording = NULL;
}

struct feeding {
    ds_loop loop;
    size_t column;
    float *to;
    __device__ void operator()(int64_t) const
    {
        *to = loop.fed[(size_t)*loop.row * loop.feeds + column];
    }
};

void feed(ds_backend *backend, const ds_loop *loop, size_t column, const ds_tensor *to)
{
    ds_each(backend, feeding{*loop, column, (float *)to->data}, 1);
}

struct keeping {
    ds_loop loop;
    size_t column;
    const float *from;
    __device__ void operator()(int64_t) const
    {
        loop.seen[(size_t)*loop.row * loop.watches + column] = *from;
    }
};

void keep(ds_backend *backend, const ds_loop *loop, size_t column, const ds_tensor *from)
{
    ds_each(backend, keeping{*loop, column, (const float *)from->data}, 1);
}

struct advancing {
    int64_t *row;
    const int *finite;
    __device__ void operator()(int64_t) const
    {
        if (*finite)
            *row += 1;
    }
};

void advance(ds_backend *backend, const ds_loop *loop)
{
    ds_each(backend, advancing{loop->row, ds_cuda_of(backend)->finite}, 1);
}

const ds_device DEVICE = {.exchange = &ds_cuda_exchange,
                          .enter = enter,
                          .allocate = allocate,
                          .release = release,
                          .memory = memory_left,
                          .fill = fill,
                          .read = ds_transfer_read,
                          .write = ds_transfer_write,
                          .told = told,
                          .watch = watch,
                          .finish = finish,
                          .begin = begin,
                          .end = end,
                          .replay = replay,
                          .forget = forget,
                          .feed = feed,
                          .keep = keep,
                          .advance = advance,
                          .dots = ds_vector_dots,
                          .combine = ds_vector_combine};

void destroy(ds_backend **address)
{
    ds_backend *backend = *address;
    if (!backend)
        return;
    ds_cuda *cuda = ds_cuda_of(backend);
    ds_conv_close(backend);
    ds_transfer_close(backend);
    release(backend, &cuda->sums);
    release(backend, &cuda->finite);
    release(backend, &cuda->tickets);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    ds_release(backend->alloc, address);
}

} // namespace

ds_code ds_cuda_check(cudaError_t code, const char *call, ds_status *status)
{
    if (code == cudaSuccess)
        return DS_OK;
    if (is_lost(code))
        return ds_fail(status, DS_DEVICE_LOST,
                       "the GPU was lost in %s (%s) and this process cannot use it any more; start "
                       "it again, and where it wrote a checkpoint go on from that",
                       call, cudaGetErrorString(code));
    return ds_fail(status, DS_DEVICE, "cuda: %s failed: %s; see depthstyle doctor", call,
                   cudaGetErrorString(code));
}

ds_code ds_cuda_allocate(ds_backend *backend, size_t size, void *memory, ds_status *status)
{
    return allocate(backend, size, memory, status);
}

ds_code ds_cuda_upload(ds_backend *backend, const void *host, size_t size, void *memory,
                       ds_status *status)
{
    void **address = (void **)memory;
    if (allocate(backend, size, memory, status) != DS_OK)
        return status->code;
    return ds_cuda_check(cudaMemcpy(*address, host, size, cudaMemcpyHostToDevice),
                         "copy to the device", status);
}

void ds_cuda_free(ds_backend *backend, void *memory)
{
    release(backend, memory);
}

#define TEXT_OF(...) #__VA_ARGS__
#define TEXT(...) TEXT_OF(__VA_ARGS__)

/* Read from the file of the library, which cannot be opened where cuDNN is missing. */
extern "C" __attribute__((visibility("default"))) const char depthstyle_cuda_build[] =
    "depthstyle built for CUDA " TEXT(CUDART_VERSION) ", GPUs " TEXT(__CUDA_ARCH_LIST__);

extern "C" __attribute__((visibility("default"))) ds_code
depthstyle_cuda_create(unsigned stamp, const ds_cuda_options *options, ds_alloc *alloc,
                       ds_backend **out, ds_status *status)
{
    ds_cuda *cuda = NULL;
    *out = NULL;
    if (stamp != DS_CUDA_STAMP)
        return ds_fail(status, DS_DEVICE,
                       "libdepthstyle_cuda belongs to another version of depthstyle; install "
                       "depthstyle again");
    DS_TRY(ds_cuda_check(cudaSetDevice(options->ordinal), "choosing the GPU", status));
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *cuda, &cuda, status));
    cuda->base = {.name = "cuda",
                  .dtype = DS_F32,
                  .device = &DEVICE,
                  .alloc = alloc,
                  .find = find,
                  .bytes = bytes,
                  .pack = ds_transfer_pack,
                  .unpack = ds_transfer_unpack,
                  .finite = all_finite,
                  .destroy = destroy};
    cuda->ordinal = options->ordinal;
    cuda->precision = options->precision;
    cuda->cache = options->cache;
    *out = &cuda->base;
    DS_TRY(ds_cuda_check(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                         "making a stream", status));
    DS_TRY(allocate(&cuda->base, 2 * sizeof *cuda->finite, &cuda->finite, status));
    DS_TRY(allocate(&cuda->base, DS_TICKETS * sizeof *cuda->tickets, &cuda->tickets, status));
    fill(&cuda->base, cuda->tickets, 0, DS_TICKETS * sizeof *cuda->tickets);
    ds_each(&cuda->base, forgive{cuda->finite}, 1);
    DS_TRY(allocate(&cuda->base, DS_VECTOR_BYTES, &cuda->sums, status));
    DS_TRY(ds_transfer_open(&cuda->base, status));
exit:
    if (status->code != DS_OK)
        destroy(out);
    return status->code;
}
