#include "cuda/transfer.h"

/* Two pieces are under way at a time: one on the bus, one in the hands of the host. */
struct ds_transfer {
    float *host;               /* (2, PIECE) pinned */
    float *device;             /* (2, PIECE) */
    cudaEvent_t free_again[2]; /* when the device is through with a half of both */
};

namespace
{

constexpr int64_t PIECE = 1 << 19; /* floats */

ds_transfer *transfer_of(const ds_backend *backend)
{
    return ds_cuda_of(backend)->transfer;
}

int64_t pieces_of(int64_t count)
{
    return ds_blocks_for(count, PIECE);
}

int64_t length_of(int64_t count, int64_t piece)
{
    const int64_t rest = count - piece * PIECE;
    return rest < PIECE ? rest : PIECE;
}

void wait_for(ds_backend *backend, int64_t piece)
{
    ds_cuda_note(backend, cudaEventSynchronize(transfer_of(backend)->free_again[piece % 2]),
                 "waiting for a copy");
}

void note_end(ds_backend *backend, int64_t piece)
{
    ds_cuda_note(
        backend,
        cudaEventRecord(transfer_of(backend)->free_again[piece % 2], ds_cuda_of(backend)->stream),
        "copy");
}

/* Queues a copy of `bytes` from the pinned half of a piece. */
void upload(ds_backend *backend, int64_t piece, void *to, size_t bytes)
{
    ds_cuda_note(backend,
                 cudaMemcpyAsync(to, transfer_of(backend)->host + piece % 2 * PIECE, bytes,
                                 cudaMemcpyHostToDevice, ds_cuda_of(backend)->stream),
                 "copy to the device");
}

/* Queues a copy of `bytes` into the pinned half of a piece. */
void download(ds_backend *backend, int64_t piece, const void *from, size_t bytes)
{
    ds_cuda_note(backend,
                 cudaMemcpyAsync(transfer_of(backend)->host + piece % 2 * PIECE, from, bytes,
                                 cudaMemcpyDeviceToHost, ds_cuda_of(backend)->stream),
                 "copy from the device");
}

/* The place of planar element i in the layout of the view. */
__device__ int64_t place_of(const ds_view &v, int64_t i)
{
    ds_index at;
    i = ds_split(i, v.shape.w, &at.w);
    i = ds_split(i, v.shape.h, &at.h);
    at.n = ds_split(i, v.shape.c, &at.c);
    return ds_place_of(v, at);
}

struct scatter {
    const float *piece;
    int64_t begin;
    ds_view to;
    __device__ void operator()(int64_t i) const
    {
        ds_store(to, place_of(to, begin + i), piece[i]);
    }
};

struct gather {
    ds_view from;
    int64_t begin;
    float *piece;
    __device__ void operator()(int64_t i) const
    {
        piece[i] = ds_load(from, place_of(from, begin + i));
    }
};

void fill_piece(float *to, const void *planar, ds_dtype dtype, int64_t begin, int64_t count)
{
    if (dtype == DS_F32)
        memcpy(to, (const float *)planar + begin, (size_t)count * sizeof(float));
    else
        for (int64_t i = 0; i < count; i++)
            to[i] = (float)((const double *)planar)[begin + i];
}

void take_piece(const float *from, void *planar, ds_dtype dtype, int64_t begin, int64_t count)
{
    if (dtype == DS_F32)
        memcpy((float *)planar + begin, from, (size_t)count * sizeof(float));
    else
        for (int64_t i = 0; i < count; i++)
            ((double *)planar)[begin + i] = from[i];
}

/* Queues the way of a piece into pinned memory. */
void fetch_piece(ds_backend *backend, const ds_view &from, int64_t piece, int64_t count)
{
    float *device = transfer_of(backend)->device + piece % 2 * PIECE;
    ds_each(backend, gather{from, piece * PIECE, device}, count);
    download(backend, piece, device, (size_t)count * sizeof(float));
    note_end(backend, piece);
}

} // namespace

ds_code ds_transfer_open(ds_backend *backend, ds_status *status)
{
    ds_transfer *transfer = NULL;
    void *pinned = NULL;
    const size_t bytes = 2 * PIECE * sizeof(float);
    cudaError_t code = cudaSuccess;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *transfer, &transfer, status));
    ds_cuda_of(backend)->transfer = transfer;
    DS_TRY(ds_cuda_allocate(backend, bytes, &transfer->device, status));
    code = cudaMallocHost(&pinned, bytes);
    transfer->host = (float *)pinned;
    for (int half = 0; half < 2 && code == cudaSuccess; half++)
        code = cudaEventCreateWithFlags(&transfer->free_again[half], cudaEventDisableTiming);
    if (code != cudaSuccess)
        ds_fail(status, DS_DEVICE, "making memory for copies failed: %s", cudaGetErrorString(code));
exit:
    return status->code;
}

void ds_transfer_close(ds_backend *backend)
{
    ds_transfer *transfer = transfer_of(backend);
    if (!transfer)
        return;
    for (int half = 0; half < 2; half++)
        if (transfer->free_again[half])
            cudaEventDestroy(transfer->free_again[half]);
    if (transfer->host)
        cudaFreeHost(transfer->host);
    ds_cuda_free(backend, &transfer->device);
    ds_release(backend->alloc, &ds_cuda_of(backend)->transfer);
}

void ds_transfer_pack(ds_backend *backend, const void *planar, ds_dtype dtype,
                      const ds_tensor *tensor)
{
    ds_transfer *transfer = transfer_of(backend);
    const ds_view to = ds_view_of(tensor);
    const int64_t count = ds_count(tensor->shape);
    for (int64_t piece = 0; piece < pieces_of(count); piece++) {
        const int64_t half = piece % 2 * PIECE, length = length_of(count, piece);
        wait_for(backend, piece);
        fill_piece(transfer->host + half, planar, dtype, piece * PIECE, length);
        upload(backend, piece, transfer->device + half, (size_t)length * sizeof(float));
        ds_each(backend, scatter{transfer->device + half, piece * PIECE, to}, length);
        note_end(backend, piece);
    }
}

void ds_transfer_unpack(ds_backend *backend, const ds_tensor *tensor, void *planar, ds_dtype dtype)
{
    const ds_view from = ds_view_of(tensor);
    const int64_t count = ds_count(tensor->shape), pieces = pieces_of(count);
    /* What was packed before may still lie in the halves. */
    wait_for(backend, 0);
    wait_for(backend, 1);
    for (int64_t piece = 0; piece <= pieces; piece++) {
        if (piece < pieces)
            fetch_piece(backend, from, piece, length_of(count, piece));
        if (piece == 0)
            continue;
        wait_for(backend, piece - 1);
        take_piece(transfer_of(backend)->host + (piece - 1) % 2 * PIECE, planar, dtype,
                   (piece - 1) * PIECE, length_of(count, piece - 1));
    }
}

void ds_transfer_write(ds_backend *backend, void *memory, const void *host, size_t bytes)
{
    const size_t most = PIECE * sizeof(float);
    for (size_t at = 0; at < bytes; at += most) {
        const int64_t piece = (int64_t)(at / most);
        const size_t length = bytes - at < most ? bytes - at : most;
        wait_for(backend, piece);
        memcpy(transfer_of(backend)->host + piece % 2 * PIECE, (const char *)host + at, length);
        upload(backend, piece, (char *)memory + at, length);
        note_end(backend, piece);
    }
}

void ds_transfer_read(ds_backend *backend, void *host, const void *memory, size_t bytes)
{
    const cudaStream_t stream = ds_cuda_of(backend)->stream;
    ds_cuda_note(backend, cudaMemcpyAsync(host, memory, bytes, cudaMemcpyDeviceToHost, stream),
                 "copy from the device");
    ds_cuda_note(backend, cudaStreamSynchronize(stream), "copy from the device");
}
