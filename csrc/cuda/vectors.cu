#include "cuda/vectors.h"

#include "cuda/transfer.h"

namespace
{

constexpr int DOT_ROWS = 4; /* of a block: a and b are read once for them */

/* `count` rows; behind them, for the last ones of a call, c itself and a itself. */
struct factors_of_dots {
    const float *a, *b;
    const float *rows[DS_ROWS];
    int count;

    __device__ void add(int row, int64_t i, double sums[2]) const
    {
        const double of_a = a[i], of_c = a[i] - b[i];
        if (row < count) {
            const double r = rows[row][i];
            sums[0] += r * of_c;
            sums[1] += r * of_a;
        } else {
            sums[0] += row == count ? of_c * of_c : fabs(of_a);
            sums[1] += of_a * (row == count ? of_c : of_a);
        }
    }
};

/* One block: rows [4 x, 4 x + 4) in chunk y. The last block of those rows adds up the chunks. */
__global__ void dots_kernel(factors_of_dots f, int rows, int64_t length, double *partial,
                            double *out, unsigned *tickets)
{
    DS_SHARED(double, tree, DS_THREADS);
    const int64_t chunk = (length + gridDim.y - 1) / gridDim.y;
    const int64_t begin = blockIdx.y * chunk;
    const int64_t end = begin + chunk < length ? begin + chunk : length;
    const int first = blockIdx.x * DOT_ROWS;
    const int here = rows - first < DOT_ROWS ? rows - first : DOT_ROWS;
    double sums[DOT_ROWS][2] = {};
    for (int64_t i = begin + threadIdx.x; i < end; i += DS_THREADS)
        for (int j = 0; j < DOT_ROWS; j++)
            if (j < here)
                f.add(first + j, i, sums[j]);
    partial += (int64_t)first * 2 * gridDim.y;
    for (int j = 0; j < DOT_ROWS * 2; j++) {
        const double sum = ds_block_sum(sums[j / 2][j % 2], tree);
        if (threadIdx.x == 0 && j < here * 2)
            partial[j * gridDim.y + blockIdx.y] = sum;
    }
    if (!ds_is_last(tickets + blockIdx.x, gridDim.y))
        return;
    for (int j = 0; j < here * 2; j++) {
        const double mine = threadIdx.x < gridDim.y ? partial[j * gridDim.y + threadIdx.x] : 0;
        const double sum = ds_block_sum(mine, tree);
        if (threadIdx.x == 0)
            out[first * 2 + j] = sum;
    }
}

struct combination {
    const float *rows[DS_ROWS];
    double factors[DS_ROWS];
    int count;
    bool more; /* add to what is there */
    float *out;

    __device__ void operator()(int64_t i) const
    {
        double sum = more ? out[i] : 0;
        for (int row = 0; row < count; row++)
            sum += factors[row] * (double)rows[row][i];
        out[i] = (float)sum;
    }
};

/* CUDA takes no more arguments of a kernel. */
static_assert(sizeof(combination) + sizeof(int64_t) <= 4096, "a combination is an argument");

int rows_at(int64_t first, int64_t count)
{
    const int64_t rest = count - first;
    return rest < DS_ROWS ? (int)rest : (int)DS_ROWS;
}

} // namespace

void ds_vector_dots(ds_backend *backend, int64_t length, const float *a, const float *b,
                    const float *const *rows, int64_t count, double *sums)
{
    const ds_cuda *cuda = ds_cuda_of(backend);
    double *out = cuda->sums + DS_DOT_CHUNKS * (DS_ROWS + 2) * 2;
    const int64_t wanted = ds_blocks_for(length, DS_SUM_CHUNK);
    const unsigned chunks = (unsigned)(wanted < DS_DOT_CHUNKS ? wanted : DS_DOT_CHUNKS);
    for (int64_t first = 0; first == 0 || first < count; first += DS_ROWS) {
        factors_of_dots f = {a, b, {}, rows_at(first, count)};
        const bool last = first + DS_ROWS >= count;
        const int all = f.count + (last ? 2 : 0);
        for (int i = 0; i < f.count; i++)
            f.rows[i] = rows[first + i];
        DS_LAUNCH(dots_kernel, dim3((unsigned)ds_blocks_for(all, DOT_ROWS), chunks),
                  dim3(DS_THREADS), cuda->stream, f, all, length, cuda->sums, out, cuda->tickets);
        ds_cuda_note(backend, cudaGetLastError(), "dots");
        const size_t bytes = (size_t)all * 2 * sizeof *sums;
        memset(sums + 2 * first, 0, bytes); /* what a lost device leaves; told tells */
        ds_transfer_read(backend, sums + 2 * first, out, bytes);
    }
}

void ds_vector_combine(ds_backend *backend, int64_t length, const float *const *rows,
                       const double *factors, int64_t count, float *out)
{
    for (int64_t first = 0; first < count; first += DS_ROWS) {
        combination c = {{}, {}, rows_at(first, count), first > 0, out};
        for (int i = 0; i < c.count; i++) {
            c.rows[i] = rows[first + i];
            c.factors[i] = factors[first + i];
        }
        ds_each(backend, c, length);
    }
}
