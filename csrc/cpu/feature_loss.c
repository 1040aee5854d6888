/* The feature loss and its gradient on maps in blocks of 16 channels, and on planar ones without a
   mask, which are walked as one plane of pixels of 16 floats. Formula: ops/feature_loss.c. */
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
    int64_t planes; /* blocks of channels of all pictures, or one */
    int64_t floats; /* of a plane */
    int64_t chunks; /* of a plane */
} job;

static const ds_tensor *mask_of(const ds_step *step, int input)
{
    return step->inputs > input ? step->in[input] : NULL;
}

static bool accepts_masked(const ds_step *step, const ds_tensor *mask)
{
    const bool same = ds_same_shape(step->in[0]->shape, step->in[1]->shape) &&
                      ds_is_blocked(step->in[0]) == ds_is_blocked(step->in[1]);
    return ds_no_epilogue(step) && same && (ds_is_blocked(step->in[0]) || !mask);
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return accepts_masked(step, mask_of(step, 2));
}

static bool accepts_backward(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return accepts_masked(step, mask_of(step, 3));
}

static job make_job(const ds_backend *backend, const ds_step *step, int mask)
{
    const ds_tensor *x = step->in[0];
    job j = {.slots = ds_cpu_slots(backend->level),
             .x = x,
             .target = step->in[1],
             .mask = mask_of(step, mask),
             .planes = ds_is_blocked(x) ? x->shape.n * ds_blocks(x->shape.c) : 1};
    j.floats = ds_stored(x) / j.planes;
    j.chunks = (j.floats + CHUNK * DS_BLOCK - 1) / (CHUNK * DS_BLOCK);
    return j;
}

/* The last floats of a plane, less than a pixel of 16. */
static void finish_plane(const job *j, const float *x, const float *target, int64_t at,
                         int64_t count, double *sum)
{
    for (int64_t i = at; i < at + count; i++) {
        const float difference = x[i] - target[i];
        if (j->dx)
            j->dx[i] = j->factor * difference;
        else
            *sum += (double)difference * (double)difference;
    }
}

/* Item: one chunk of one plane. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t plane = item / j->chunks, from = item % j->chunks * CHUNK;
    const int64_t left = j->floats / DS_BLOCK - from, count = left < CHUNK ? left : CHUNK;
    const int64_t at = plane * j->floats + from * DS_BLOCK;
    const int64_t tail = item % j->chunks == j->chunks - 1 ? j->floats % DS_BLOCK : 0;
    const int64_t n = j->mask && j->mask->shape.n > 1 ? plane / ds_blocks(j->x->shape.c) : 0;
    const float *weight =
        j->mask ? (const float *)j->mask->data + n * j->floats / DS_BLOCK + from : NULL;
    const float *x = j->x->data, *target = j->target->data;
    double sum = 0;
    (void)worker;
    if (j->dx)
        j->slots->scaled_difference(x + at, target + at, weight, j->factor, count, j->dx + at);
    else
        j->slots->squared_distance(x + at, target + at, weight, count, &sum);
    finish_plane(j, x, target, at + count * DS_BLOCK, tail, &sum);
    if (!j->dx)
        j->partial[item] = sum;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const job j = make_job(backend, step, 2);
    step->workspace_bytes = (size_t)(j.planes * j.chunks) * sizeof(double);
    return status->code;
}

static void loss_run(ds_backend *backend, const ds_step *step)
{
    job j = make_job(backend, step, 2);
    const int64_t items = j.planes * j.chunks;
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
    ds_pool_run(backend->pool, j.planes * j.chunks, task, &j);
}

const ds_kernel ds_cpu_feature_loss = {.accepts = accepts, .prepare = prepare, .run = loss_run};
const ds_kernel ds_cpu_feature_loss_backward = {
    .accepts = accepts_backward, .run = backward_run, .in_place = 3};
