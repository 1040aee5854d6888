/* Statistics are summed in double: a map has up to millions of pixels. */
#include "ref/ref.h"

#include <math.h>

/* The pixels that share one mean: map c of pictures [begin, end). */
typedef struct group {
    int64_t c, begin, end;
} group;

static int64_t group_count(ds_shape x, bool whole_batch)
{
    return whole_batch ? x.c : x.n * x.c;
}

static group group_at(ds_shape x, bool whole_batch, int64_t index)
{
    if (whole_batch)
        return (group){index, 0, x.n};
    return (group){index % x.c, index / x.c, index / x.c + 1};
}

typedef struct statistics {
    double mean;
    double scale; /* 1 / sqrt(variance + epsilon) */
} statistics;

static statistics measure(const ds_tensor *x, group g, double epsilon)
{
    const int64_t pixels = x->shape.h * x->shape.w;
    const double count = (double)(pixels * (g.end - g.begin));
    double mean = 0, variance = 0;
    for (int64_t n = g.begin; n < g.end; n++)
        for (int64_t p = 0; p < pixels; p++)
            mean += ds_plane(x, n, g.c)[p];
    mean /= count;
    for (int64_t n = g.begin; n < g.end; n++)
        for (int64_t p = 0; p < pixels; p++) {
            const double difference = ds_plane(x, n, g.c)[p] - mean;
            variance += difference * difference;
        }
    return (statistics){mean, 1 / sqrt(variance / count + epsilon)};
}

/* Element c of input `input`, or `otherwise` where the input is left out. */
static double vector_at(const ds_step *step, int input, int64_t c, double otherwise)
{
    return input < step->inputs ? ds_real_data(step->in[input])[c] : otherwise;
}

/* out = (x - mean) * scale + shift on every pixel of map c of picture n. */
static void normalise_plane(const ds_step *step, int64_t n, int64_t c, double mean, double scale,
                            double shift)
{
    const ds_shape x = step->out->shape;
    const ds_real *from = ds_plane(step->in[0], n, c);
    ds_real *to = ds_plane(step->out, n, c);
    for (int64_t p = 0; p < x.h * x.w; p++)
        to[p] = (ds_real)((from[p] - mean) * scale + shift);
}

static void run_instance(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_instance_norm_attr a = DS_ATTR(instance_norm, step->attr);
    const ds_tensor *x = step->in[0];
    for (int64_t index = 0; index < group_count(x->shape, a.whole_batch); index++) {
        const group g = group_at(x->shape, a.whole_batch, index);
        const statistics s = measure(x, g, a.epsilon);
        const double scale = s.scale * vector_at(step, 1, g.c, 1);
        const double shift = vector_at(step, 2, g.c, 0);
        for (int64_t n = g.begin; n < g.end; n++)
            normalise_plane(step, n, g.c, s.mean, scale, shift);
    }
}

/* Sums over a group of dy and of dy * xhat. */
typedef struct sums {
    double dy, dy_xhat;
} sums;

static sums sum_group(const ds_tensor *dy, const ds_tensor *x, group g, statistics s)
{
    sums result = {0, 0};
    for (int64_t n = g.begin; n < g.end; n++) {
        const ds_real *gradient = ds_plane(dy, n, g.c), *from = ds_plane(x, n, g.c);
        for (int64_t p = 0; p < x->shape.h * x->shape.w; p++) {
            result.dy += gradient[p];
            result.dy_xhat += gradient[p] * (from[p] - s.mean) * s.scale;
        }
    }
    return result;
}

static void run_instance_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_instance_norm_backward_attr a = DS_ATTR(instance_norm_backward, step->attr);
    const ds_tensor *dy = step->in[0], *x = step->in[1];
    const int64_t pixels = x->shape.h * x->shape.w;
    for (int64_t index = 0; index < group_count(x->shape, a.whole_batch); index++) {
        const group g = group_at(x->shape, a.whole_batch, index);
        const statistics s = measure(x, g, a.epsilon);
        const sums total = sum_group(dy, x, g, s);
        const double count = (double)(pixels * (g.end - g.begin));
        const double scale = s.scale * vector_at(step, 2, g.c, 1);
        for (int64_t n = g.begin; n < g.end; n++) {
            const ds_real *gradient = ds_plane(dy, n, g.c), *from = ds_plane(x, n, g.c);
            ds_real *to = ds_plane(step->out, n, g.c);
            for (int64_t p = 0; p < pixels; p++) {
                const double xhat = (from[p] - s.mean) * s.scale;
                to[p] =
                    (ds_real)(scale * (gradient[p] - (total.dy + xhat * total.dy_xhat) / count));
            }
        }
    }
}

static void run_instance_backward_gamma(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_instance_norm_backward_gamma_attr a =
        DS_ATTR(instance_norm_backward_gamma, step->attr);
    const ds_tensor *dy = step->in[0], *x = step->in[1];
    const int64_t pictures = a.whole_batch ? 1 : x->shape.n;
    for (int64_t c = 0; c < x->shape.c; c++) {
        double sum = 0;
        for (int64_t n = 0; n < pictures; n++) {
            const group g = group_at(x->shape, a.whole_batch, n * x->shape.c + c);
            sum += sum_group(dy, x, g, measure(x, g, a.epsilon)).dy_xhat;
        }
        ds_real_data(step->out)[c] = (ds_real)sum;
    }
}

static void run_batch(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_batch_norm_attr a = DS_ATTR(batch_norm, step->attr);
    const ds_shape x = step->out->shape;
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t c = 0; c < x.c; c++) {
            const double gamma = vector_at(step, 3, c, 1), beta = vector_at(step, 4, c, 0);
            const double scale = gamma / sqrt(vector_at(step, 2, c, 1) + a.epsilon);
            normalise_plane(step, n, c, vector_at(step, 1, c, 0), scale, beta);
        }
}

static void run_batch_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_batch_norm_backward_attr a = DS_ATTR(batch_norm_backward, step->attr);
    const ds_shape x = step->out->shape;
    for (int64_t n = 0; n < x.n; n++)
        for (int64_t c = 0; c < x.c; c++) {
            const double gamma = vector_at(step, 2, c, 1);
            const double scale = gamma / sqrt(vector_at(step, 1, c, 1) + a.epsilon);
            normalise_plane(step, n, c, 0, scale, 0);
        }
}

const ds_kernel DS_REF(instance_norm) = {.run = run_instance, .in_place = 1};
const ds_kernel DS_REF(instance_norm_backward) = {.run = run_instance_backward, .in_place = 1 | 2};
const ds_kernel DS_REF(instance_norm_backward_gamma) = {.run = run_instance_backward_gamma};
const ds_kernel DS_REF(batch_norm) = {.run = run_batch, .in_place = 1};
const ds_kernel DS_REF(batch_norm_backward) = {.run = run_batch_backward, .in_place = 1};
