#include "optim/vectors.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = 2048, /* floats of one task: what all rows meet stays in a first-level cache */
    ROWS = 4,     /* of products in one go: as many as registers can hold the sums of */
    TERMS = 8     /* rows of a sum in one go */
};

/* Two sums of a row, or two neighbouring values: what a vector register holds everywhere. */
typedef double pair __attribute__((vector_size(16)));

struct ds_host_vectors {
    ds_alloc *alloc;
    ds_pool *pool;
    int64_t length, blocks;
    double *partials; /* (blocks, count + 2, 2) */
    /* The operation under way. */
    const float *a, *b;
    const float *const *rows; /* (count) */
    const double *factors;    /* (count) */
    int64_t count;
    float *out;
};

ds_code ds_host_vectors_create(ds_alloc *alloc, ds_pool *pool, int64_t length, int64_t most,
                               ds_host_vectors **out, ds_status *status)
{
    ds_host_vectors *host = NULL;
    const int64_t blocks = length / BLOCK + (length % BLOCK != 0);
    size_t bytes = 0;
    *out = NULL;
    if (!ds_multiply((size_t)blocks, ((size_t)most + 2) * 2 * sizeof(double), &bytes))
        return ds_fail(status, DS_NO_MEMORY, "%lld vectors of %lld values are too large",
                       (long long)most, (long long)length);
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *host, &host, status));
    *host = (ds_host_vectors){.alloc = alloc, .pool = pool, .length = length, .blocks = blocks};
    DS_TRY(ds_alloc_raw(alloc, bytes, &host->partials, status));
exit:
    if (status->code != DS_OK)
        ds_host_vectors_destroy(&host);
    *out = host;
    return status->code;
}

void ds_host_vectors_destroy(ds_host_vectors **host)
{
    if (!*host)
        return;
    ds_alloc *alloc = (*host)->alloc;
    ds_release(alloc, &(*host)->partials);
    ds_release(alloc, host);
}

/* Floats of a block: the last one may be shorter. */
static int64_t block_length(const ds_host_vectors *host, int64_t block)
{
    const int64_t rest = host->length - block * BLOCK;
    return rest < BLOCK ? rest : BLOCK;
}

/* sums = the products of each row with a and with b */
static void multiply_rows(const float *const given[ROWS], const double *a, const double *b,
                          int64_t count, double sums[ROWS][2])
{
    const float *rows[ROWS]; /* a copy, for the compiler to keep in registers */
    pair lanes[ROWS][2] = {{{0}}};
    for (int row = 0; row < ROWS; row++)
        rows[row] = given[row];
    for (int64_t i = 0; i + 1 < count; i += 2) {
        const pair of_a = {a[i], a[i + 1]}, of_b = {b[i], b[i + 1]};
        for (int row = 0; row < ROWS; row++) {
            const pair r = {rows[row][i], rows[row][i + 1]};
            lanes[row][0] += r * of_a;
            lanes[row][1] += r * of_b;
        }
    }
    for (int row = 0; row < ROWS; row++) {
        const double last = count % 2 ? rows[row][count - 1] : 0;
        sums[row][0] = lanes[row][0][0] + lanes[row][0][1] + last * a[count - 1];
        sums[row][1] = lanes[row][1][0] + lanes[row][1][1] + last * b[count - 1];
    }
}

static void dots_block(void *context, int64_t block, int worker)
{
    const ds_host_vectors *host = context;
    const int64_t begin = block * BLOCK, count = block_length(host, block);
    double *sums = host->partials + block * (host->count + 2) * 2;
    double a[BLOCK], c[BLOCK], cc = 0, ca = 0, size = 0, aa = 0;
    (void)worker;
    for (int64_t i = 0; i < count; i++) {
        a[i] = host->a[begin + i];
        c[i] = host->a[begin + i] - host->b[begin + i];
        cc += c[i] * c[i];
        ca += c[i] * a[i];
        size += fabs(a[i]);
        aa += a[i] * a[i];
    }
    for (int64_t first = 0; first < host->count; first += ROWS) {
        const int64_t rest = host->count - first;
        const float *rows[ROWS]; /* behind the last one it comes again, for nothing */
        double found[ROWS][2];
        for (int i = 0; i < ROWS; i++)
            rows[i] = host->rows[i < rest ? first + i : host->count - 1] + begin;
        multiply_rows(rows, a, c, count, found);
        for (int i = 0; i < ROWS && i < rest; i++, sums += 2) {
            sums[0] = found[i][1];
            sums[1] = found[i][0];
        }
    }
    memcpy(sums, (const double[]){cc, ca, size, aa}, 4 * sizeof *sums);
}

static void dots(void *context, const float *a, const float *b, const float *const *rows,
                 int64_t count, double *sums)
{
    ds_host_vectors *host = context;
    const int64_t columns = (count + 2) * 2;
    host->a = a;
    host->b = b;
    host->rows = rows;
    host->count = count;
    ds_pool_run(host->pool, host->blocks, dots_block, host);
    for (int64_t i = 0; i < columns; i++) {
        sums[i] = 0;
        for (int64_t block = 0; block < host->blocks; block++)
            sums[i] += host->partials[block * columns + i];
    }
}

/* sum += the rows times their factors */
static void add_rows(const float *const *given, const double *given_factors, int64_t begin,
                     int64_t count, double *sum)
{
    const float *rows[TERMS]; /* copies, as above */
    double factors[TERMS];
    for (int row = 0; row < TERMS; row++) {
        rows[row] = given[row] + begin;
        factors[row] = given_factors[row];
    }
    for (int64_t i = 0; i + 1 < count; i += 2) {
        pair total = {sum[i], sum[i + 1]};
        for (int row = 0; row < TERMS; row++)
            total += factors[row] * (pair){rows[row][i], rows[row][i + 1]};
        sum[i] = total[0];
        sum[i + 1] = total[1];
    }
    for (int row = 0; row < TERMS && count % 2; row++)
        sum[count - 1] += factors[row] * (double)rows[row][count - 1];
}

static void combine_block(void *context, int64_t block, int worker)
{
    const ds_host_vectors *host = context;
    const int64_t begin = block * BLOCK, count = block_length(host, block);
    double sum[BLOCK] = {0};
    int64_t row = 0;
    (void)worker;
    for (; row + TERMS <= host->count; row += TERMS)
        add_rows(host->rows + row, host->factors + row, begin, count, sum);
    for (; row < host->count; row++)
        for (int64_t i = 0; i < count; i++)
            sum[i] += host->factors[row] * (double)host->rows[row][begin + i];
    for (int64_t i = 0; i < count; i++)
        host->out[begin + i] = (float)sum[i];
}

static void combine(void *context, const float *const *rows, const double *factors, int64_t count,
                    float *out)
{
    ds_host_vectors *host = context;
    host->rows = rows;
    host->factors = factors;
    host->count = count;
    host->out = out;
    ds_pool_run(host->pool, host->blocks, combine_block, host);
}

static ds_code allocate(void *context, size_t bytes, void *memory, ds_status *status)
{
    const ds_host_vectors *host = context;
    return ds_alloc_raw(host->alloc, bytes, memory, status);
}

static void release(void *context, void *memory)
{
    const ds_host_vectors *host = context;
    ds_release(host->alloc, memory);
}

ds_vectors ds_host_vectors_table(ds_host_vectors *host)
{
    return (ds_vectors){.context = host,
                        .allocate = allocate,
                        .release = release,
                        .dots = dots,
                        .combine = combine};
}
