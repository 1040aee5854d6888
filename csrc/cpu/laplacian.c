/* The Laplacian of planar pictures: the channels are summed first, then the kernel is applied to
   one plane. Formula: ops/laplacian.c. */
#include "cpu/cpu.h"

#include <string.h>

typedef struct job {
    const ds_tensor *x, *y; /* the picture and its Laplacian, or their gradients */
    double *pooled;         /* (N, H / pool, W / pool) sums of blocks and channels */
    int64_t pool;
} job;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && !ds_is_blocked(step->in[0]) && !ds_is_blocked(step->out);
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const ds_shape x = step->in[0]->shape;
    const int64_t pool = DS_ATTR(laplacian, step->attr).pool;
    (void)backend;
    step->workspace_bytes = (size_t)(x.n * (x.h / pool) * (x.w / pool)) * sizeof(double);
    return status->code;
}

/* Item: one row of blocks of one picture. */
static void pool_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape x = j->x->shape;
    const int64_t rows = x.h / j->pool, columns = x.w / j->pool;
    const int64_t n = item / rows, first = item % rows * j->pool;
    double *to = j->pooled + item * columns;
    (void)worker;
    memset(to, 0, (size_t)columns * sizeof *to);
    for (int64_t c = 0; c < x.c; c++)
        for (int64_t i = 0; i < j->pool; i++) {
            const float *row = (const float *)j->x->data + ((n * x.c + c) * x.h + first + i) * x.w;
            for (int64_t k = 0; k < columns * j->pool; k++)
                to[k / j->pool] += (double)row[k];
        }
}

/* Item: one row of the result. */
static void row_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape y = j->y->shape;
    const int64_t columns = y.w + 2;
    const double *above = j->pooled + (item / y.h * (y.h + 2) + item % y.h) * columns;
    const double *here = above + columns, *below = here + columns;
    const double share = 1 / (double)(j->pool * j->pool);
    float *to = (float *)j->y->data + item * y.w;
    (void)worker;
    for (int64_t k = 0; k < y.w; k++)
        to[k] = (float)(share *
                        (4 * here[k + 1] - above[k + 1] - below[k + 1] - here[k] - here[k + 2]));
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_shape x = step->in[0]->shape;
    job j = {.x = step->in[0],
             .y = step->out,
             .pooled = step->workspace,
             .pool = DS_ATTR(laplacian, step->attr).pool};
    ds_pool_run(backend->pool, x.n * (x.h / j.pool), pool_task, &j);
    ds_pool_run(backend->pool, x.n * j.y->shape.h, row_task, &j);
}

/* dy at (i, k), zero outside. */
static double at(const float *dy, ds_shape s, int64_t i, int64_t k)
{
    return i >= 0 && i < s.h && k >= 0 && k < s.w ? (double)dy[i * s.w + k] : 0;
}

/* What every pixel of block (i, k) receives. */
static float block_gradient(const job *j, const float *dy, int64_t i, int64_t k)
{
    const ds_shape s = j->y->shape;
    if (i >= s.h + 2 || k >= s.w + 2)
        return 0;
    const double sum = 4 * at(dy, s, i - 1, k - 1) - at(dy, s, i, k - 1) - at(dy, s, i - 2, k - 1) -
                       at(dy, s, i - 1, k) - at(dy, s, i - 1, k - 2);
    return (float)(sum / (double)(j->pool * j->pool));
}

/* Item: one row of blocks of one picture, or the rows left over. */
static void backward_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape x = j->x->shape, y = j->y->shape;
    const int64_t parts = (x.h + j->pool - 1) / j->pool, n = item / parts, i = item % parts;
    const int64_t first = i * j->pool, rows = x.h - first < j->pool ? x.h - first : j->pool;
    const float *dy = (const float *)j->y->data + n * y.h * y.w;
    float *dx = (float *)j->x->data + (n * x.c * x.h + first) * x.w;
    (void)worker;
    for (int64_t begin = 0; begin < x.w; begin += j->pool) {
        const float value = block_gradient(j, dy, i, begin / j->pool);
        for (int64_t k = begin; k < begin + j->pool && k < x.w; k++)
            dx[k] = value;
    }
    for (int64_t c = 0; c < x.c; c++)
        for (int64_t r = c ? 0 : 1; r < rows; r++)
            memcpy(dx + (c * x.h + r) * x.w, dx, (size_t)x.w * sizeof *dx);
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_shape x = step->out->shape;
    job j = {
        .x = step->out, .y = step->in[0], .pool = DS_ATTR(laplacian_backward, step->attr).pool};
    ds_pool_run(backend->pool, x.n * ((x.h + j.pool - 1) / j.pool), backward_task, &j);
}

const ds_kernel ds_cpu_laplacian = {.accepts = accepts, .prepare = prepare, .run = run};
const ds_kernel ds_cpu_laplacian_backward = {.accepts = accepts, .run = backward_run};
