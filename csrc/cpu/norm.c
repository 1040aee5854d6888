/* Normalisation: one pass for the statistics, one that applies them. Formulas: ops/norm.c. */
#include "cpu/norm.h"

#include "cpu/conv.h"

#include <math.h>

enum { MEAN = 2 }; /* among the vectors of ds_channels */

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_finish_accepts(step);
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    (void)backend;
    step->workspace_bytes = ds_channels_bytes(step->in[0]);
    return status->code;
}

/* Input `input` of a step, NULL: left out. */
static const ds_tensor *input_of(const ds_step *step, int input)
{
    return input < step->inputs ? step->in[input] : NULL;
}

/* Element c of a vector, or `otherwise` where it is left out. */
static double vector_at(const ds_tensor *vector, int64_t c, double otherwise)
{
    return vector ? (double)((const float *)vector->data)[c] : otherwise;
}

/* Gives the pictures of a batch the spread of all of them. */
static void join_batch(ds_channels *channels, int64_t pictures)
{
    const int64_t lanes = channels->count / pictures;
    for (int64_t lane = 0; lane < lanes; lane++) {
        ds_spread all = {0};
        for (int64_t n = 0; n < pictures; n++)
            all = ds_spread_join(all, channels->spread[n * lanes + lane]);
        for (int64_t n = 0; n < pictures; n++)
            channels->spread[n * lanes + lane] = all;
    }
}

static ds_channels measure(ds_backend *backend, const ds_tensor *x, bool whole_batch,
                           void *workspace)
{
    ds_channels channels = ds_channels_of(x, workspace);
    ds_channel_spreads(backend, x, &channels);
    if (whole_batch)
        join_batch(&channels, x->shape.n);
    return channels;
}

/* 1 / sqrt(variance + epsilon). */
static double scale_of(ds_spread spread, double epsilon)
{
    return 1 / sqrt(spread.squares / spread.count + epsilon);
}

ds_channels ds_norm_factors(ds_backend *backend, const ds_tensor *x, const int64_t *attr,
                            const ds_tensor *gamma, const ds_tensor *beta, void *workspace)
{
    const ds_instance_norm_attr a = DS_ATTR(instance_norm, attr);
    const ds_channels channels = measure(backend, x, a.whole_batch, workspace);
    for (int64_t i = 0; i < channels.count; i++) {
        const int64_t c = i % ds_lanes(x);
        const bool used = c < x->shape.c;
        const ds_spread spread = channels.spread[i];
        const double scale = used ? scale_of(spread, a.epsilon) * vector_at(gamma, c, 1) : 0;
        const double shift = used ? vector_at(beta, c, 0) - spread.mean * scale : 0;
        channels.vector[DS_NORM_SCALE][i] = (float)scale;
        channels.vector[DS_NORM_SHIFT][i] = (float)shift;
    }
    return channels;
}

static void instance_run(ds_backend *backend, const ds_step *step)
{
    const ds_channels channels = ds_norm_factors(
        backend, step->in[0], step->attr, input_of(step, 1), input_of(step, 2), step->workspace);
    ds_scale_channels(backend, step, channels.vector[DS_NORM_SCALE],
                      channels.vector[DS_NORM_SHIFT]);
}

/* Sums of dy and of dy (x - mean), of each picture or of the whole batch. */
static ds_channels sum_gradients(ds_backend *backend, const ds_step *step, bool whole_batch)
{
    const ds_tensor *dy = step->in[0], *x = step->in[1];
    ds_channels channels = measure(backend, x, whole_batch, step->workspace);
    const int64_t lanes = ds_lanes(x);
    for (int64_t i = 0; i < channels.count; i++)
        channels.vector[MEAN][i] = (float)channels.spread[i].mean;
    ds_channel_sums(backend, dy, x, channels.vector[MEAN], NULL, &channels);
    for (int64_t i = lanes; whole_batch && i < channels.count; i++) {
        channels.sums[i % lanes].g += channels.sums[i].g;
        channels.sums[i % lanes].gx += channels.sums[i].gx;
    }
    for (int64_t i = lanes; whole_batch && i < channels.count; i++)
        channels.sums[i] = channels.sums[i % lanes];
    return channels;
}

/* dx = scale (dy - mean(dy) - xhat mean(dy xhat)) is linear in dy and x. */
static void instance_backward_run(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_backward_attr a = DS_ATTR(instance_norm_backward, step->attr);
    const ds_tensor *dy = step->in[0], *x = step->in[1];
    const ds_channels channels = sum_gradients(backend, step, a.whole_batch);
    float *by_dy = channels.vector[0], *by_x = channels.vector[1], *rest = channels.vector[3];
    for (int64_t i = 0; i < channels.count; i++) {
        const int64_t c = i % ds_lanes(x);
        const ds_spread spread = channels.spread[i];
        const double inverse = scale_of(spread, a.epsilon);
        const double scale = c < x->shape.c ? inverse * vector_at(input_of(step, 2), c, 1) : 0;
        const double slope = scale * inverse * inverse * channels.sums[i].gx / spread.count;
        by_dy[i] = (float)scale;
        by_x[i] = (float)-slope;
        rest[i] = (float)(slope * spread.mean - scale * channels.sums[i].g / spread.count);
    }
    ds_combine_channels(backend, dy, x, by_dy, by_x, rest, NULL, step->out);
}

static void instance_backward_gamma_run(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_backward_gamma_attr a =
        DS_ATTR(instance_norm_backward_gamma, step->attr);
    const ds_tensor *x = step->in[1];
    const int64_t pictures = a.whole_batch ? 1 : x->shape.n, lanes = ds_lanes(x);
    const ds_channels channels = sum_gradients(backend, step, a.whole_batch);
    for (int64_t c = 0; c < x->shape.c; c++) {
        double sum = 0;
        for (int64_t n = 0; n < pictures; n++)
            sum += channels.sums[n * lanes + c].gx *
                   scale_of(channels.spread[n * lanes + c], a.epsilon);
        ((float *)step->out->data)[c] = (float)sum;
    }
}

/* y = scale (x - mean) + shift with the given scale of each channel. */
static void scale_given(ds_backend *backend, const ds_step *step, double epsilon, int var,
                        int gamma, bool centred)
{
    const ds_tensor *x = step->in[0];
    const ds_channels channels = ds_channels_of(x, step->workspace);
    for (int64_t i = 0; i < channels.count; i++) {
        const int64_t c = i % ds_lanes(x);
        channels.vector[DS_NORM_SCALE][i] = channels.vector[DS_NORM_SHIFT][i] = 0;
        if (c >= x->shape.c)
            continue;
        const double scale = vector_at(input_of(step, gamma), c, 1) /
                             sqrt(vector_at(input_of(step, var), c, 1) + epsilon);
        const double mean = centred ? vector_at(input_of(step, 1), c, 0) : 0;
        const double beta = centred ? vector_at(input_of(step, 4), c, 0) : 0;
        channels.vector[DS_NORM_SCALE][i] = (float)scale;
        channels.vector[DS_NORM_SHIFT][i] = (float)(beta - mean * scale);
    }
    ds_scale_channels(backend, step, channels.vector[DS_NORM_SCALE],
                      channels.vector[DS_NORM_SHIFT]);
}

static void batch_run(ds_backend *backend, const ds_step *step)
{
    scale_given(backend, step, DS_ATTR(batch_norm, step->attr).epsilon, 2, 3, true);
}

static void batch_backward_run(ds_backend *backend, const ds_step *step)
{
    scale_given(backend, step, DS_ATTR(batch_norm_backward, step->attr).epsilon, 1, 2, false);
}

const ds_kernel ds_cpu_instance_norm = {.accepts = accepts,
                                        .prepare = prepare,
                                        .run = instance_run,
                                        .in_place = 1,
                                        .takes_half = true,
                                        .statistics = 1};
const ds_kernel ds_cpu_instance_norm_backward = {.prepare = prepare,
                                                 .run = instance_backward_run,
                                                 .in_place = 1 | 2,
                                                 .takes_half = true,
                                                 .statistics = 2};
const ds_kernel ds_cpu_instance_norm_backward_gamma = {
    .prepare = prepare, .run = instance_backward_gamma_run, .takes_half = true, .statistics = 2};
const ds_kernel ds_cpu_batch_norm = {
    .accepts = accepts, .prepare = prepare, .run = batch_run, .in_place = 1, .takes_half = true};
const ds_kernel ds_cpu_batch_norm_backward = {.accepts = accepts,
                                              .prepare = prepare,
                                              .run = batch_backward_run,
                                              .in_place = 1,
                                              .takes_half = true};
