#include "ref/ref.h"

#include <math.h>
#include <string.h>

/* The pixels [begin, end) of one side that window i covers. */
typedef struct span {
    int64_t begin, end;
} span;

static span covered(int64_t i, int64_t kernel, int64_t stride, int64_t pad, int64_t size)
{
    const int64_t begin = i * stride - pad, end = begin + kernel;
    return (span){begin < 0 ? 0 : begin, end < size ? end : size};
}

/* The index in a plane of the first largest value; NaN counts as largest, so that it is seen. */
static int64_t largest(const ds_real *x, int64_t width, span rows, span columns)
{
    int64_t best = rows.begin * width + columns.begin;
    for (int64_t i = rows.begin; i < rows.end; i++)
        for (int64_t j = columns.begin; j < columns.end; j++)
            if (x[i * width + j] > x[best] || isnan(x[i * width + j]))
                best = i * width + j;
    return best;
}

static void run_max(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_max_pool_attr a = DS_ATTR(max_pool, step->attr);
    const ds_shape x = step->in[0]->shape, y = step->out->shape;
    for (int64_t plane = 0; plane < y.n * y.c; plane++) {
        const ds_real *from = ds_plane(step->in[0], 0, plane);
        ds_real *to = ds_plane(step->out, 0, plane);
        for (int64_t i = 0; i < y.h; i++)
            for (int64_t j = 0; j < y.w; j++)
                *to++ = from[largest(from, x.w, covered(i, a.kernel, a.stride, a.pad, x.h),
                                     covered(j, a.kernel, a.stride, a.pad, x.w))];
    }
}

static void run_max_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_max_pool_backward_attr a = DS_ATTR(max_pool_backward, step->attr);
    const ds_shape y = step->in[0]->shape, x = step->in[1]->shape;
    memset(step->out->data, 0, (size_t)ds_count(x) * sizeof(ds_real));
    for (int64_t plane = 0; plane < x.n * x.c; plane++) {
        const ds_real *dy = ds_plane(step->in[0], 0, plane);
        const ds_real *from = ds_plane(step->in[1], 0, plane);
        ds_real *dx = ds_plane(step->out, 0, plane);
        for (int64_t i = 0; i < y.h; i++)
            for (int64_t j = 0; j < y.w; j++)
                dx[largest(from, x.w, covered(i, a.kernel, a.stride, a.pad, x.h),
                           covered(j, a.kernel, a.stride, a.pad, x.w))] += *dy++;
    }
}

static void run_avg(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_avg_pool_attr a = DS_ATTR(avg_pool, step->attr);
    const ds_shape x = step->in[0]->shape, y = step->out->shape;
    for (int64_t p = 0; p < ds_count(y); p++) {
        const ds_real *from = ds_plane(step->in[0], 0, p / (y.h * y.w));
        const span rows = covered(p / y.w % y.h, a.kernel, a.stride, 0, x.h);
        const span columns = covered(p % y.w, a.kernel, a.stride, 0, x.w);
        double sum = 0;
        for (int64_t i = rows.begin; i < rows.end; i++)
            for (int64_t j = columns.begin; j < columns.end; j++)
                sum += from[i * x.w + j];
        const int64_t pixels = (rows.end - rows.begin) * (columns.end - columns.begin);
        ds_real_data(step->out)[p] = (ds_real)(sum / (double)pixels);
    }
}

static void run_avg_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_avg_pool_backward_attr a = DS_ATTR(avg_pool_backward, step->attr);
    const ds_shape y = step->in[0]->shape, x = step->out->shape;
    memset(step->out->data, 0, (size_t)ds_count(x) * sizeof(ds_real));
    for (int64_t p = 0; p < ds_count(y); p++) {
        ds_real *dx = ds_plane(step->out, 0, p / (y.h * y.w));
        const span rows = covered(p / y.w % y.h, a.kernel, a.stride, 0, x.h);
        const span columns = covered(p % y.w, a.kernel, a.stride, 0, x.w);
        const int64_t pixels = (rows.end - rows.begin) * (columns.end - columns.begin);
        const ds_real share = ds_real_data(step->in[0])[p] / (ds_real)pixels;
        for (int64_t i = rows.begin; i < rows.end; i++)
            for (int64_t j = columns.begin; j < columns.end; j++)
                dx[i * x.w + j] += share;
    }
}

const ds_kernel DS_REF(max_pool) = {.run = run_max};
const ds_kernel DS_REF(max_pool_backward) = {.run = run_max_backward};
const ds_kernel DS_REF(avg_pool) = {.run = run_avg};
const ds_kernel DS_REF(avg_pool_backward) = {.run = run_avg_backward};
