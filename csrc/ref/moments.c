#include "ref/statistics.h"

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_moments_attr a = DS_ATTR(moments, step->attr);
    const ds_shape s = step->in[0]->shape;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++) {
            const ds_statistics stats =
                ds_map_statistics(ds_plane(step->in[0], n, c), s.h * s.w, a.epsilon, a.unbiased);
            ds_plane(step->out, n, c)[0] = (ds_real)stats.mean;
            ds_plane(step->out, n, c)[1] = (ds_real)stats.deviation;
        }
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_moments_backward_attr a = DS_ATTR(moments_backward, step->attr);
    const ds_shape s = step->in[0]->shape;
    const int64_t pixels = s.h * s.w;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++) {
            const ds_real *x = ds_plane(step->in[0], n, c);
            const ds_real *moments = ds_plane(step->in[1], n, c), *d = ds_plane(step->in[2], n, c);
            const double divisor = (double)(pixels - (a.unbiased ? 1 : 0));
            const double slope = (double)d[1] / (divisor * (double)moments[1]);
            for (int64_t k = 0; k < pixels; k++)
                ds_plane(step->out, n, c)[k] =
                    (ds_real)((double)d[0] / (double)pixels +
                              slope * ((double)x[k] - (double)moments[0]));
        }
}

const ds_kernel DS_REF(moments) = {.run = run};
const ds_kernel DS_REF(moments_backward) = {.run = run_backward, .in_place = 1};
