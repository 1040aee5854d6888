/* Adaptive instance normalisation of maps in blocks of 16 channels; formulas: ops/adain.c. */
#include "cpu/channels.h"
#include "cpu/half.h"

#include <math.h>

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_is_blocked(step->in[0]) && ds_no_epilogue(step);
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = ds_channels_bytes(step->in[0]);
    return status->code;
}

/* Mean and deviation that entry i of a vector per channel shall have; NULL in an empty lane. */
static const float *style_at(const ds_tensor *style, const ds_tensor *x, int64_t i)
{
    const int64_t n = style->shape.n == 1 ? 0 : i / ds_lanes(x), c = i % ds_lanes(x);
    return c < x->shape.c ? (const float *)style->data + (n * x->shape.c + c) * 2 : NULL;
}

static double divisor_of(ds_spread spread, int64_t unbiased)
{
    return spread.count - (unbiased ? 1 : 0);
}

static double deviation_of(ds_spread spread, double epsilon, int64_t unbiased)
{
    return sqrt(spread.squares / divisor_of(spread, unbiased) + epsilon);
}

typedef struct blend {
    const ds_slots *slots;
    const ds_step *step;
    const float *scale, *shift;
    ds_pairs pairs;
    int64_t chunks; /* of a block */
} blend;

/* Item: one chunk of pixels of a pair of blocks. */
static void blend_task(void *context, int64_t item, int worker)
{
    const blend *b = context;
    const ds_tensor *x = b->step->in[0], *strength = b->step->in[2], *out = b->step->out;
    const int64_t pixel = item % b->chunks * DS_HALF_CHUNK, pixels = x->shape.h * x->shape.w;
    const int64_t count = pixels - pixel < DS_HALF_CHUNK ? pixels - pixel : DS_HALF_CHUNK;
    float buffer[DS_HALF_CHUNK_FLOATS], made[DS_HALF_CHUNK_FLOATS];
    int64_t end, block = ds_pair_blocks(&b->pairs, item / b->chunks, &end);
    (void)worker;
    for (; block < end; block++) {
        const int64_t n = strength->shape.n == 1 ? 0 : block / b->pairs.blocks;
        float *y = ds_pixels_to_write(out, block, pixel, made);
        b->slots->blend_pixels(ds_read_pixels(b->slots, x, block, pixel, count, buffer),
                               b->scale + block * DS_BLOCK, b->shift + block * DS_BLOCK,
                               (const float *)strength->data + n * pixels + pixel, y, count);
        ds_write_pixels(b->slots, out, block, pixel, count, y);
    }
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_adain_attr a = DS_ATTR(adain, step->attr);
    const ds_tensor *x = step->in[0];
    ds_channels channels = ds_channels_of(x, step->workspace);
    float *scale = channels.vector[0], *shift = channels.vector[1];
    ds_channel_spreads(backend, x, &channels);
    for (int64_t i = 0; i < channels.count; i++) {
        const float *style = style_at(step->in[1], x, i);
        const ds_spread spread = channels.spread[i];
        const double ratio =
            style ? (double)style[1] / deviation_of(spread, a.epsilon, a.unbiased) : 0;
        scale[i] = (float)ratio;
        shift[i] = style ? (float)((double)style[0] - ratio * spread.mean) : 0;
    }
    if (step->inputs < 3) {
        ds_scale_channels(backend, step, scale, shift);
        return;
    }
    const int64_t chunks = (x->shape.h * x->shape.w + DS_HALF_CHUNK - 1) / DS_HALF_CHUNK;
    blend b = {ds_cpu_slots(backend->level),           step,  scale, shift,
               ds_pairs_of(x, ds_step_has_half(step)), chunks};
    ds_pool_run(backend->pool, b.pairs.count * chunks, blend_task, &b);
}

/* Spreads of x, and the sums of s dy and s dy (x - mu). */
static ds_channels measure(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *dy = step->in[0], *x = step->in[1];
    ds_channels channels = ds_channels_of(x, step->workspace);
    float *mean = channels.vector[3];
    ds_channel_spreads(backend, x, &channels);
    for (int64_t i = 0; i < channels.count; i++)
        mean[i] = (float)channels.spread[i].mean;
    ds_channel_sums(backend, dy, x, mean, step->inputs > 3 ? step->in[3] : NULL, &channels);
    return channels;
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_attr a = DS_ATTR(adain_backward, step->attr);
    const ds_tensor *dy = step->in[0], *x = step->in[1];
    const ds_channels channels = measure(backend, step);
    float *by_dy = channels.vector[0], *by_x = channels.vector[1], *rest = channels.vector[2];
    for (int64_t i = 0; i < channels.count; i++) {
        const float *style = style_at(step->in[2], x, i);
        const ds_spread spread = channels.spread[i];
        const double deviation = deviation_of(spread, a.epsilon, a.unbiased);
        const double ratio = style ? (double)style[1] / deviation : 0;
        const double slope =
            ratio * channels.sums[i].gx / (divisor_of(spread, a.unbiased) * deviation * deviation);
        by_dy[i] = (float)ratio;
        by_x[i] = (float)-slope;
        rest[i] = (float)(slope * spread.mean - ratio * channels.sums[i].g / spread.count);
    }
    ds_combine_channels(backend, dy, x, by_dy, by_x, rest, step->inputs > 3 ? step->in[3] : NULL,
                        step->out);
}

static void backward_style_run(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_style_attr a = DS_ATTR(adain_backward_style, step->attr);
    const ds_tensor *x = step->in[1], *out = step->out;
    const ds_channels channels = measure(backend, step);
    const int64_t lanes = ds_lanes(x);
    for (int64_t m = 0; m < out->shape.n; m++)
        for (int64_t c = 0; c < x->shape.c; c++) {
            double mean = 0, deviation = 0;
            for (int64_t n = m; n < x->shape.n; n += out->shape.n) {
                const int64_t i = n * lanes + c;
                mean += channels.sums[i].g;
                deviation +=
                    channels.sums[i].gx / deviation_of(channels.spread[i], a.epsilon, a.unbiased);
            }
            float *to = (float *)out->data + (m * x->shape.c + c) * 2;
            to[0] = (float)mean;
            to[1] = (float)deviation;
        }
}

const ds_kernel ds_cpu_adain = {.accepts = accepts,
                                .prepare = prepare,
                                .run = run,
                                .in_place = 1,
                                .takes_half = true,
                                .statistics = 1};
const ds_kernel ds_cpu_adain_backward = {.accepts = accepts,
                                         .prepare = prepare,
                                         .run = backward_run,
                                         .in_place = 1 | 2,
                                         .takes_half = true,
                                         .statistics = 2};
const ds_kernel ds_cpu_adain_backward_style = {.accepts = accepts,
                                               .prepare = prepare,
                                               .run = backward_style_run,
                                               .takes_half = true,
                                               .statistics = 2};
