#include "ref/ref.h"

#include <string.h>

/* Copies a block of (count) rows of `length` values between two places with their own pitch. */
static void copy_rows(ds_real *to, int64_t to_pitch, const ds_real *from, int64_t from_pitch,
                      int64_t count, int64_t length)
{
    for (int64_t i = 0; i < count; i++)
        memcpy(to + i * to_pitch, from + i * from_pitch, (size_t)length * sizeof(ds_real));
}

/* A shape seen from one axis: `outer` blocks of `inner` neighbouring values per index. */
typedef struct view {
    int64_t outer, size, inner;
} view;

static view view_of(ds_shape s, int64_t axis)
{
    if (axis == 1)
        return (view){s.n, s.c, s.h * s.w};
    return axis == 2 ? (view){s.n * s.c, s.h, s.w} : (view){s.n * s.c * s.h, s.w, 1};
}

static void run_concat(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const view y = view_of(step->out->shape, 1);
    ds_real *to = ds_real_data(step->out);
    for (int i = 0; i < step->inputs; i++) {
        const int64_t block = step->in[i]->shape.c * y.inner;
        copy_rows(to, y.size * y.inner, ds_real_data(step->in[i]), block, y.outer, block);
        to += block;
    }
}

static void run_slice(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_slice_attr a = DS_ATTR(slice, step->attr);
    const view x = view_of(step->in[0]->shape, a.axis);
    const int64_t block = (a.end - a.begin) * x.inner;
    copy_rows(ds_real_data(step->out), block, ds_real_data(step->in[0]) + a.begin * x.inner,
              x.size * x.inner, x.outer, block);
}

static void run_slice_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_slice_backward_attr a = DS_ATTR(slice_backward, step->attr);
    const view y = view_of(step->in[0]->shape, a.axis), x = view_of(step->out->shape, a.axis);
    memset(step->out->data, 0, (size_t)ds_count(step->out->shape) * sizeof(ds_real));
    copy_rows(ds_real_data(step->out) + a.begin * x.inner, x.size * x.inner,
              ds_real_data(step->in[0]), y.size * y.inner, x.outer, y.size * y.inner);
}

const ds_kernel DS_REF(concat) = {.run = run_concat};
const ds_kernel DS_REF(slice) = {.run = run_slice};
const ds_kernel DS_REF(slice_backward) = {.run = run_slice_backward};
