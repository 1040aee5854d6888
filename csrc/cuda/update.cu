/* Updates hold still after a watched tensor that was not finite: `finite` is read by every thread
   before it changes anything. */
#include "cuda/device.h"

namespace
{

/* What all elements of a step share. */
struct adam_factors {
    double step, root;
};

/* Counts the step, before the elements. */
struct begin_adam {
    float *steps;
    const float *rate;
    double beta1, beta2;
    const int *finite;
    adam_factors *factors;
    __device__ void operator()(int64_t) const
    {
        if (!*finite)
            return;
        const double t = (double)(*steps += 1);
        *factors = {(double)*rate / (1 - pow(beta1, t)), sqrt(1 - pow(beta2, t))};
    }
};

struct adam {
    ds_view x, m, v, gradient;
    const adam_factors *factors;
    double beta1, beta2, epsilon, weight_decay;
    const int *finite;
    __device__ void operator()(int64_t i) const
    {
        if (!*finite)
            return;
        const double step = factors->step, root = factors->root;
        const double old = ds_load(x, i);
        const double g = ds_load(gradient, i) + weight_decay * old;
        const double mean = ds_load(m, i) + (1 - beta1) * (g - ds_load(m, i));
        const double square = beta2 * ds_load(v, i) + (1 - beta2) * g * g;
        ds_store(m, i, (float)mean);
        ds_store(v, i, (float)square);
        ds_store(
            x, i,
            (float)(old - step * ds_load(m, i) / (sqrt((double)ds_load(v, i)) / root + epsilon)));
    }
};

ds_code prepare_adam(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = sizeof(adam_factors);
    return DS_OK;
}

void run_adam(ds_backend *backend, const ds_step *step)
{
    const ds_adam_update_attr a = DS_ATTR(adam_update, step->attr);
    const int *finite = ds_cuda_of(backend)->finite;
    adam_factors *factors = (adam_factors *)step->workspace;
    const begin_adam begin = {(float *)step->in[3]->data,
                              (const float *)step->in[5]->data,
                              a.beta1,
                              a.beta2,
                              finite,
                              factors};
    const adam f = {ds_view_of(step->in[0]),
                    ds_view_of(step->in[1]),
                    ds_view_of(step->in[2]),
                    ds_view_of(step->in[4]),
                    factors,
                    a.beta1,
                    a.beta2,
                    a.epsilon,
                    a.weight_decay,
                    finite};
    ds_each(backend, begin, 1);
    ds_each(backend, f, ds_count(step->in[0]->shape));
}

struct sgd {
    ds_view x, velocity, gradient;
    const float *rate;
    double momentum, weight_decay;
    const int *finite;
    __device__ void operator()(int64_t i) const
    {
        if (!*finite)
            return;
        const double old = ds_load(x, i);
        const double g = ds_load(gradient, i) + weight_decay * old;
        ds_store(velocity, i, (float)(momentum * ds_load(velocity, i) + g));
        ds_store(x, i, (float)(old - *rate * (double)ds_load(velocity, i)));
    }
};

void run_sgd(ds_backend *backend, const ds_step *step)
{
    const ds_sgd_update_attr a = DS_ATTR(sgd_update, step->attr);
    const sgd f = {ds_view_of(step->in[0]),
                   ds_view_of(step->in[1]),
                   ds_view_of(step->in[2]),
                   (const float *)step->in[3]->data,
                   a.momentum,
                   a.weight_decay,
                   ds_cuda_of(backend)->finite};
    ds_each(backend, f, ds_count(step->in[0]->shape));
}

struct clamp {
    ds_view x;
    const float *low, *high;
    const int *finite;
    __device__ void operator()(int64_t i) const
    {
        if (!*finite)
            return;
        const int64_t c = ds_index_of(x, i).c;
        const float value = ds_load(x, i);
        ds_store(x, i, value < low[c] ? low[c] : value > high[c] ? high[c] : value);
    }
};

void run_clamp(ds_backend *backend, const ds_step *step)
{
    const clamp f = {ds_view_of(step->in[0]), (const float *)step->in[1]->data,
                     (const float *)step->in[2]->data, ds_cuda_of(backend)->finite};
    ds_each(backend, f, ds_count(step->in[0]->shape));
}

struct keeping {
    ds_view kept, x;
    const float *least, *value; /* NULL: always */
    const int *finite;
    __device__ void operator()(int64_t i) const
    {
        if (*finite && (!value || *value < *least))
            ds_store(kept, i, ds_load(x, i));
    }
};

struct lowering {
    float *least;
    const float *value;
    const int *finite;
    __device__ void operator()(int64_t) const
    {
        if (*finite && *value < *least)
            *least = *value;
    }
};

void run_keep(ds_backend *backend, const ds_step *step)
{
    const int *finite = ds_cuda_of(backend)->finite;
    const bool compares = step->inputs > 2;
    float *least = compares ? (float *)step->in[2]->data : NULL;
    const float *value = compares ? (const float *)step->in[3]->data : NULL;
    const keeping f = {ds_view_of(step->in[0]), ds_view_of(step->in[1]), least, value, finite};
    ds_each(backend, f, ds_count(step->in[0]->shape));
    if (compares)
        ds_each(backend, lowering{least, value, finite}, 1);
}

} // namespace

const ds_kernel ds_cuda_adam_update = {.prepare = prepare_adam, .run = run_adam};
const ds_kernel ds_cuda_sgd_update = {.run = run_sgd};
const ds_kernel ds_cuda_clamp_update = {.run = run_clamp};
const ds_kernel ds_cuda_keep_update = {.run = run_keep};
