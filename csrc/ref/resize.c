#include "ref/ref.h"

#include <string.h>

/* What one output pixel of a side reads: (1 - part) x[low] + part x[high]. */
typedef struct sample {
    int64_t low, high;
    ds_real part;
} sample;

static sample sample_at(int64_t i, int64_t from, int64_t to, int64_t mode, bool align_corners)
{
    if (mode == DS_NEAREST)
        return (sample){i * from / to, i * from / to, 0};
    double position = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    if (align_corners)
        position = to > 1 ? (double)i * (double)(from - 1) / (double)(to - 1) : 0;
    if (position < 0)
        position = 0;
    int64_t low = (int64_t)position;
    if (low > from - 1)
        low = from - 1;
    return (sample){low, low + 1 < from ? low + 1 : low, (ds_real)(position - (double)low)};
}

static void run(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_resize_attr a = DS_ATTR(resize, step->attr);
    const ds_shape x = step->in[0]->shape, y = step->out->shape;
    ds_real *to = ds_real_data(step->out);
    for (int64_t plane = 0; plane < y.n * y.c; plane++)
        for (int64_t i = 0; i < y.h; i++) {
            const sample v = sample_at(i, x.h, y.h, a.mode, a.align_corners);
            const ds_real *low = ds_plane(step->in[0], 0, plane) + v.low * x.w;
            const ds_real *high = ds_plane(step->in[0], 0, plane) + v.high * x.w;
            for (int64_t j = 0; j < y.w; j++) {
                const sample u = sample_at(j, x.w, y.w, a.mode, a.align_corners);
                const ds_real above = (1 - u.part) * low[u.low] + u.part * low[u.high];
                const ds_real below = (1 - u.part) * high[u.low] + u.part * high[u.high];
                *to++ = (1 - v.part) * above + v.part * below;
            }
        }
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_resize_backward_attr a = DS_ATTR(resize_backward, step->attr);
    const ds_shape y = step->in[0]->shape, x = step->out->shape;
    const ds_real *dy = ds_real_data(step->in[0]);
    memset(step->out->data, 0, (size_t)ds_count(x) * sizeof(ds_real));
    for (int64_t plane = 0; plane < y.n * y.c; plane++)
        for (int64_t i = 0; i < y.h; i++) {
            const sample v = sample_at(i, x.h, y.h, a.mode, a.align_corners);
            ds_real *low = ds_plane(step->out, 0, plane) + v.low * x.w;
            ds_real *high = ds_plane(step->out, 0, plane) + v.high * x.w;
            for (int64_t j = 0; j < y.w; j++, dy++) {
                const sample u = sample_at(j, x.w, y.w, a.mode, a.align_corners);
                low[u.low] += (1 - v.part) * (1 - u.part) * *dy;
                low[u.high] += (1 - v.part) * u.part * *dy;
                high[u.low] += v.part * (1 - u.part) * *dy;
                high[u.high] += v.part * u.part * *dy;
            }
        }
}

const ds_kernel DS_REF(resize) = {.run = run};
const ds_kernel DS_REF(resize_backward) = {.run = run_backward};
