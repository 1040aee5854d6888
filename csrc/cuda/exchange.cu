/* Arrays that enter and leave in device memory. Events order our stream and the caller's; nothing
   waits for the whole device. */
#include "cuda/transfer.h"

namespace
{

int ordinal_of(const ds_backend *backend)
{
    return ds_cuda_of(backend)->ordinal;
}

uintptr_t stream_of(const ds_backend *backend)
{
    return (uintptr_t)ds_cuda_of(backend)->stream;
}

/* Lets `later` go on when what `earlier` has been given until now is done. */
cudaError_t follow(cudaStream_t later, cudaStream_t earlier, cudaEvent_t event)
{
    const cudaError_t code = cudaEventRecord(event, earlier);
    return code == cudaSuccess ? cudaStreamWaitEvent(later, event, 0) : code;
}

struct taking {
    ds_foreign from;
    ds_view to;

    __device__ float load(int64_t place) const
    {
        if (from.dtype == DS_F64)
            return (float)((const double *)from.data)[place];
        return from.dtype == DS_BF16 ? ds_widen(((const ds_bf16 *)from.data)[place])
                                     : ((const float *)from.data)[place];
    }

    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(to, i);
        ds_store(to, i, load(at.n * from.n + at.c * from.c + at.h * from.h + at.w * from.w));
    }
};

void take(ds_backend *backend, const ds_foreign *from, const ds_tensor *to)
{
    const cudaStream_t ours = ds_cuda_of(backend)->stream, theirs = (cudaStream_t)from->stream;
    cudaEvent_t event = NULL;
    ds_cuda_note(backend, cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "take");
    if (from->stream)
        ds_cuda_note(backend, follow(ours, theirs, event), "waiting for an input");
    ds_each(backend, taking{*from, ds_view_of(to)}, ds_count(to->shape));
    if (from->stream)
        ds_cuda_note(backend, follow(theirs, ours, event), "giving an input back");
    else
        ds_cuda_note(backend, cudaStreamSynchronize(ours), "taking an input");
    if (event)
        cudaEventDestroy(event);
}

struct giving {
    ds_view from, to;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(to, i);
        ((float *)to.data)[i] = ds_at(from, at.n, at.c, at.h, at.w);
    }
};

void discard(ds_device_array *array)
{
    if (array->ready)
        cudaEventDestroy((cudaEvent_t)array->ready);
    if (array->data)
        cudaFree(array->data);
    *array = {};
}

ds_code give(ds_backend *backend, const ds_tensor *from, ds_device_array *array, ds_status *status)
{
    const int64_t count = ds_count(from->shape);
    ds_tensor planar = {from->shape, DS_PLAIN, DS_F32, NULL};
    cudaEvent_t event = NULL;
    *array = {NULL, from->shape, ordinal_of(backend), NULL};
    DS_TRY(ds_cuda_allocate(backend, (size_t)count * sizeof(float), &array->data, status));
    planar.data = array->data;
    DS_TRY(ds_cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                         "making an event", status));
    array->ready = event;
    ds_each(backend, giving{ds_view_of(from), ds_view_of(&planar)}, count);
    DS_TRY(ds_cuda_check(cudaEventRecord(event, ds_cuda_of(backend)->stream), "giving an output",
                         status));
exit:
    if (status->code != DS_OK)
        discard(array);
    return status->code;
}

ds_code order(const ds_device_array *array, uintptr_t stream, ds_status *status)
{
    return ds_cuda_check(cudaStreamWaitEvent((cudaStream_t)stream, (cudaEvent_t)array->ready, 0),
                         "waiting for an array", status);
}

ds_code fetch(const ds_device_array *array, float *host, ds_status *status)
{
    const size_t bytes = (size_t)ds_count(array->shape) * sizeof(float);
    DS_TRY(ds_cuda_check(cudaEventSynchronize((cudaEvent_t)array->ready), "waiting for an array",
                         status));
    DS_TRY(ds_cuda_check(cudaMemcpy(host, array->data, bytes, cudaMemcpyDeviceToHost),
                         "copy from the device", status));
exit:
    return status->code;
}

} // namespace

const ds_exchange ds_cuda_exchange = {.ordinal = ordinal_of,
                                      .stream = stream_of,
                                      .take = take,
                                      .give = give,
                                      .order = order,
                                      .fetch = fetch,
                                      .discard = discard};
