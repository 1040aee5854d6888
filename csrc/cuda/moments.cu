#include "cuda/statistics.h"

namespace
{

struct forward {
    ds_view y;
    double divisor, epsilon;
    __device__ void operator()(int64_t n, int64_t c, const ds_statistics &s) const
    {
        const int64_t at = n * y.n + c * y.c;
        ds_store(y, at, (float)s.mean);
        ds_store(y, at + 1, (float)sqrt(s.squares / divisor + epsilon));
    }
};

struct backward {
    ds_view x, moments, dmoments, dx;
    bool unbiased;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const int64_t map = at.n * moments.n + at.c * moments.c;
        const double pixels = (double)(x.shape.h * x.shape.w);
        const double slope =
            ds_load(dmoments, map + 1) / ((pixels - unbiased) * (double)ds_load(moments, map + 1));
        const double centred = (double)ds_load(x, i) - (double)ds_load(moments, map);
        ds_store(dx, i, (float)(ds_load(dmoments, map) / pixels + slope * centred));
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const ds_moments_attr a = DS_ATTR(moments, step->attr);
    const ds_view x = ds_view_of(step->in[0]);
    const double divisor = (double)(x.shape.h * x.shape.w) - (a.unbiased != 0);
    ds_measure_maps(backend, x, forward{ds_view_of(step->out), divisor, a.epsilon},
                    step->workspace);
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = ds_measure_bytes(step->in[0]->shape);
    return DS_OK;
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_moments_backward_attr a = DS_ATTR(moments_backward, step->attr);
    const backward f = {ds_view_of(step->in[0]), ds_view_of(step->in[1]), ds_view_of(step->in[2]),
                        ds_view_of(step->out), a.unbiased != 0};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_moments = {.prepare = prepare, .run = run};
const ds_kernel ds_cuda_moments_backward = {.run = run_backward, .in_place = 1};
