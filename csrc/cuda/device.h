/* Shared by the kernels of the CUDA backend: the layout, how to address it, and three ways to go
   through tensors in parallel (each, sum, sum_maps) that nearly every op is made of.

   Layout: maps are NHWC, all else is planar NCHW.

   The files of this folder also compile with a C++ compiler, against the emulator of the tests,
   which defines DS_LAUNCH and DS_SHARED in its cuda_runtime.h. */
#ifndef DS_CUDA_DEVICE_H
#define DS_CUDA_DEVICE_H

extern "C" {
#include "base/bf16.h"
#include "core/backend.h"
}

#include <cuda_runtime.h>
#include <math.h>
#include <string.h>

#ifndef DS_LAUNCH
#define DS_LAUNCH(kernel, blocks, threads, stream, ...)                                            \
    kernel<<<blocks, threads, 0, stream>>>(__VA_ARGS__)
#define DS_SHARED(type, name, count) __shared__ type name[count]
#endif

constexpr int DS_THREADS = 256;      /* of a block, unless a kernel says otherwise */
constexpr int DS_MOST_BLOCKS = 4096; /* of a loop over elements; threads take several then */
constexpr int DS_SUM_BLOCKS = 512;   /* at most, of a sum; as many on every device */
constexpr int DS_SUM_CHUNK = 4096;   /* elements of a block of a sum, or more */
constexpr int DS_MAP_LANES = 32;     /* neighbouring channels in a block of sum_maps */
constexpr int DS_MAP_ROWS = 8;       /* pixels at a time in a block of sum_maps */
constexpr int DS_MAP_CHUNK = 2048;   /* pixels of a block of sum_maps */
constexpr int DS_TICKETS = 1 << 16;  /* sums of one launch that several blocks share */
constexpr int DS_VECTOR = 8;         /* neighbouring values in one access */

struct ds_cuda {
    ds_backend base; /* first: a ds_backend is one of these */
    cudaStream_t stream;
    int *finite;        /* on the device: 1 while every watched tensor was finite; one to use */
    unsigned *tickets;  /* (DS_TICKETS), on the device: 0 between launches */
    cudaError_t failed; /* the first failure since the last finish */
    const char *failed_in;
    int ordinal; /* of the GPU */
    ds_precision precision;
    const char *cache; /* as in the options */
    double *sums;      /* of vectors.cu */
    struct ds_transfer *transfer;
    struct ds_conv_library *convolutions; /* NULL until the first */
};

static inline ds_cuda *ds_cuda_of(const ds_backend *backend)
{
    return (ds_cuda *)backend;
}

/* Keeps the first failure of a queued call; finish tells it. */
static inline void ds_cuda_note(const ds_backend *backend, cudaError_t code, const char *call)
{
    ds_cuda *cuda = ds_cuda_of(backend);
    if (code == cudaSuccess || cuda->failed != cudaSuccess)
        return;
    cuda->failed = code;
    cuda->failed_in = call;
}

/* DS_OK, or the failure of a call: of the device for good, or of this call alone. */
ds_code ds_cuda_check(cudaError_t code, const char *call, ds_status *status);

/* Device memory that a kernel keeps from prepare to release. `memory` is the address of a pointer;
   freeing accepts NULL. */
ds_code ds_cuda_allocate(ds_backend *backend, size_t bytes, void *memory, ds_status *status);
ds_code ds_cuda_upload(ds_backend *backend, const void *host, size_t bytes, void *memory,
                       ds_status *status);
void ds_cuda_free(ds_backend *backend, void *memory);

/* A tensor as kernels see it: where its elements lie. Steps are counted in elements; a step of 0
   repeats a value, as broadcasting wants. */
struct ds_view {
    void *data;
    ds_shape shape;
    int64_t n, c, h, w; /* steps */
    bool map, half;
};

static inline ds_view ds_view_of(const ds_tensor *t)
{
    const ds_shape s = t->shape;
    ds_view v = {t->data, s, s.c * s.h * s.w, s.h * s.w, s.w, 1, t->kind == DS_MAP, ds_is_half(t)};
    if (v.map) {
        v.c = 1;
        v.w = s.c;
        v.h = s.w * s.c;
    }
    return v;
}

/* The same, walked in a larger shape: dimensions of size 1 repeat. */
static inline ds_view ds_repeated(ds_view v)
{
    v.n = v.shape.n == 1 ? 0 : v.n;
    v.c = v.shape.c == 1 ? 0 : v.c;
    v.h = v.shape.h == 1 ? 0 : v.h;
    v.w = v.shape.w == 1 ? 0 : v.w;
    return v;
}

struct ds_index {
    int64_t n, c, h, w;
};

__device__ static inline float ds_load(const ds_view &v, int64_t place)
{
    return v.half ? ds_widen(((const ds_bf16 *)v.data)[place]) : ((const float *)v.data)[place];
}

__device__ static inline void ds_store(const ds_view &v, int64_t place, float value)
{
    if (v.half)
        ((ds_bf16 *)v.data)[place] = ds_narrow(value);
    else
        ((float *)v.data)[place] = value;
}

struct alignas(16) ds_words {
    uint32_t of[4];
};

/* DS_VECTOR values from a place that is a multiple of as many. */
__device__ static inline void ds_load_vector(const ds_view &v, int64_t place, float to[DS_VECTOR])
{
    const ds_words *from = (const ds_words *)((const char *)v.data + place * (v.half ? 2 : 4));
    const ds_words first = from[0];
    if (v.half) {
        for (int i = 0; i < DS_VECTOR; i++)
            to[i] = ds_widen((ds_bf16)(first.of[i / 2] >> i % 2 * 16));
        return;
    }
    const ds_words second = from[1];
    for (int i = 0; i < DS_VECTOR; i++)
        memcpy(&to[i], i < 4 ? &first.of[i] : &second.of[i - 4], sizeof to[i]);
}

__device__ static inline void ds_store_vector(const ds_view &v, int64_t place,
                                              const float values[DS_VECTOR])
{
    ds_words *to = (ds_words *)((char *)v.data + place * (v.half ? 2 : 4)), first, second;
    if (v.half) {
        for (int i = 0; i < 4; i++)
            first.of[i] = ds_narrow(values[2 * i]) | (uint32_t)ds_narrow(values[2 * i + 1]) << 16;
        to[0] = first;
        return;
    }
    for (int i = 0; i < 4; i++) {
        memcpy(&first.of[i], &values[i], sizeof first.of[i]);
        memcpy(&second.of[i], &values[i + 4], sizeof second.of[i]);
    }
    to[0] = first;
    to[1] = second;
}

__device__ static inline int64_t ds_place_of(const ds_view &v, ds_index i)
{
    return i.n * v.n + i.c * v.c + i.h * v.h + i.w * v.w;
}

__device__ static inline float ds_at(const ds_view &v, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return ds_load(v, n * v.n + c * v.c + h * v.h + w * v.w);
}

/* Pixel k of a map, counted over rows. */
__device__ static inline float ds_pixel(const ds_view &v, int64_t n, int64_t c, int64_t k)
{
    return ds_load(v, n * v.n + c * v.c + k * v.w);
}

/* i / d and i % d; 32-bit division is several times faster. */
__device__ static inline int64_t ds_split(int64_t i, int64_t d, int64_t *rest)
{
    if (i >> 32 == 0 && d >> 32 == 0) {
        *rest = (int64_t)((uint32_t)i % (uint32_t)d);
        return (int64_t)((uint32_t)i / (uint32_t)d);
    }
    *rest = i % d;
    return i / d;
}

/* The index of the element that is stored at place i of a tensor without gaps. */
__device__ static inline ds_index ds_index_of(const ds_view &v, int64_t i)
{
    ds_index r;
    if (v.map) {
        i = ds_split(i, v.shape.c, &r.c);
        i = ds_split(i, v.shape.w, &r.w);
        r.n = ds_split(i, v.shape.h, &r.h);
    } else {
        i = ds_split(i, v.shape.w, &r.w);
        i = ds_split(i, v.shape.h, &r.h);
        r.n = ds_split(i, v.shape.c, &r.c);
    }
    return r;
}

/* each: f(i) for every i in [0, count). */
template <class F> __global__ void ds_each_kernel(F f, int64_t count)
{
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        f(i);
}

static inline int64_t ds_blocks_for(int64_t items, int64_t per_block)
{
    return (items + per_block - 1) / per_block;
}

template <class F> static inline void ds_each(ds_backend *backend, const F &f, int64_t count)
{
    const int64_t wanted = ds_blocks_for(count, DS_THREADS);
    const unsigned blocks = (unsigned)(wanted < DS_MOST_BLOCKS ? wanted : DS_MOST_BLOCKS);
    DS_LAUNCH(ds_each_kernel<F>, dim3(blocks), dim3(DS_THREADS), ds_cuda_of(backend)->stream, f,
              count);
    ds_cuda_note(backend, cudaGetLastError(), "each");
}

/* The sum over the threads of a block, in thread 0, always in the same order. */
__device__ static inline double ds_block_sum(double value, double *shared)
{
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned width = blockDim.x / 2; width > 0; width /= 2) {
        if (threadIdx.x < width)
            shared[threadIdx.x] += shared[threadIdx.x + width];
        __syncthreads();
    }
    return shared[0];
}

/* Whether all other blocks of `blocks` that share a ticket are through; the last one sees what they
   wrote before. For all threads of a block. */
__device__ static inline bool ds_is_last(unsigned *ticket, unsigned blocks)
{
    DS_SHARED(bool, last, 1);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *last = atomicAdd(ticket, 1u) == blocks - 1;
        if (*last)
            *ticket = 0;
    }
    __syncthreads();
    return *last;
}

template <class F, class G>
__global__ void ds_sum_kernel(F f, G g, int64_t count, double *partial, unsigned *ticket)
{
    DS_SHARED(double, tree, DS_THREADS);
    const int64_t chunk = (count + gridDim.x - 1) / gridDim.x;
    const int64_t begin = blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += DS_THREADS)
        sum += f(i);
    sum = ds_block_sum(sum, tree);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
    if (!ds_is_last(ticket, gridDim.x))
        return;
    sum = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += DS_THREADS)
        sum += partial[i];
    sum = ds_block_sum(sum, tree);
    if (threadIdx.x == 0)
        g(sum);
}

/* What sum needs as workspace. */
constexpr size_t DS_SUM_BYTES = DS_SUM_BLOCKS * sizeof(double);

/* sum: g(the sum of f(i) for i in [0, count)), in double and in a fixed order. */
template <class F, class G>
static inline void ds_sum(ds_backend *backend, const F &f, const G &g, int64_t count, void *work)
{
    const ds_cuda *cuda = ds_cuda_of(backend);
    const int64_t wanted = ds_blocks_for(count, DS_SUM_CHUNK);
    const unsigned blocks = (unsigned)(wanted < DS_SUM_BLOCKS ? wanted : DS_SUM_BLOCKS);
    DS_LAUNCH((ds_sum_kernel<F, G>), dim3(blocks), dim3(DS_THREADS), cuda->stream, f, g, count,
              (double *)work, cuda->tickets);
    ds_cuda_note(backend, cudaGetLastError(), "sum");
}

/* Ends a sum: out = scale * sum. */
struct ds_sum_to_scalar {
    float *out;
    double scale;
    __device__ void operator()(double sum) const
    {
        *out = (float)(scale * sum);
    }
};

/* Adds up the K sums of the rows of a block of sum_maps, in order; the first row gets them. */
template <int K> __device__ static inline void ds_row_sums(double *sums, double *tree)
{
    const int lane = threadIdx.x % DS_MAP_LANES, row = threadIdx.x / DS_MAP_LANES;
    for (int j = 0; j < K; j++)
        tree[(row * DS_MAP_LANES + lane) * K + j] = sums[j];
    __syncthreads();
    for (int j = 0; j < K && row == 0; j++)
        for (int r = 1; r < DS_MAP_ROWS; r++)
            sums[j] += tree[(r * DS_MAP_LANES + lane) * K + j];
}

/* One block: the channels [32 x, 32 x + 32) of a picture, pixels of chunk y. f adds to K sums; the
   last block of those channels adds up the chunks and gives them to g. */
template <int K, class F, class G>
__global__ void ds_sum_maps_kernel(F f, G g, int64_t channels, int64_t pixels, int64_t picture,
                                   double *partial, unsigned *tickets)
{
    DS_SHARED(double, tree, DS_MAP_ROWS * DS_MAP_LANES * K);
    const int lane = threadIdx.x % DS_MAP_LANES, row = threadIdx.x / DS_MAP_LANES;
    const int64_t c = (int64_t)blockIdx.x * DS_MAP_LANES + lane, n = picture + blockIdx.z;
    const int64_t begin = (int64_t)blockIdx.y * DS_MAP_CHUNK;
    const int64_t end = begin + DS_MAP_CHUNK < pixels ? begin + DS_MAP_CHUNK : pixels;
    const bool there = c < channels;
    double sums[K] = {};
    for (int64_t k = begin + row; k < end && there; k += DS_MAP_ROWS)
        f(n, c, k, sums);
    ds_row_sums<K>(sums, tree);
    partial += n * gridDim.y * channels * K;
    for (int j = 0; j < K && row == 0 && there; j++)
        partial[(blockIdx.y * channels + c) * K + j] = sums[j];
    if (!ds_is_last(tickets + blockIdx.z * gridDim.x + blockIdx.x, gridDim.y))
        return;
    for (int j = 0; j < K; j++) {
        sums[j] = 0;
        for (int64_t chunk = row; chunk < gridDim.y && there; chunk += DS_MAP_ROWS)
            sums[j] += partial[(chunk * channels + c) * K + j];
    }
    ds_row_sums<K>(sums, tree);
    if (row == 0 && there)
        g(n, c, sums);
}

static inline int64_t ds_map_chunks(ds_shape s)
{
    return ds_blocks_for(s.h * s.w, DS_MAP_CHUNK);
}

/* Bytes of workspace of sum_maps. */
static inline size_t ds_map_sum_bytes(ds_shape s, int k)
{
    return (size_t)(s.n * ds_map_chunks(s) * s.c * k) * sizeof(double);
}

/* sum_maps: for each map of each picture K sums over its pixels, made by f(n, c, pixel, sums) and
   given to g(n, c, sums). */
template <int K, class F, class G>
static inline void ds_sum_maps(ds_backend *backend, const F &f, const G &g, ds_shape s, void *work)
{
    const ds_cuda *cuda = ds_cuda_of(backend);
    const int64_t tiles = ds_blocks_for(s.c, DS_MAP_LANES), most = DS_TICKETS / tiles;
    for (int64_t n = 0; n < s.n; n += most) {
        const int64_t pictures = s.n - n < most ? s.n - n : most;
        const dim3 blocks((unsigned)tiles, (unsigned)ds_map_chunks(s), (unsigned)pictures);
        DS_LAUNCH((ds_sum_maps_kernel<K, F, G>), blocks, dim3(DS_MAP_ROWS * DS_MAP_LANES),
                  cuda->stream, f, g, s.c, s.h * s.w, n, (double *)work, cuda->tickets);
    }
    ds_cuda_note(backend, cudaGetLastError(), "sum_maps");
}

/* KERNEL(op, symbol): see kernels.def. */
#define KERNEL(op, symbol) extern const ds_kernel symbol;
#include "cuda/kernels.def"
#undef KERNEL

#endif
