#include "ref/ref.h"

static void run_dot(ds_backend *backend, const ds_step *step)
{
    const int64_t count = ds_count(step->in[0]->shape);
    const ds_real *a = ds_real_data(step->in[0]), *b = ds_real_data(step->in[1]);
    double sum = 0;
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    *ds_real_data(step->out) = (ds_real)sum;
}

static void run_axpy(ds_backend *backend, const ds_step *step)
{
    const int64_t count = ds_count(step->in[1]->shape);
    const ds_real alpha = *ds_real_data(step->in[0]);
    const ds_real *x = ds_real_data(step->in[1]), *y = ds_real_data(step->in[2]);
    ds_real *out = ds_real_data(step->out);
    (void)backend;
    for (int64_t i = 0; i < count; i++)
        out[i] = alpha * x[i] + y[i];
}

const ds_kernel DS_REF(dot) = {.run = run_dot};
const ds_kernel DS_REF(axpy) = {.run = run_axpy, .in_place = 2 | 4};
