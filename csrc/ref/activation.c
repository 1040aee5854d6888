#include "ref/ref.h"

#include <math.h>

static ds_real value(int64_t kind, ds_real alpha, ds_real x)
{
    switch (kind) {
    case DS_RELU:
        return x < 0 ? 0 : x;
    case DS_LEAKY_RELU:
        return x > 0 ? x : alpha * x;
    case DS_ELU:
        return x > 0 ? x : (ds_real)(alpha * expm1((double)x));
    case DS_RELU6:
        return x < 0 ? 0 : x > 6 ? 6 : x;
    case DS_SIGMOID:
        return (ds_real)(1 / (1 + exp(-(double)x)));
    default:
        return (ds_real)tanh((double)x);
    }
}

static ds_real derivative(int64_t kind, ds_real alpha, ds_real y)
{
    switch (kind) {
    case DS_RELU:
        return y > 0;
    case DS_LEAKY_RELU:
        return y > 0 ? 1 : alpha;
    case DS_ELU:
        return y > 0 ? 1 : y + alpha;
    case DS_RELU6:
        return y > 0 && y < 6;
    case DS_SIGMOID:
        return y * (1 - y);
    default:
        return 1 - y * y;
    }
}

static void run(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_activation_attr a = DS_ATTR(activation, step->attr);
    const ds_real *x = ds_real_data(step->in[0]);
    ds_real *y = ds_real_data(step->out);
    for (int64_t i = 0; i < ds_count(step->out->shape); i++)
        y[i] = value(a.kind, (ds_real)a.alpha, x[i]);
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_activation_backward_attr a = DS_ATTR(activation_backward, step->attr);
    const ds_real *dy = ds_real_data(step->in[0]), *y = ds_real_data(step->in[1]);
    ds_real *dx = ds_real_data(step->out);
    for (int64_t i = 0; i < ds_count(step->out->shape); i++)
        dx[i] = dy[i] * derivative(a.kind, (ds_real)a.alpha, y[i]);
}

const ds_kernel DS_REF(activation) = {.run = run, .in_place = 1};
const ds_kernel DS_REF(activation_backward) = {.run = run_backward, .in_place = 1 | 2};
