/* add, multiply, affine, sum_to and broadcast; rules: ops/arithmetic.c. What these kernels decline
   (sums and repetitions along single sides of a map) runs through ref. */
#include "cpu/channels.h"
#include "cpu/conv.h"
#include "cpu/flat.h"

#include <string.h>

/* Whether the tensor has one value per map: per channel, per picture and channel, or one in all. */
static bool is_per_map(const ds_tensor *b)
{
    return b->shape.h == 1 && b->shape.w == 1;
}

/* The value of such a tensor for entry i of a vector per channel of x; zero in empty lanes. */
static float per_map(const ds_tensor *b, const ds_tensor *x, int64_t i)
{
    const int64_t n = b->shape.n == 1 ? 0 : i / ds_lanes(x);
    const int64_t c = i % ds_lanes(x), lane = b->shape.c == 1 ? 0 : c;
    if (c >= x->shape.c)
        return 0;
    return ((const float *)b->data)[n * ds_lanes(b) + lane];
}

static bool is_same(const ds_step *step)
{
    return ds_same_shape(step->in[0]->shape, step->in[1]->shape) &&
           ds_is_blocked(step->in[0]) == ds_is_blocked(step->in[1]);
}

static bool accepts_add(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    if (is_same(step))
        return !step->epilogue.addend && ds_finish_accepts(step);
    return is_per_map(step->in[1]) && ds_finish_accepts(step);
}

static bool accepts_multiply(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    if (is_same(step))
        return ds_no_epilogue(step);
    return is_per_map(step->in[1]) && ds_finish_accepts(step);
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = ds_channels_bytes(step->in[0]);
    return status->code;
}

static void apply_add(const ds_flat *flat, const float *const in[], float *y, int64_t count)
{
    ds_finish finish = *(const ds_finish *)flat->context;
    finish.addend = in[1];
    finish.gate = in[2];
    flat->slots->finish_pixels(in[0], &finish, y, count);
}

static void apply_multiply(const ds_flat *flat, const float *const in[], float *y, int64_t count)
{
    flat->slots->multiply(in[0], in[1], y, count);
}

/* y = finish(scale x + shift) with what the vectors of the step's workspace hold. */
static void scale(ds_backend *backend, const ds_step *step, const ds_channels *channels)
{
    const ds_finish finish = ds_finish_of(step, NULL);
    ds_scale_channels(backend, step->in[0], channels->vector[0], channels->vector[1], &finish,
                      step->out);
}

static void add_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *b = step->in[1];
    const ds_finish finish = ds_finish_of(step, NULL);
    const ds_channels channels = ds_channels_of(x, step->workspace);
    if (is_same(step)) {
        ds_flat_run(backend->pool, &(ds_flat){.apply = apply_add,
                                              .slots = ds_cpu_slots(backend->level),
                                              .context = &finish,
                                              .in = {x->data, b->data, finish.gate},
                                              .y = step->out->data,
                                              .count = ds_stored(x)});
        return;
    }
    for (int64_t i = 0; i < channels.count; i++) {
        channels.vector[0][i] = 1;
        channels.vector[1][i] = per_map(b, x, i);
    }
    scale(backend, step, &channels);
}

static void multiply_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *b = step->in[1];
    const ds_channels channels = ds_channels_of(x, step->workspace);
    if (is_same(step)) {
        ds_flat_run(backend->pool, &(ds_flat){.apply = apply_multiply,
                                              .slots = ds_cpu_slots(backend->level),
                                              .in = {x->data, b->data},
                                              .y = step->out->data,
                                              .count = ds_stored(x)});
        return;
    }
    for (int64_t i = 0; i < channels.count; i++) {
        channels.vector[0][i] = per_map(b, x, i);
        channels.vector[1][i] = 0;
    }
    scale(backend, step, &channels);
}

static bool accepts_affine(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_finish_accepts(step);
}

static void affine_run(ds_backend *backend, const ds_step *step)
{
    const ds_affine_attr a = DS_ATTR(affine, step->attr);
    const ds_tensor *x = step->in[0];
    const ds_channels channels = ds_channels_of(x, step->workspace);
    for (int64_t i = 0; i < channels.count; i++) {
        const bool used = i % ds_lanes(x) < x->shape.c;
        channels.vector[0][i] = (float)a.scale;
        channels.vector[1][i] = used ? (float)a.shift : 0;
    }
    scale(backend, step, &channels);
}

/* Sums over whole maps: the result has one value per channel, per picture, both or neither. */
static bool accepts_sum(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) && is_per_map(step->out) && !is_per_map(step->in[0]);
}

static void sum_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0];
    const ds_shape s = x->shape, o = step->out->shape;
    ds_channels channels = ds_channels_of(x, step->workspace);
    ds_channel_sums(backend, x, NULL, NULL, NULL, &channels);
    for (int64_t n = 0; n < o.n; n++)
        for (int64_t c = 0; c < o.c; c++) {
            double sum = 0;
            for (int64_t i = n; i < (o.n == 1 ? s.n : n + 1); i++)
                for (int64_t j = c; j < (o.c == 1 ? s.c : c + 1); j++)
                    sum += channels.sums[i * ds_lanes(x) + j].g;
            ((float *)step->out->data)[n * o.c + c] = (float)sum;
        }
}

/* One value per map, or a change of layout. */
static bool accepts_broadcast(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_no_epilogue(step) &&
           (is_per_map(step->in[0]) || ds_same_shape(step->in[0]->shape, step->out->shape));
}

typedef struct fill {
    const ds_step *step;
    int64_t planes; /* of all pictures: blocks of channels, or channels */
} fill;

/* Item: one plane of the output. */
static void fill_task(void *context, int64_t plane, int worker)
{
    const fill *f = context;
    const ds_tensor *y = f->step->out;
    const int64_t floats = ds_stored(y) / f->planes, width = ds_is_blocked(y) ? DS_BLOCK : 1;
    float *to = (float *)y->data + plane * floats, value[DS_BLOCK];
    (void)worker;
    for (int64_t i = 0; i < DS_BLOCK; i++)
        value[i] = per_map(f->step->in[0], y, plane * width + i % width);
    for (int64_t i = 0; i < floats; i++)
        to[i] = value[i % DS_BLOCK];
}

static void broadcast_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *y = step->out;
    fill f = {step, y->shape.n * (ds_is_blocked(y) ? ds_blocks(y->shape.c) : y->shape.c)};
    if (is_per_map(x))
        ds_pool_run(backend->pool, f.planes, fill_task, &f);
    else if (ds_is_blocked(x) == ds_is_blocked(y))
        memcpy(y->data, x->data, (size_t)ds_stored(y) * sizeof(float));
    else if (ds_is_blocked(y))
        ds_cpu_block(backend->pool, x->data, y);
    else
        ds_cpu_unblock(backend->pool, x, y->data);
}

const ds_kernel ds_cpu_add = {
    .accepts = accepts_add, .prepare = prepare, .run = add_run, .in_place = 3};
const ds_kernel ds_cpu_multiply = {
    .accepts = accepts_multiply, .prepare = prepare, .run = multiply_run, .in_place = 3};
const ds_kernel ds_cpu_affine = {
    .accepts = accepts_affine, .prepare = prepare, .run = affine_run, .in_place = 1};
const ds_kernel ds_cpu_sum_to = {.accepts = accepts_sum, .prepare = prepare, .run = sum_run};
const ds_kernel ds_cpu_broadcast = {.accepts = accepts_broadcast, .run = broadcast_run};
