/* The feature loss and its gradient on maps in blocks of 16 channels, and on planar ones without a
   mask, which are walked as one plane of pixels of 16 floats. Formula: ops/feature_loss.c. */
#include "cpu/half.h"

/* Pixels that have a partial sum of their own, where no map is bf16. */
enum { CHUNK = 1024 };

typedef struct job {
    const ds_slots *slots;
    const ds_tensor *x, *target, *mask;
    const ds_tensor *dx; /* NULL: the loss itself */
    double *partial;     /* (planes, chunks) */
    float factor;
    ds_pairs pairs;
    int64_t planes;  /* blocks of channels of all pictures, or one */
    int64_t floats;  /* of a plane */
    int64_t chunk;   /* pixels of a chunk, */
    int64_t stretch; /* and of those that are taken at once */
    int64_t chunks;  /* of a plane */
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
    const bool half = ds_step_has_half(step);
    job j = {.slots = ds_cpu_slots(backend->level),
             .x = x,
             .target = step->in[1],
             .mask = mask_of(step, mask),
             .pairs = ds_is_blocked(x) ? ds_pairs_of(x, half) : (ds_pairs){1, 1, 1},
             .chunk = half ? DS_HALF_CHUNK : CHUNK,
             .stretch = half ? DS_STRETCH : CHUNK};
    j.planes = ds_is_blocked(x) ? x->shape.n * j.pairs.blocks : 1;
    j.floats = x->shape.h * x->shape.w * (ds_is_blocked(x) ? DS_BLOCK : x->shape.n * x->shape.c);
    j.chunks = (j.floats + j.chunk * DS_BLOCK - 1) / (j.chunk * DS_BLOCK);
    return j;
}

/* The last floats of a plane of planar maps, less than a pixel of 16. */
static void finish_plane(const job *j, int64_t count, double *sum)
{
    const float *x = j->x->data, *target = j->target->data;
    for (int64_t i = j->floats - count; i < j->floats; i++) {
        const float difference = x[i] - target[i];
        if (j->dx)
            ((float *)j->dx->data)[i] = j->factor * difference;
        else
            *sum += (double)difference * (double)difference;
    }
}

static const float *weight_at(const job *j, int64_t plane, int64_t pixel)
{
    if (!j->mask)
        return NULL;
    const int64_t n = j->mask->shape.n > 1 ? plane / j->pairs.blocks : 0;
    return (const float *)j->mask->data + n * j->floats / DS_BLOCK + pixel;
}

/* Adds the squares of `count` pixels of a plane to the sum, or makes their gradient. */
static void add_pixels(const job *j, int64_t plane, int64_t pixel, int64_t count, double *sum)
{
    float buffer[2][DS_STRETCH_FLOATS], made[DS_STRETCH_FLOATS];
    const float *x = ds_read_pixels(j->slots, j->x, plane, pixel, count, buffer[0]);
    const float *target = ds_read_pixels(j->slots, j->target, plane, pixel, count, buffer[1]);
    const float *weight = weight_at(j, plane, pixel);
    if (!j->dx) {
        j->slots->squared_distance(x, target, weight, count, sum);
        return;
    }
    float *y = ds_pixels_to_write(j->dx, plane, pixel, made);
    j->slots->scaled_difference(x, target, weight, j->factor, count, y);
    ds_write_pixels(j->slots, j->dx, plane, pixel, count, y);
}

/* Item: one chunk of a pair of planes; the last one of a plane has its tail. */
static void task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t chunk = item % j->chunks, begin = chunk * j->chunk, all = j->floats / DS_BLOCK;
    const int64_t stop = all - begin < j->chunk ? all : begin + j->chunk;
    int64_t end, plane = ds_pair_blocks(&j->pairs, item / j->chunks, &end);
    (void)worker;
    for (; plane < end; plane++) {
        double sum = 0;
        for (int64_t pixel = begin; pixel < stop; pixel += j->stretch)
            add_pixels(j, plane, pixel, stop - pixel < j->stretch ? stop - pixel : j->stretch,
                       &sum);
        if (chunk == j->chunks - 1)
            finish_plane(j, j->floats % DS_BLOCK, &sum);
        if (!j->dx)
            j->partial[plane * j->chunks + chunk] = sum;
    }
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
    ds_pool_run(backend->pool, j.pairs.count * j.chunks, task, &j);
    for (int64_t i = 0; i < items; i++)
        sum += j.partial[i];
    *(float *)step->out->data = (float)(sum * DS_ATTR(feature_loss, step->attr).scale);
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    job j = make_job(backend, step, 3);
    const double dl = (double)*(const float *)step->in[2]->data;
    j.dx = step->out;
    j.factor = (float)(2 * dl * DS_ATTR(feature_loss_backward, step->attr).scale);
    ds_pool_run(backend->pool, j.pairs.count * j.chunks, task, &j);
}

const ds_kernel ds_cpu_feature_loss = {
    .accepts = accepts, .prepare = prepare, .run = loss_run, .takes_half = true};
const ds_kernel ds_cpu_feature_loss_backward = {
    .accepts = accepts_backward, .run = backward_run, .in_place = 3, .takes_half = true};
