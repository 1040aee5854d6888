#include "ref/ref.h"

#include <string.h>

/* The pixel of a side of `size` that index i, counted from the inner picture's edge, shows; -1 for
   a zero. */
static int64_t source(int64_t i, int64_t size, int64_t mode)
{
    if (i >= 0 && i < size)
        return i;
    if (mode == DS_PAD_ZERO)
        return -1;
    if (mode == DS_PAD_REPLICATE)
        return i < 0 ? 0 : size - 1;
    return i < 0 ? -i : 2 * (size - 1) - i;
}

static void run(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_pad_attr a = DS_ATTR(pad, step->attr);
    const ds_shape x = step->in[0]->shape, y = step->out->shape;
    ds_real *to = ds_real_data(step->out);
    for (int64_t plane = 0; plane < y.n * y.c; plane++)
        for (int64_t i = 0; i < y.h; i++) {
            const int64_t row = source(i - a.top, x.h, a.mode);
            const ds_real *from = ds_plane(step->in[0], 0, plane) + (row < 0 ? 0 : row) * x.w;
            for (int64_t j = 0; j < y.w; j++) {
                const int64_t column = source(j - a.left, x.w, a.mode);
                *to++ = row < 0 || column < 0 ? 0 : from[column];
            }
        }
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_pad_backward_attr a = DS_ATTR(pad_backward, step->attr);
    const ds_shape y = step->in[0]->shape, x = step->out->shape;
    const ds_real *dy = ds_real_data(step->in[0]);
    memset(step->out->data, 0, (size_t)ds_count(x) * sizeof(ds_real));
    for (int64_t plane = 0; plane < y.n * y.c; plane++)
        for (int64_t i = 0; i < y.h; i++) {
            const int64_t row = source(i - a.top, x.h, a.mode);
            ds_real *dx = ds_plane(step->out, 0, plane) + (row < 0 ? 0 : row) * x.w;
            for (int64_t j = 0; j < y.w; j++, dy++) {
                const int64_t column = source(j - a.left, x.w, a.mode);
                if (row >= 0 && column >= 0)
                    dx[column] += *dy;
            }
        }
}

const ds_kernel DS_REF(pad) = {.run = run};
const ds_kernel DS_REF(pad_backward) = {.run = run_backward};
