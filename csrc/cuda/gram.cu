/* Gram matrices in fp32 with sums closed in a fixed order: blocks take a tile of the matrix and a
   chunk of the pixels, a second pass adds the chunks up in order. */
#include "cuda/device.h"

namespace
{

constexpr int TILE = 64;  /* channels of a tile's side */
constexpr int DEPTH = 16; /* pixels, or channels, that lie in shared memory at a time */
constexpr int SIDE = 4;   /* results of a thread along each side of the tile */
constexpr int ACROSS = TILE / SIDE;
constexpr int GRAM_THREADS = ACROSS * ACROSS;
constexpr int64_t CHUNK = 8192; /* pixels of a block */

/* The picture of `v` that goes with picture n: its only one, or its n-th. */
__device__ int64_t shared_picture(const ds_view &v, int64_t n)
{
    return v.shape.n == 1 ? 0 : n;
}

/* The weights of the pixels and eta = mean^2 of each picture; without a mask both are 1. */
struct masking {
    ds_view mask;
    bool there;
    const double *eta; /* (N), on the device */
    __device__ float weight(int64_t n, int64_t k) const
    {
        return there ? ds_load(mask, shared_picture(mask, n) * mask.n + k) : 1;
    }
    __device__ double inverse(int64_t n) const
    {
        return there ? 1 / eta[shared_picture(mask, n)] : 1;
    }
};

struct mask_element {
    ds_view mask;
    int64_t first;
    __device__ double operator()(int64_t k) const
    {
        return ds_load(mask, first + k);
    }
};

struct store_eta {
    double *eta;
    double pixels;
    __device__ void operator()(double sum) const
    {
        *eta = (sum / pixels) * (sum / pixels);
    }
};

/* Where the workspace holds what: eta, the sums for it, then partial matrices. */
size_t eta_bytes(const ds_step *step, int input)
{
    const size_t pictures = step->inputs > input ? (size_t)step->in[input]->shape.n : 0;
    return (pictures * sizeof(double) + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}

masking masking_of(ds_backend *backend, const ds_step *step, int input)
{
    masking m = {};
    if (step->inputs <= input)
        return m;
    m.mask = ds_view_of(backend, step->in[input]);
    m.there = true;
    m.eta = (const double *)step->workspace;
    char *work = (char *)step->workspace + eta_bytes(step, input);
    const int64_t pixels = m.mask.shape.h * m.mask.shape.w;
    for (int64_t n = 0; n < m.mask.shape.n; n++)
        ds_sum(backend, mask_element{m.mask, n * pixels},
               store_eta{(double *)step->workspace + n, (double)pixels}, pixels, work);
    return m;
}

/* acc += a's column times b's row, over the DEPTH values in shared memory. */
__device__ void multiply_tiles(const float *a, const float *b, int row, int column,
                               float acc[SIDE][SIDE])
{
    for (int k = 0; k < DEPTH; k++)
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++)
                acc[i][j] += a[k * TILE + row * SIDE + i] * b[k * TILE + column * SIDE + j];
}

/* DEPTH pixels of TILE channels from `first` on, weighted; zero outside. */
__device__ void load_pixels(float *to, const ds_view &x, const masking &m, int64_t n, int64_t first,
                            int64_t pixel, int64_t end)
{
    for (int i = threadIdx.x; i < TILE * DEPTH; i += GRAM_THREADS) {
        const int64_t c = first + i % TILE, k = pixel + i / TILE;
        const bool inside = c < x.shape.c && k < end;
        to[i] = inside ? m.weight(n, k) * ds_pixel(x, n, c, k) : 0;
    }
}

/* Block (tile, chunk, n): the part of one tile on or below the diagonal. */
__global__ void partial_gram(ds_view x, masking m, float *partial)
{
    DS_SHARED(float, a, TILE *DEPTH);
    DS_SHARED(float, b, TILE *DEPTH);
    const int64_t channels = x.shape.c, pixels = x.shape.h * x.shape.w, n = blockIdx.z;
    int64_t row_tile = 0, column_tile = blockIdx.x;
    while (column_tile > row_tile)
        column_tile -= ++row_tile;
    const int64_t begin = (int64_t)blockIdx.y * CHUNK;
    const int64_t end = begin + CHUNK < pixels ? begin + CHUNK : pixels;
    const int row = threadIdx.x / ACROSS, column = threadIdx.x % ACROSS;
    float acc[SIDE][SIDE] = {};
    for (int64_t k = begin; k < end; k += DEPTH) {
        load_pixels(a, x, m, n, row_tile * TILE, k, end);
        load_pixels(b, x, m, n, column_tile * TILE, k, end);
        __syncthreads();
        multiply_tiles(a, b, row, column, acc);
        __syncthreads();
    }
    partial += (n * gridDim.y + blockIdx.y) * channels * channels;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            const int64_t r = row_tile * TILE + row * SIDE + i;
            const int64_t c = column_tile * TILE + column * SIDE + j;
            if (r < channels && c <= r)
                partial[r * channels + c] = acc[i][j];
        }
}

/* G[r, c] = G[c, r] = factor * the sum of the chunks. */
struct add_chunks {
    const float *partial;
    ds_view gram;
    masking m;
    int64_t chunks;
    double scale;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(gram, i);
        const int64_t channels = gram.shape.w, size = channels * channels;
        const int64_t low = at.h < at.w ? at.h : at.w, high = at.h < at.w ? at.w : at.h;
        double sum = 0;
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            sum += partial[(at.n * chunks + chunk) * size + high * channels + low];
        ds_store(gram, i, (float)(scale * m.inverse(at.n) * sum));
    }
};

int64_t chunks_of(ds_shape x)
{
    return ds_blocks_for(x.h * x.w, CHUNK);
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    const ds_shape x = step->in[0]->shape;
    const size_t matrices = (size_t)(x.n * chunks_of(x) * x.c * x.c) * sizeof(float);
    const size_t sums = step->inputs > 1 ? DS_SUM_BYTES : 0;
    step->workspace_bytes = eta_bytes(step, 1) + (matrices > sums ? matrices : sums);
    return DS_OK;
}

void run(ds_backend *backend, const ds_step *step)
{
    const ds_view x = ds_view_of(backend, step->in[0]);
    const masking m = masking_of(backend, step, 1);
    const int64_t tiles = ds_blocks_for(x.shape.c, TILE), chunks = chunks_of(x.shape);
    float *partial = (float *)((char *)step->workspace + eta_bytes(step, 1));
    DS_LAUNCH(partial_gram,
              dim3((unsigned)(tiles * (tiles + 1) / 2), (unsigned)chunks, (unsigned)x.shape.n),
              dim3(GRAM_THREADS), ds_cuda_of(backend)->stream, x, m, partial);
    ds_cuda_note(backend, cudaGetLastError(), "gram");
    const add_chunks f = {partial, ds_view_of(backend, step->out), m, chunks,
                          DS_ATTR(gram, step->attr).scale};
    ds_each(backend, f, ds_count(step->out->shape));
}

/* dx = factor * mask^2 * (dG + dG') x: block (pixel tile, channel tile, n). */
__global__ void gram_gradient(ds_view x, const float *dg, masking m, ds_view dx, double scale)
{
    DS_SHARED(float, a, TILE *DEPTH); /* of dG + dG': (channels of x, channels of dx) */
    DS_SHARED(float, b, TILE *DEPTH); /* of x: (channels of x, pixels) */
    const int64_t channels = x.shape.c, pixels = x.shape.h * x.shape.w, n = blockIdx.z;
    const int64_t first = (int64_t)blockIdx.y * TILE, pixel = (int64_t)blockIdx.x * TILE;
    const int row = threadIdx.x / ACROSS, column = threadIdx.x % ACROSS;
    float acc[SIDE][SIDE] = {};
    dg += n * channels * channels;
    for (int64_t k = 0; k < channels; k += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += GRAM_THREADS) {
            const int64_t from = k + i / TILE, c = first + i % TILE, p = pixel + i % TILE;
            const bool there = from < channels;
            a[i] = there && c < channels ? dg[from * channels + c] + dg[c * channels + from] : 0;
            b[i] = there && p < pixels ? ds_pixel(x, n, from, p) : 0;
        }
        __syncthreads();
        multiply_tiles(a, b, column, row, acc);
        __syncthreads();
    }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            const int64_t c = first + column * SIDE + i, p = pixel + row * SIDE + j;
            if (c >= channels || p >= pixels)
                continue;
            const float weight = m.weight(n, p);
            ds_store(dx, n * dx.n + c * dx.c + p * dx.w,
                     (float)(scale * m.inverse(n) * weight * weight * acc[i][j]));
        }
}

ds_code prepare_backward(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = step->inputs > 2 ? eta_bytes(step, 2) + DS_SUM_BYTES : 0;
    return DS_OK;
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_view x = ds_view_of(backend, step->in[0]);
    const masking m = masking_of(backend, step, 2);
    const int64_t across = ds_blocks_for(x.shape.h * x.shape.w, TILE);
    DS_LAUNCH(gram_gradient,
              dim3((unsigned)across, (unsigned)ds_blocks_for(x.shape.c, TILE), (unsigned)x.shape.n),
              dim3(GRAM_THREADS), ds_cuda_of(backend)->stream, x, (const float *)step->in[1]->data,
              m, ds_view_of(backend, step->out), DS_ATTR(gram_backward, step->attr).scale);
    ds_cuda_note(backend, cudaGetLastError(), "gram_backward");
}

} // namespace

const ds_kernel ds_cuda_gram = {.prepare = prepare, .run = run};
const ds_kernel ds_cuda_gram_backward = {.prepare = prepare_backward, .run = run_backward};
