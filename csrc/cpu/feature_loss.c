/* The feature loss and its gradient on maps in blocks of 16 channels; formula:
   ops/feature_loss.c. */
#include "cpu/cpu.h"
#include "cpu/slots.h"

/* Pixels of one work item; each has a partial sum of its own. */
enum { CHUNK = 1024 };

typedef struct job {
    const ds_slots *slots;
    const ds_tensor *x, *target, *mask;
    double *partial; /* (items) */
    float *dx;
    float factor;
    int64_t chunks; /* of one block */
} job;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_is_blocked(step->in[0]) && ds_no_epilogue(step) &&
           ds_same_shape(step->in[0]->shape, step->in[1]->shape);
}

static int64_t items_of(const ds_tensor *x)
{
    const ds_shape s = x->shape;
    return s.n * ds_blocks(s.c) * ((s.h * s.w + CHUNK - 1) / CHUNK);
}

/* Item: one chunk of pixels of one block of one picture. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const ds_shape s = j->x->shape;
    const int64_t pixels = s.h * s.w, block = item / j->chunks, from = item % j->chunks * CHUNK;
    const int64_t count = pixels - from < CHUNK ? pixels - from : CHUNK;
    const int64_t at = (block * pixels + from) * DS_BLOCK;
    const int64_t n = j->mask && j->mask->shape.n > 1 ? block / ds_blocks(s.c) : 0;
    const float *weight = j->mask ? (const float *)j->mask->data + n * pixels + from : NULL;
    const float *x = (const float *)j->x->data + at, *target = (const float *)j->target->data + at;
    (void)worker;
    if (j->dx) {
        j->slots->scaled_difference(x, target, weight, j->factor, count, j->dx + at);
        return;
    }
    j->partial[item] = 0;
    j->slots->squared_distance(x, target, weight, count, &j->partial[item]);
}

static job make_job(const ds_backend *backend, const ds_step *step, int mask)
{
    const ds_shape s = step->in[0]->shape;
    return (job){.slots = ds_cpu_slots(backend->level),
                 .x = step->in[0],
                 .target = step->in[1],
                 .mask = step->inputs > mask ? step->in[mask] : NULL,
                 .chunks = (s.h * s.w + CHUNK - 1) / CHUNK};
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = (size_t)items_of(step->in[0]) * sizeof(double);
    return status->code;
}

static void loss_run(ds_backend *backend, const ds_step *step)
{
    job j = make_job(backend, step, 2);
    const int64_t items = items_of(j.x);
    double sum = 0;
    j.partial = step->workspace;
    ds_pool_run(backend->pool, items, task, &j);
    for (int64_t i = 0; i < items; i++)
        sum += j.partial[i];
    *(float *)step->out->data = (float)(sum * DS_ATTR(feature_loss, step->attr).scale);
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    job j = make_job(backend, step, 3);
    const double dl = (double)*(const float *)step->in[2]->data;
    j.dx = step->out->data;
    j.factor = (float)(2 * dl * DS_ATTR(feature_loss_backward, step->attr).scale);
    ds_pool_run(backend->pool, items_of(j.x), task, &j);
}

const ds_kernel ds_cpu_feature_loss = {.accepts = accepts, .prepare = prepare, .run = loss_run};
const ds_kernel ds_cpu_feature_loss_backward = {
    .accepts = accepts, .run = backward_run, .in_place = 3};
