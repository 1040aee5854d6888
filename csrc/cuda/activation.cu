#include "cuda/pointwise.h"

namespace
{

struct forward {
    ds_view x, y;
    ds_nonlinearity f;
    __device__ void operator()(int64_t i) const
    {
        ds_store(y, i, f.value(ds_load(x, i)));
    }
};

struct backward {
    ds_view dy, y, dx;
    ds_nonlinearity f;
    __device__ void operator()(int64_t i) const
    {
        ds_store(dx, i, ds_load(dy, i) * f.derivative(ds_load(y, i)));
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const ds_activation_attr a = DS_ATTR(activation, step->attr);
    const forward f = {
        ds_view_of(step->in[0]), ds_view_of(step->out), {(int)a.kind, (float)a.alpha}};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_activation_backward_attr a = DS_ATTR(activation_backward, step->attr);
    const backward f = {ds_view_of(step->in[0]),
                        ds_view_of(step->in[1]),
                        ds_view_of(step->out),
                        {(int)a.kind, (float)a.alpha}};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_activation = {.run = run, .in_place = 1};
const ds_kernel ds_cuda_activation_backward = {.run = run_backward, .in_place = 1 | 2};
