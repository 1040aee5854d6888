/* Total variation of planar maps, row by row; formula: ops/total_variation.c. */
#include "cpu/cpu.h"

typedef struct job {
    const ds_slots *slots;
    const ds_tensor *x;
    double *partial; /* (rows) */
    float *y;
    float factor;
} job;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && !ds_is_blocked(step->in[0]);
}

/* Rows of all planes. */
static int64_t rows_of(const ds_tensor *x)
{
    return x->shape.n * x->shape.c * x->shape.h;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = (size_t)rows_of(step->in[0]) * sizeof(double);
    return status->code;
}

/* Item: one row. A neighbour that is not there is the row itself: no difference. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape s = j->x->shape;
    const int64_t row = item % s.h;
    const float *x = (const float *)j->x->data + item * s.w;
    const float *above = row > 0 ? x - s.w : x, *below = row + 1 < s.h ? x + s.w : x;
    (void)worker;
    if (j->y) {
        j->slots->variation_row_backward(above, x, below, j->factor, j->y + item * s.w, s.w);
        return;
    }
    j->partial[item] = 0;
    j->slots->variation_row(x, below, s.w, &j->partial[item]);
}

static void run(ds_backend *backend, const ds_step *step)
{
    job j = {.slots = ds_cpu_slots(backend->level), .x = step->in[0], .partial = step->workspace};
    const int64_t rows = rows_of(j.x);
    double sum = 0;
    ds_pool_run(backend->pool, rows, task, &j);
    for (int64_t i = 0; i < rows; i++)
        sum += j.partial[i];
    *(float *)step->out->data = (float)(DS_ATTR(total_variation, step->attr).scale * sum);
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    const double dl = (double)*(const float *)step->in[1]->data;
    job j = {.slots = ds_cpu_slots(backend->level),
             .x = step->in[0],
             .y = step->out->data,
             .factor = (float)(2 * DS_ATTR(total_variation_backward, step->attr).scale * dl)};
    ds_pool_run(backend->pool, rows_of(j.x), task, &j);
}

const ds_kernel ds_cpu_total_variation = {.accepts = accepts, .prepare = prepare, .run = run};
const ds_kernel ds_cpu_total_variation_backward = {.accepts = accepts, .run = backward_run};
