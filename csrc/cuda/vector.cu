#include "cuda/device.h"

namespace
{

struct multiplied {
    ds_view a, b;
    __device__ double operator()(int64_t i) const
    {
        return (double)ds_load(a, i) * (double)ds_load(b, i);
    }
};

void run_dot(ds_backend *backend, const ds_step *step)
{
    const multiplied f = {ds_view_of(step->in[0]), ds_view_of(step->in[1])};
    ds_sum(backend, f, ds_sum_to_scalar{(float *)step->out->data, 1}, ds_count(step->in[0]->shape),
           step->workspace);
}

ds_code prepare_dot(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = DS_SUM_BYTES;
    return DS_OK;
}

struct axpy {
    const float *alpha;
    ds_view x, y, out;
    __device__ void operator()(int64_t i) const
    {
        ds_store(out, i, *alpha * ds_load(x, i) + ds_load(y, i));
    }
};

void run_axpy(ds_backend *backend, const ds_step *step)
{
    const axpy f = {(const float *)step->in[0]->data, ds_view_of(step->in[1]),
                    ds_view_of(step->in[2]), ds_view_of(step->out)};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_dot = {.prepare = prepare_dot, .run = run_dot};
const ds_kernel ds_cuda_axpy = {.run = run_axpy, .in_place = 2 | 4};
