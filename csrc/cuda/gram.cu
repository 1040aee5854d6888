/* Gram matrices with sums in fp32, closed in a fixed order: blocks take a tile of the matrix and a
   chunk of the pixels, a second pass adds the chunks up in order. Maps in bf16 go through tensor
   cores; where a mask or a gradient makes a factor that is no bf16, it becomes a sum of two. */
#include "cuda/pointwise.h"
#include "cuda/tile.h"

namespace
{

constexpr int TILE = 64;             /* channels of a tile's side */
constexpr int64_t BLOCKS = 264;      /* about as many share the pixels */
constexpr int64_t LEAST_CHUNK = 256; /* pixels of a block */

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
    __device__ const float *weights_of(int64_t n) const
    {
        return (const float *)mask.data + shared_picture(mask, n) * mask.n;
    }
    __device__ float weight(int64_t n, int64_t k) const
    {
        return there ? weights_of(n)[k] : 1;
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
    m.mask = ds_view_of(step->in[input]);
    m.there = true;
    m.eta = (const double *)step->workspace;
    char *work = (char *)step->workspace + eta_bytes(step, input);
    const int64_t pixels = m.mask.shape.h * m.mask.shape.w;
    for (int64_t n = 0; n < m.mask.shape.n; n++)
        ds_sum(backend, mask_element{m.mask, n * pixels},
               store_eta{(double *)step->workspace + n, (double)pixels}, pixels, work);
    return m;
}

/* Tiles on or below the diagonal, row by row. */
struct tile_place {
    int64_t row, column; /* channels */
    bool diagonal;
    __device__ explicit tile_place(int64_t index)
    {
        int64_t r = 0;
        while (index > r)
            index -= ++r;
        row = r * TILE;
        column = index * TILE;
        diagonal = r == index;
    }
};

/* How the pixels are shared among blocks: the same on every device. */
struct split {
    int64_t tiles, chunk, chunks;
};

split split_of(ds_shape x)
{
    const int64_t across = ds_blocks_for(x.c, TILE), pixels = x.h * x.w;
    split s = {across * (across + 1) / 2, 0, 0};
    const int64_t wanted = ds_blocks_for(BLOCKS, s.tiles * x.n);
    const int64_t most = ds_blocks_for(pixels, LEAST_CHUNK);
    s.chunk = ds_blocks_for(pixels, wanted < most ? wanted : most);
    s.chunks = ds_blocks_for(pixels, s.chunk);
    return s;
}

/* On tensor cores. */

constexpr int PIXELS = 32; /* of a stage */
constexpr int GRAM_STAGES = 4;
constexpr int GRAM_THREADS = 4 * DS_WARP;

struct gram_stage {
    ds_tile<PIXELS, TILE> rows, columns; /* (pixels, channels) */
    float weights[PIXELS];
};

/* The chunk of the pixels of a picture, and which of its channels. */
struct gram_source {
    const ds_bf16 *x;
    const float *mask;
    int64_t channels, end;
    tile_place tile;

    __device__ void copy(gram_stage *to, int64_t pixel) const
    {
        to->rows.copy(x, pixel, end, tile.row, channels);
        if (!tile.diagonal)
            to->columns.copy(x, pixel, end, tile.column, channels);
        for (int i = threadIdx.x; mask && i < PIXELS; i += GRAM_THREADS) {
            const bool there = pixel + i < end;
            ds_copy_async<4>(&to->weights[i], there ? mask + pixel + i : mask, there);
        }
        ds_copy_commit();
    }
};

/* Splits pairs of b times the squared weights of their pixels into bf16 and its rest. */
__device__ void weigh(uint32_t b[4], uint32_t rest[4], const float *weights)
{
    for (int i = 0; i < 4; i++) {
        const float *w = weights + i % 2 * 8 + threadIdx.x % 4 * 2;
        const float low = ds_widen((ds_bf16)b[i]) * w[0] * w[0];
        const float high = ds_widen((ds_bf16)(b[i] >> 16)) * w[1] * w[1];
        const ds_bf16 l = ds_narrow(low), h = ds_narrow(high);
        b[i] = ds_pair(l, h);
        rest[i] = ds_pair(ds_rest(low, l), ds_rest(high, h));
    }
}

/* One stage's share of the part of a warp at (row, column) of the tile. */
template <bool MASKED>
__device__ void add_stage(gram_stage *s, bool diagonal, int row, int column, ds_part *part)
{
    for (int k = 0; k < PIXELS; k += DS_DEPTH) {
        uint32_t a[DS_PAIRS][4], b[DS_PAIRS][4], rest[DS_PAIRS][4];
        for (int i = 0; i < DS_PAIRS; i++) {
            s->rows.transposed_left(a[i], row + i * DS_DEPTH, k);
            (diagonal ? s->rows : s->columns).transposed_right(b[i], column + i * DS_DEPTH, k);
            if (MASKED)
                weigh(b[i], rest[i], s->weights + k);
        }
        part->add(a, b);
        if (MASKED)
            part->add(a, rest);
    }
}

/* Block (tile, chunk, n). */
template <bool MASKED>
__global__ void partial_gram_tensor(ds_view x, masking m, int64_t chunk, float *partial)
{
    DS_SHARED(gram_stage, stages, GRAM_STAGES);
    const int64_t channels = x.shape.c, pixels = x.shape.h * x.shape.w, n = blockIdx.z;
    const int64_t begin = blockIdx.y * chunk;
    const gram_source source = {(const ds_bf16 *)x.data + n * x.n, MASKED ? m.weights_of(n) : NULL,
                                channels, begin + chunk < pixels ? begin + chunk : pixels,
                                tile_place(blockIdx.x)};
    const int warp = threadIdx.x / DS_WARP;
    const int row = warp / 2 * DS_PART, column = warp % 2 * DS_PART;
    ds_part part = {};
    for (int i = 0; i < GRAM_STAGES - 1; i++)
        source.copy(&stages[i], begin + i * PIXELS);
    int now = 0;
    for (int64_t k = begin; k < source.end; k += PIXELS) {
        ds_copy_wait<GRAM_STAGES - 2>();
        __syncthreads();
        source.copy(&stages[(now + GRAM_STAGES - 1) % GRAM_STAGES], k + (GRAM_STAGES - 1) * PIXELS);
        add_stage<MASKED>(&stages[now], source.tile.diagonal, row, column, &part);
        now = (now + 1) % GRAM_STAGES;
    }
    partial += (n * gridDim.y + blockIdx.y) * channels * channels;
    part.each([&](int i, int j, float sum, float next) {
        const int64_t r = source.tile.row + row + i, c = source.tile.column + column + j;
        if (r < channels && c < channels) {
            partial[r * channels + c] = sum;
            partial[r * channels + c + 1] = next;
        }
    });
}

/* The same for other types and numbers of channels. */

constexpr int DEPTH = 16; /* pixels, or channels, that lie in shared memory at a time */
constexpr int SIDE = 4;   /* results of a thread along each side of the tile */
constexpr int ACROSS = TILE / SIDE;
constexpr int THREADS = ACROSS * ACROSS;

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
    for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
        const int64_t c = first + i % TILE, k = pixel + i / TILE;
        const bool inside = c < x.shape.c && k < end;
        to[i] = inside ? m.weight(n, k) * ds_pixel(x, n, c, k) : 0;
    }
}

/* Block (tile, chunk, n). */
__global__ void partial_gram(ds_view x, masking m, int64_t chunk, float *partial)
{
    DS_SHARED(float, a, TILE *DEPTH);
    DS_SHARED(float, b, TILE *DEPTH);
    const int64_t channels = x.shape.c, pixels = x.shape.h * x.shape.w, n = blockIdx.z;
    const tile_place tile(blockIdx.x);
    const int64_t begin = blockIdx.y * chunk;
    const int64_t end = begin + chunk < pixels ? begin + chunk : pixels;
    const int row = threadIdx.x / ACROSS, column = threadIdx.x % ACROSS;
    float acc[SIDE][SIDE] = {};
    for (int64_t k = begin; k < end; k += DEPTH) {
        load_pixels(a, x, m, n, tile.row, k, end);
        load_pixels(b, x, m, n, tile.column, k, end);
        __syncthreads();
        multiply_tiles(a, b, row, column, acc);
        __syncthreads();
    }
    partial += (n * gridDim.y + blockIdx.y) * channels * channels;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            const int64_t r = tile.row + row * SIDE + i, c = tile.column + column * SIDE + j;
            if (r < channels && c < channels)
                partial[r * channels + c] = acc[i][j];
        }
}

/* The second pass: blocks take LANES elements, whose chunks are added up by ROWS threads each. */

constexpr int LANES = 32, ROWS = 8;

__global__ void add_chunks(const float *partial, ds_view gram, masking m, int64_t chunks,
                           double scale)
{
    DS_SHARED(double, sums, LANES *ROWS);
    const int64_t channels = gram.shape.w, size = channels * channels, n = blockIdx.y;
    const int lane = threadIdx.x % LANES, row = threadIdx.x / LANES;
    const int64_t i = (int64_t)blockIdx.x * LANES + lane;
    int64_t c;
    const int64_t r = ds_split(i, channels, &c);
    const bool low = i < size && c <= r;
    double sum = 0;
    for (int64_t chunk = row; chunk < chunks && low; chunk += ROWS)
        sum += partial[(n * chunks + chunk) * size + i];
    sums[row * LANES + lane] = sum;
    __syncthreads();
    if (row > 0 || !low)
        return;
    for (int k = 1; k < ROWS; k++)
        sum += sums[k * LANES + lane];
    const float value = (float)(scale * m.inverse(n) * sum);
    ds_store(gram, n * gram.n + i, value);
    ds_store(gram, n * gram.n + c * channels + r, value);
}

/* Whether a map can be read by tensor cores. */
bool is_for_tensor_cores(const ds_tensor *x)
{
    return ds_is_half(x) && x->shape.c % DS_VECTOR == 0;
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    const ds_shape x = step->in[0]->shape;
    const size_t matrices = (size_t)(x.n * split_of(x).chunks * x.c * x.c) * sizeof(float);
    const size_t sums = step->inputs > 1 ? DS_SUM_BYTES : 0;
    step->workspace_bytes = eta_bytes(step, 1) + (matrices > sums ? matrices : sums);
    step->variant = is_for_tensor_cores(step->in[0]) ? "tensor cores" : NULL;
    return DS_OK;
}

void run(ds_backend *backend, const ds_step *step)
{
    const ds_view x = ds_view_of(step->in[0]);
    const masking m = masking_of(backend, step, 1);
    const split s = split_of(x.shape);
    const cudaStream_t stream = ds_cuda_of(backend)->stream;
    const dim3 blocks((unsigned)s.tiles, (unsigned)s.chunks, (unsigned)x.shape.n);
    float *partial = (float *)((char *)step->workspace + eta_bytes(step, 1));
    if (!is_for_tensor_cores(step->in[0]))
        DS_LAUNCH(partial_gram, blocks, dim3(THREADS), stream, x, m, s.chunk, partial);
    else if (m.there)
        DS_LAUNCH(partial_gram_tensor<true>, blocks, dim3(GRAM_THREADS), stream, x, m, s.chunk,
                  partial);
    else
        DS_LAUNCH(partial_gram_tensor<false>, blocks, dim3(GRAM_THREADS), stream, x, m, s.chunk,
                  partial);
    DS_LAUNCH(add_chunks,
              dim3((unsigned)ds_blocks_for(x.shape.c * x.shape.c, LANES), (unsigned)x.shape.n),
              dim3(LANES * ROWS), stream, (const float *)partial, ds_view_of(step->out), m,
              s.chunks, DS_ATTR(gram, step->attr).scale);
    ds_cuda_note(backend, cudaGetLastError(), "gram");
}

/* The gradient dx = mask^2 S x with the symmetric S = factor (dG + dG'). On tensor cores S is a sum
   of two bf16, and blocks make PIXEL_TILE pixels by TILE channels. */

constexpr int PIXEL_TILE = 128;
constexpr int CHANNELS = 32; /* of a stage */
constexpr int GRADIENT_STAGES = 3;
constexpr int GRADIENT_THREADS = 8 * DS_WARP;
constexpr int SUMS_STEP = TILE + 8; /* from row to row, in other banks */

struct gradient_stage {
    ds_tile<PIXEL_TILE, CHANNELS> x;     /* (pixels, channels of x) */
    ds_tile<TILE, CHANNELS> slope, rest; /* (channels of dx, channels of x) */
};

/* S of all pictures, then its rests. */
struct make_slopes {
    const float *dg;
    ds_bf16 *slopes;
    masking m;
    int64_t channels, count;
    double scale;
    __device__ void operator()(int64_t i) const
    {
        int64_t at, c;
        const int64_t size = channels * channels, n = ds_split(i, size, &at);
        const int64_t r = ds_split(at, channels, &c), across = n * size + c * channels + r;
        const float slope = (float)(scale * m.inverse(n) * ((double)dg[i] + (double)dg[across]));
        slopes[i] = ds_narrow(slope);
        slopes[count + i] = ds_rest(slope, slopes[i]);
    }
};

/* A picture, the matrix that goes with it, and which pixels and channels of the gradient. */
struct gradient_source {
    const ds_bf16 *x, *slopes, *rests;
    int64_t channels, pixels, pixel, channel;

    __device__ void copy(gradient_stage *to, int64_t depth) const
    {
        to->x.copy(x, pixel, pixels, depth, channels);
        to->slope.copy(slopes, channel, channels, depth, channels);
        to->rest.copy(rests, channel, channels, depth, channels);
        ds_copy_commit();
    }
};

__device__ void add_gradient_stage(gradient_stage *s, int row, int column, ds_part *part)
{
    for (int k = 0; k < CHANNELS; k += DS_DEPTH) {
        uint32_t a[DS_PAIRS][4], b[DS_PAIRS][4], rest[DS_PAIRS][4];
        for (int i = 0; i < DS_PAIRS; i++) {
            s->x.left(a[i], row + i * DS_DEPTH, k);
            s->slope.right(b[i], column + i * DS_DEPTH, k);
            s->rest.right(rest[i], column + i * DS_DEPTH, k);
        }
        part->add(a, b);
        part->add(a, rest);
    }
}

/* Block (pixel tile, channel tile, n). */
__global__ void gram_gradient_tensor(ds_view x, const ds_bf16 *slopes, masking m, ds_view dx,
                                     ds_end end)
{
    DS_SHARED(gradient_stage, stages, GRADIENT_STAGES);
    const int64_t channels = x.shape.c, size = channels * channels, n = blockIdx.z;
    const gradient_source source = {(const ds_bf16 *)x.data + n * x.n,
                                    slopes + n * size,
                                    slopes + (x.shape.n + n) * size,
                                    channels,
                                    x.shape.h * x.shape.w,
                                    (int64_t)blockIdx.x * PIXEL_TILE,
                                    (int64_t)blockIdx.y * TILE};
    const int warp = threadIdx.x / DS_WARP;
    const int row = warp / 2 * DS_PART, column = warp % 2 * DS_PART;
    ds_part part = {};
    for (int i = 0; i < GRADIENT_STAGES - 1; i++)
        source.copy(&stages[i], i * CHANNELS);
    int now = 0;
    for (int64_t k = 0; k < channels; k += CHANNELS) {
        ds_copy_wait<GRADIENT_STAGES - 2>();
        __syncthreads();
        source.copy(&stages[(now + GRADIENT_STAGES - 1) % GRADIENT_STAGES],
                    k + (GRADIENT_STAGES - 1) * CHANNELS);
        add_gradient_stage(&stages[now], row, column, &part);
        now = (now + 1) % GRADIENT_STAGES;
    }
    ds_copy_wait<0>(); /* of zeros behind the last stage */
    __syncthreads();
    float *sums = (float *)stages;
    part.each([&](int i, int j, float sum, float next) {
        sums[(row + i) * SUMS_STEP + column + j] = sum;
        sums[(row + i) * SUMS_STEP + column + j + 1] = next;
    });
    __syncthreads();
    for (int i = threadIdx.x; i < PIXEL_TILE * TILE; i += GRADIENT_THREADS) {
        const int64_t p = source.pixel + i / TILE, c = source.channel + i % TILE;
        if (p >= source.pixels || c >= channels)
            continue;
        const int64_t place = n * dx.n + p * dx.w + c;
        const float weight = m.weight(n, p), sum = sums[i / TILE * SUMS_STEP + i % TILE];
        ds_store(dx, place, end.of(weight * weight * sum, place));
    }
}

/* For other types and numbers of channels: block (pixel tile, channel tile, n). */
__global__ void gram_gradient(ds_view x, const float *dg, masking m, ds_view dx, double scale,
                              ds_end end)
{
    DS_SHARED(float, a, TILE *DEPTH); /* of dG + dG': (channels of x, channels of dx) */
    DS_SHARED(float, b, TILE *DEPTH); /* of x: (channels of x, pixels) */
    const int64_t channels = x.shape.c, pixels = x.shape.h * x.shape.w, n = blockIdx.z;
    const int64_t first = (int64_t)blockIdx.y * TILE, pixel = (int64_t)blockIdx.x * TILE;
    const int row = threadIdx.x / ACROSS, column = threadIdx.x % ACROSS;
    float acc[SIDE][SIDE] = {};
    dg += n * channels * channels;
    for (int64_t k = 0; k < channels; k += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
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
            const int64_t place = n * dx.n + c * dx.c + p * dx.w;
            const float weight = m.weight(n, p);
            const double value = scale * m.inverse(n) * weight * weight * acc[i][j];
            ds_store(dx, place, end.of((float)value, place));
        }
}

ds_code prepare_backward(ds_backend *, ds_step *step, ds_status *)
{
    const bool tensor_cores = is_for_tensor_cores(step->in[0]);
    const size_t sums = step->inputs > 2 ? DS_SUM_BYTES : 0;
    const size_t slopes =
        tensor_cores ? 2 * (size_t)ds_count(step->in[1]->shape) * sizeof(ds_bf16) : 0;
    step->workspace_bytes = eta_bytes(step, 2) + (slopes > sums ? slopes : sums);
    step->variant = tensor_cores ? "tensor cores" : NULL;
    return DS_OK;
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const double scale = DS_ATTR(gram_backward, step->attr).scale;
    const ds_view x = ds_view_of(step->in[0]), dx = ds_view_of(step->out);
    const float *dg = (const float *)step->in[1]->data;
    const masking m = masking_of(backend, step, 2);
    const int64_t pixels = x.shape.h * x.shape.w, matrices = ds_count(step->in[1]->shape);
    const cudaStream_t stream = ds_cuda_of(backend)->stream;
    const unsigned across = (unsigned)ds_blocks_for(x.shape.c, TILE), n = (unsigned)x.shape.n;
    const ds_end end = ds_end_of(step);
    if (is_for_tensor_cores(step->in[0])) {
        ds_bf16 *slopes = (ds_bf16 *)((char *)step->workspace + eta_bytes(step, 2));
        ds_each(backend, make_slopes{dg, slopes, m, x.shape.c, matrices, scale}, matrices);
        DS_LAUNCH(gram_gradient_tensor,
                  dim3((unsigned)ds_blocks_for(pixels, PIXEL_TILE), across, n),
                  dim3(GRADIENT_THREADS), stream, x, (const ds_bf16 *)slopes, m, dx, end);
    } else {
        DS_LAUNCH(gram_gradient, dim3((unsigned)ds_blocks_for(pixels, TILE), across, n),
                  dim3(THREADS), stream, x, dg, m, dx, scale, end);
    }
    ds_cuda_note(backend, cudaGetLastError(), "gram_backward");
}

} // namespace

const ds_kernel ds_cuda_gram = {.prepare = prepare, .run = run};
const ds_kernel ds_cuda_gram_backward = {
    .accepts = ds_takes_end, .prepare = prepare_backward, .run = run_backward};
