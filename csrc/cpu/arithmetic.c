/* add, multiply, affine, sum_to and broadcast; rules: ops/arithmetic.c. What these kernels decline
   (sums and repetitions along single sides of a map) runs through ref. */
#include "cpu/channels.h"
#include "cpu/conv.h"
#include "cpu/flat.h"
#include "cpu/half.h"

#include <string.h>

/* Whether the tensor has one value per map: per channel, per picture and channel, or one in all. */
static bool is_per_map(const ds_tensor *b)
{
    return b->shape.h == 1 && b->shape.w == 1;
}

/* Channel c of picture n of such a tensor. */
static float value_at(const ds_tensor *b, int64_t n, int64_t c)
{
    if (ds_is_half(b))
        return ds_widen(ds_half_block(b, n, c / DS_HALF_BLOCK)[c % DS_HALF_BLOCK]);
    return ((const float *)b->data)[n * ds_lanes(b) + c];
}

/* The value of such a tensor for entry i of a vector per channel of x; zero in empty lanes. */
static float per_map(const ds_tensor *b, const ds_tensor *x, int64_t i)
{
    const int64_t n = b->shape.n == 1 ? 0 : i / ds_lanes(x);
    const int64_t c = i % ds_lanes(x), lane = b->shape.c == 1 ? 0 : c;
    return c < x->shape.c ? value_at(b, n, lane) : 0;
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

static void add_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *b = step->in[1];
    const ds_finish finish = ds_finish_of(step, NULL);
    const ds_channels channels = ds_channels_of(x, step->workspace);
    if (is_same(step)) {
        ds_flat_run(backend->pool, &(ds_flat){.apply = apply_add,
                                              .slots = ds_cpu_slots(backend->level),
                                              .context = &finish,
                                              .in = {x, b, step->epilogue.gate},
                                              .y = step->out});
        return;
    }
    for (int64_t i = 0; i < channels.count; i++) {
        channels.vector[0][i] = 1;
        channels.vector[1][i] = per_map(b, x, i);
    }
    ds_scale_channels(backend, step, channels.vector[0], channels.vector[1]);
}

static void multiply_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *b = step->in[1];
    const ds_channels channels = ds_channels_of(x, step->workspace);
    if (is_same(step)) {
        ds_flat_run(backend->pool, &(ds_flat){.apply = apply_multiply,
                                              .slots = ds_cpu_slots(backend->level),
                                              .in = {x, b},
                                              .y = step->out});
        return;
    }
    for (int64_t i = 0; i < channels.count; i++) {
        channels.vector[0][i] = per_map(b, x, i);
        channels.vector[1][i] = 0;
    }
    ds_scale_channels(backend, step, channels.vector[0], channels.vector[1]);
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
    ds_scale_channels(backend, step, channels.vector[0], channels.vector[1]);
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
    const ds_slots *slots;
    const ds_step *step;
    ds_pairs pairs;
} fill;

/* Fills a plane of planar floats. */
static void fill_plane(const ds_tensor *y, int64_t plane, float value)
{
    const int64_t pixels = y->shape.h * y->shape.w;
    float *to = (float *)y->data + plane * pixels;
    for (int64_t i = 0; i < pixels; i++)
        to[i] = value;
}

static void fill_block(const fill *f, int64_t block)
{
    const ds_tensor *y = f->step->out;
    const int64_t pixels = y->shape.h * y->shape.w;
    float value[DS_BLOCK], buffer[DS_STRETCH_FLOATS];
    for (int64_t i = 0; i < DS_BLOCK; i++)
        value[i] = per_map(f->step->in[0], y, block * DS_BLOCK + i);
    for (int64_t pixel = 0; pixel < pixels; pixel += DS_STRETCH) {
        const int64_t count = ds_minimum(pixels - pixel, DS_STRETCH);
        float *to = ds_pixels_to_write(y, block, pixel, buffer);
        for (int64_t i = 0; i < count * DS_BLOCK; i++)
            to[i] = value[i % DS_BLOCK];
        ds_write_pixels(f->slots, y, block, pixel, count, to);
    }
}

/* Item: one plane, or pair of blocks, of the output. */
static void fill_task(void *context, int64_t item, int worker)
{
    const fill *f = context;
    const ds_tensor *y = f->step->out;
    int64_t end, at = ds_pair_blocks(&f->pairs, item, &end);
    (void)worker;
    for (; at < end; at++)
        if (ds_is_blocked(y))
            fill_block(f, at);
        else
            fill_plane(y, at, per_map(f->step->in[0], y, at));
}

/* The same values in another layout or type. */
static void convert(ds_backend *backend, const ds_tensor *x, const ds_tensor *y)
{
    if (x->dtype == y->dtype && ds_is_blocked(x) == ds_is_blocked(y))
        memcpy(y->data, x->data, ds_stored_bytes(y));
    else if (!ds_is_blocked(x))
        ds_cpu_block(backend->pool, x->data, y);
    else if (!ds_is_blocked(y))
        ds_cpu_unblock(backend->pool, x, y->data);
    else if (ds_is_half(x))
        ds_cpu_widen(backend, x, y);
    else
        ds_cpu_narrow(backend, x, y);
}

static void broadcast_run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *y = step->out;
    fill f = {ds_cpu_slots(backend->level), step, ds_pairs_of(y, ds_is_half(y))};
    if (is_per_map(x))
        ds_pool_run(backend->pool, f.pairs.count, fill_task, &f);
    else
        convert(backend, x, y);
}

const ds_kernel ds_cpu_add = {
    .accepts = accepts_add, .prepare = prepare, .run = add_run, .in_place = 3, .takes_half = true};
const ds_kernel ds_cpu_multiply = {.accepts = accepts_multiply,
                                   .prepare = prepare,
                                   .run = multiply_run,
                                   .in_place = 3,
                                   .takes_half = true};
const ds_kernel ds_cpu_affine = {.accepts = accepts_affine,
                                 .prepare = prepare,
                                 .run = affine_run,
                                 .in_place = 1,
                                 .takes_half = true};
const ds_kernel ds_cpu_sum_to = {
    .accepts = accepts_sum, .prepare = prepare, .run = sum_run, .takes_half = true};
const ds_kernel ds_cpu_broadcast = {
    .accepts = accepts_broadcast, .run = broadcast_run, .takes_half = true};
