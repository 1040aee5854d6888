#include "ref/ref.h"

/* Steps between neighbours of a tensor when it is walked in the shape of a larger one: 0 along
   dimensions of size 1. */
typedef struct steps {
    int64_t n, c, h, w;
} steps;

static steps steps_of(ds_shape s)
{
    return (steps){.n = s.n == 1 ? 0 : s.c * s.h * s.w,
                   .c = s.c == 1 ? 0 : s.h * s.w,
                   .h = s.h == 1 ? 0 : s.w,
                   .w = s.w == 1 ? 0 : 1};
}

/* Where row (n, c, i) of the large shape begins in the small tensor. */
static int64_t row_of(const steps *s, int64_t row, ds_shape large)
{
    const int64_t i = row % large.h, c = row / large.h % large.c, n = row / large.h / large.c;
    return n * s->n + c * s->c + i * s->h;
}

static void run_add(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_shape shape = step->out->shape;
    const steps s = steps_of(step->in[1]->shape);
    const ds_real *a = ds_real_data(step->in[0]);
    ds_real *y = ds_real_data(step->out);
    for (int64_t row = 0; row < shape.n * shape.c * shape.h; row++) {
        const ds_real *b = ds_real_data(step->in[1]) + row_of(&s, row, shape);
        for (int64_t j = 0; j < shape.w; j++)
            *y++ = *a++ + b[j * s.w];
    }
}

static void run_multiply(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_shape shape = step->out->shape;
    const steps s = steps_of(step->in[1]->shape);
    const ds_real *a = ds_real_data(step->in[0]);
    ds_real *y = ds_real_data(step->out);
    for (int64_t row = 0; row < shape.n * shape.c * shape.h; row++) {
        const ds_real *b = ds_real_data(step->in[1]) + row_of(&s, row, shape);
        for (int64_t j = 0; j < shape.w; j++)
            *y++ = *a++ * b[j * s.w];
    }
}

static void run_affine(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_affine_attr a = DS_ATTR(affine, step->attr);
    const ds_real *x = ds_real_data(step->in[0]);
    ds_real *y = ds_real_data(step->out);
    for (int64_t i = 0; i < ds_count(step->out->shape); i++)
        y[i] = (ds_real)a.scale * x[i] + (ds_real)a.shift;
}

/* How many values of x fall on each value of the result, per dimension. */
static ds_shape summed(ds_shape x, ds_shape y)
{
    return (ds_shape){x.n / y.n, x.c / y.c, x.h / y.h, x.w / y.w};
}

/* The sum for the result's element whose first value of x is `x`. */
static double sum_from(const ds_real *x, ds_shape shape, ds_shape many)
{
    double sum = 0;
    for (int64_t n = 0; n < many.n; n++)
        for (int64_t c = 0; c < many.c; c++)
            for (int64_t i = 0; i < many.h; i++) {
                const ds_real *row = x + ((n * shape.c + c) * shape.h + i) * shape.w;
                for (int64_t j = 0; j < many.w; j++)
                    sum += row[j];
            }
    return sum;
}

static void run_sum_to(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_shape x = step->in[0]->shape, y = step->out->shape;
    const ds_shape many = summed(x, y);
    ds_real *out = ds_real_data(step->out);
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t c = 0; c < y.c; c++)
            for (int64_t i = 0; i < y.h; i++)
                for (int64_t j = 0; j < y.w; j++)
                    *out++ = (ds_real)sum_from(ds_plane(step->in[0], n, c) + i * x.w + j, x, many);
}

static void run_broadcast(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_shape shape = step->out->shape;
    const steps s = steps_of(step->in[0]->shape);
    ds_real *y = ds_real_data(step->out);
    for (int64_t row = 0; row < shape.n * shape.c * shape.h; row++) {
        const ds_real *x = ds_real_data(step->in[0]) + row_of(&s, row, shape);
        for (int64_t j = 0; j < shape.w; j++)
            *y++ = x[j * s.w];
    }
}

const ds_kernel DS_REF(add) = {.run = run_add, .in_place = 1};
const ds_kernel DS_REF(multiply) = {.run = run_multiply, .in_place = 1};
const ds_kernel DS_REF(affine) = {.run = run_affine, .in_place = 1};
const ds_kernel DS_REF(sum_to) = {.run = run_sum_to};
const ds_kernel DS_REF(broadcast) = {.run = run_broadcast};
