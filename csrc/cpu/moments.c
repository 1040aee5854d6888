/* Mean and standard deviation of each map; formulas: ops/moments.c. */
#include "cpu/channels.h"

#include <math.h>

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = ds_channels_bytes(step->in[0]);
    return status->code;
}

/* The moments of entry i of a vector per channel, or NULL in an empty lane. */
static float *moments_at(const ds_tensor *moments, const ds_tensor *x, int64_t i)
{
    const int64_t n = i / ds_lanes(x), c = i % ds_lanes(x);
    return c < x->shape.c ? (float *)moments->data + (n * x->shape.c + c) * 2 : NULL;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_moments_attr a = DS_ATTR(moments, step->attr);
    const ds_tensor *x = step->in[0];
    ds_channels channels = ds_channels_of(x, step->workspace);
    ds_channel_spreads(backend, x, &channels);
    for (int64_t i = 0; i < channels.count; i++) {
        const ds_spread spread = channels.spread[i];
        float *to = moments_at(step->out, x, i);
        if (!to)
            continue;
        to[0] = (float)spread.mean;
        to[1] = (float)sqrt(spread.squares / (spread.count - (a.unbiased ? 1 : 0)) + a.epsilon);
    }
}

/* dx = dmu / M + slope (x - mu). */
static void backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_moments_backward_attr a = DS_ATTR(moments_backward, step->attr);
    const ds_tensor *x = step->in[0];
    const double pixels = (double)(x->shape.h * x->shape.w);
    const ds_channels channels = ds_channels_of(x, step->workspace);
    float *scale = channels.vector[0], *shift = channels.vector[1];
    for (int64_t i = 0; i < channels.count; i++) {
        const float *moments = moments_at(step->in[1], x, i), *d = moments_at(step->in[2], x, i);
        scale[i] = shift[i] = 0;
        if (!moments)
            continue;
        const double slope = (double)d[1] / ((pixels - (a.unbiased ? 1 : 0)) * (double)moments[1]);
        scale[i] = (float)slope;
        shift[i] = (float)((double)d[0] / pixels - slope * (double)moments[0]);
    }
    ds_scale_channels(backend, step, scale, shift);
}

const ds_kernel ds_cpu_moments = {
    .prepare = prepare, .run = run, .takes_half = true, .statistics = 1};
const ds_kernel ds_cpu_moments_backward = {
    .prepare = prepare, .run = backward_run, .in_place = 1, .takes_half = true};
