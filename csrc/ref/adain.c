#include "ref/statistics.h"

/* The picture of `tensor` that goes with picture n: its only one, or its n-th. */
static int64_t shared(const ds_tensor *tensor, int64_t n)
{
    return tensor->shape.n == 1 ? 0 : n;
}

static double strength_of(const ds_tensor *strength, int64_t n, int64_t k)
{
    return strength ? (double)ds_plane(strength, shared(strength, n), 0)[k] : 1;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_adain_attr a = DS_ATTR(adain, step->attr);
    const ds_shape s = step->in[0]->shape;
    const ds_tensor *style = step->in[1];
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++) {
            const ds_real *x = ds_plane(step->in[0], n, c);
            const ds_real *target = ds_plane(style, shared(style, n), c);
            const ds_statistics stats = ds_map_statistics(x, s.h * s.w, a.epsilon, a.unbiased);
            for (int64_t k = 0; k < s.h * s.w; k++) {
                const double weight = strength_of(step->in[2], n, k);
                const double z = ((double)x[k] - stats.mean) / stats.deviation;
                ds_plane(step->out, n, c)[k] =
                    (ds_real)(weight * ((double)target[1] * z + (double)target[0]) +
                              (1 - weight) * (double)x[k]);
            }
        }
}

/* What both gradients of one map need. */
typedef struct sums {
    ds_statistics stats;
    double g;  /* sum of s dy */
    double gz; /* sum of s dy z */
} sums;

static sums sum_map(const ds_step *step, int64_t n, int64_t c, double epsilon, int64_t unbiased)
{
    const ds_real *dy = ds_plane(step->in[0], n, c), *x = ds_plane(step->in[1], n, c);
    const int64_t pixels = step->in[1]->shape.h * step->in[1]->shape.w;
    sums r = {.stats = ds_map_statistics(x, pixels, epsilon, unbiased)};
    for (int64_t k = 0; k < pixels; k++) {
        const double g = strength_of(step->in[3], n, k) * (double)dy[k];
        r.g += g;
        r.gz += g * ((double)x[k] - r.stats.mean) / r.stats.deviation;
    }
    return r;
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_attr a = DS_ATTR(adain_backward, step->attr);
    const ds_tensor *style = step->in[2];
    const ds_shape s = step->in[1]->shape;
    const int64_t pixels = s.h * s.w;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++) {
            const ds_real *dy = ds_plane(step->in[0], n, c), *x = ds_plane(step->in[1], n, c);
            const sums r = sum_map(step, n, c, a.epsilon, a.unbiased);
            const double ratio =
                (double)ds_plane(style, shared(style, n), c)[1] / r.stats.deviation;
            for (int64_t k = 0; k < pixels; k++) {
                const double weight = strength_of(step->in[3], n, k);
                const double z = ((double)x[k] - r.stats.mean) / r.stats.deviation;
                const double styled =
                    weight * (double)dy[k] - r.g / (double)pixels - z * r.gz / r.stats.divisor;
                ds_plane(step->out, n, c)[k] =
                    (ds_real)((1 - weight) * (double)dy[k] + ratio * styled);
            }
        }
}

static void run_backward_style(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_style_attr a = DS_ATTR(adain_backward_style, step->attr);
    const ds_shape s = step->in[1]->shape;
    const int64_t styles = step->out->shape.n;
    (void)backend;
    for (int64_t m = 0; m < styles; m++)
        for (int64_t c = 0; c < s.c; c++) {
            double mean = 0, deviation = 0;
            for (int64_t n = m; n < s.n; n += styles) {
                const sums r = sum_map(step, n, c, a.epsilon, a.unbiased);
                mean += r.g;
                deviation += r.gz;
            }
            ds_plane(step->out, m, c)[0] = (ds_real)mean;
            ds_plane(step->out, m, c)[1] = (ds_real)deviation;
        }
}

const ds_kernel DS_REF(adain) = {.run = run};
const ds_kernel DS_REF(adain_backward) = {.run = run_backward};
const ds_kernel DS_REF(adain_backward_style) = {.run = run_backward_style};
