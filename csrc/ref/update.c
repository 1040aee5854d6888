#include "ref/ref.h"

#include <math.h>
#include <string.h>

static void run_adam(ds_backend *backend, const ds_step *step)
{
    const ds_adam_update_attr a = DS_ATTR(adam_update, step->attr);
    const int64_t count = ds_count(step->in[0]->shape);
    ds_real *x = ds_real_data(step->in[0]), *m = ds_real_data(step->in[1]);
    ds_real *v = ds_real_data(step->in[2]), *steps = ds_real_data(step->in[3]);
    const ds_real *gradient = ds_real_data(step->in[4]);
    const double t = (double)(*steps += 1);
    const double rate = (double)*ds_real_data(step->in[5]) / (1 - pow(a.beta1, t));
    const double root = sqrt(1 - pow(a.beta2, t));
    (void)backend;
    for (int64_t i = 0; i < count; i++) {
        const double g = (double)gradient[i] + a.weight_decay * (double)x[i];
        m[i] = (ds_real)((double)m[i] + (1 - a.beta1) * (g - (double)m[i]));
        v[i] = (ds_real)(a.beta2 * (double)v[i] + (1 - a.beta2) * g * g);
        x[i] =
            (ds_real)((double)x[i] - rate * (double)m[i] / (sqrt((double)v[i]) / root + a.epsilon));
    }
}

static void run_sgd(ds_backend *backend, const ds_step *step)
{
    const ds_sgd_update_attr a = DS_ATTR(sgd_update, step->attr);
    const int64_t count = ds_count(step->in[0]->shape);
    ds_real *x = ds_real_data(step->in[0]), *velocity = ds_real_data(step->in[1]);
    const ds_real *gradient = ds_real_data(step->in[2]);
    const double rate = (double)*ds_real_data(step->in[3]);
    (void)backend;
    for (int64_t i = 0; i < count; i++) {
        const double g = (double)gradient[i] + a.weight_decay * (double)x[i];
        velocity[i] = (ds_real)(a.momentum * (double)velocity[i] + g);
        x[i] = (ds_real)((double)x[i] - rate * (double)velocity[i]);
    }
}

static void run_clamp(ds_backend *backend, const ds_step *step)
{
    const ds_shape s = step->in[0]->shape;
    (void)backend;
    for (int64_t n = 0; n < s.n; n++)
        for (int64_t c = 0; c < s.c; c++) {
            ds_real *x = ds_plane(step->in[0], n, c);
            const ds_real low = ds_real_data(step->in[1])[c], high = ds_real_data(step->in[2])[c];
            for (int64_t k = 0; k < s.h * s.w; k++)
                x[k] = x[k] < low ? low : x[k] > high ? high : x[k];
        }
}

static void run_keep(ds_backend *backend, const ds_step *step)
{
    const size_t bytes = (size_t)ds_count(step->in[0]->shape) * sizeof(ds_real);
    (void)backend;
    if (step->inputs > 2) {
        ds_real *least = ds_real_data(step->in[2]);
        const ds_real value = *ds_real_data(step->in[3]);
        if (!(value < *least))
            return;
        *least = value;
    }
    memcpy(step->in[0]->data, step->in[1]->data, bytes);
}

const ds_kernel DS_REF(adam_update) = {.run = run_adam};
const ds_kernel DS_REF(sgd_update) = {.run = run_sgd};
const ds_kernel DS_REF(clamp_update) = {.run = run_clamp};
const ds_kernel DS_REF(keep_update) = {.run = run_keep};
