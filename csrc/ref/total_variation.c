#include "ref/ref.h"

static double square(double value)
{
    return value * value;
}

static double map_variation(const ds_real *map, int64_t h, int64_t w)
{
    double sum = 0;
    for (int64_t i = 0; i < h; i++)
        for (int64_t j = 0; j < w; j++) {
            const double here = (double)map[i * w + j];
            if (i + 1 < h)
                sum += square((double)map[(i + 1) * w + j] - here);
            if (j + 1 < w)
                sum += square((double)map[i * w + j + 1] - here);
        }
    return sum;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_shape s = step->in[0]->shape;
    double sum = 0;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            sum += map_variation(ds_plane(step->in[0], n, c), s.h, s.w);
    *ds_real_data(step->out) = (ds_real)(DS_ATTR(total_variation, step->attr).scale * sum);
}

/* Pixel (i, j) less each of its neighbours. */
static double differences(const ds_real *map, ds_shape s, int64_t i, int64_t j)
{
    const double here = (double)map[i * s.w + j];
    double sum = 0;
    if (i > 0)
        sum += here - (double)map[(i - 1) * s.w + j];
    if (i + 1 < s.h)
        sum += here - (double)map[(i + 1) * s.w + j];
    if (j > 0)
        sum += here - (double)map[i * s.w + j - 1];
    if (j + 1 < s.w)
        sum += here - (double)map[i * s.w + j + 1];
    return sum;
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_shape s = step->in[0]->shape;
    const double factor = 2 * DS_ATTR(total_variation_backward, step->attr).scale *
                          (double)*ds_real_data(step->in[1]);
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++)
            for (int64_t i = 0; i < s.h; i++)
                for (int64_t j = 0; j < s.w; j++)
                    ds_plane(step->out, n, c)[i * s.w + j] =
                        (ds_real)(factor * differences(ds_plane(step->in[0], n, c), s, i, j));
}

const ds_kernel DS_REF(total_variation) = {.run = run};
const ds_kernel DS_REF(total_variation_backward) = {.run = run_backward};
