#include "optim/vectors.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = 16384, /* floats of one task: two of them fit in a second-level cache */
    LANES = 16     /* independent sums of a block, so that the compiler can use vector registers */
};

struct ds_host_vectors {
    ds_alloc *alloc;
    ds_pool *pool;
    int64_t length, blocks;
    double *partials; /* (blocks) */
    /* The operation under way. */
    float alpha;
    const float *a, *b;
    float *y;
};

ds_code ds_host_vectors_create(ds_alloc *alloc, ds_pool *pool, int64_t length,
                               ds_host_vectors **out, ds_status *status)
{
    ds_host_vectors *host = NULL;
    const int64_t blocks = length / BLOCK + (length % BLOCK != 0);
    DS_TRY(ds_alloc_zeroed(alloc, sizeof *host, &host, status));
    *host = (ds_host_vectors){.alloc = alloc, .pool = pool, .length = length, .blocks = blocks};
    DS_TRY(ds_alloc_zeroed(alloc, (size_t)blocks * sizeof(double), &host->partials, status));
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

static double sum_in_order(const double *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i];
    return sum;
}

static void dot_block(void *context, int64_t block, int worker)
{
    ds_host_vectors *host = context;
    const float *a = host->a + block * BLOCK, *b = host->b + block * BLOCK;
    const int64_t count = block_length(host, block), whole = count - count % LANES;
    double lanes[LANES] = {0};
    (void)worker;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)a[i + lane] * (double)b[i + lane];
    for (int64_t i = whole; i < count; i++)
        lanes[i - whole] += (double)a[i] * (double)b[i];
    host->partials[block] = sum_in_order(lanes, LANES);
}

static double dot(void *context, const float *a, const float *b)
{
    ds_host_vectors *host = context;
    host->a = a;
    host->b = b;
    ds_pool_run(host->pool, host->blocks, dot_block, host);
    return sum_in_order(host->partials, host->blocks);
}

static void sum_abs_block(void *context, int64_t block, int worker)
{
    ds_host_vectors *host = context;
    const float *a = host->a + block * BLOCK;
    const int64_t count = block_length(host, block), whole = count - count % LANES;
    double lanes[LANES] = {0};
    (void)worker;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)fabsf(a[i + lane]);
    for (int64_t i = whole; i < count; i++)
        lanes[i - whole] += (double)fabsf(a[i]);
    host->partials[block] = sum_in_order(lanes, LANES);
}

static double sum_abs(void *context, const float *a)
{
    ds_host_vectors *host = context;
    host->a = a;
    ds_pool_run(host->pool, host->blocks, sum_abs_block, host);
    return sum_in_order(host->partials, host->blocks);
}

static void axpy_block(void *context, int64_t block, int worker)
{
    const ds_host_vectors *host = context;
    const float *x = host->a + block * BLOCK, alpha = host->alpha;
    float *y = host->y + block * BLOCK;
    const int64_t count = block_length(host, block);
    (void)worker;
    for (int64_t i = 0; i < count; i++)
        y[i] += alpha * x[i];
}

static void axpy(void *context, float alpha, const float *x, float *y)
{
    ds_host_vectors *host = context;
    host->alpha = alpha;
    host->a = x;
    host->y = y;
    ds_pool_run(host->pool, host->blocks, axpy_block, host);
}

static void scale_block(void *context, int64_t block, int worker)
{
    const ds_host_vectors *host = context;
    float *y = host->y + block * BLOCK;
    const float alpha = host->alpha;
    const int64_t count = block_length(host, block);
    (void)worker;
    for (int64_t i = 0; i < count; i++)
        y[i] *= alpha;
}

static void scale(void *context, float alpha, float *x)
{
    ds_host_vectors *host = context;
    host->alpha = alpha;
    host->y = x;
    ds_pool_run(host->pool, host->blocks, scale_block, host);
}

static void copy(void *context, const float *from, float *to)
{
    const ds_host_vectors *host = context;
    memcpy(to, from, (size_t)host->length * sizeof(float));
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
                        .dot = dot,
                        .sum_abs = sum_abs,
                        .axpy = axpy,
                        .scale = scale,
                        .copy = copy};
}
