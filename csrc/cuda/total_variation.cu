#include "cuda/device.h"

namespace
{

struct variation {
    ds_view x;
    __device__ double operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(x, i);
        const double here = ds_load(x, i);
        double sum = 0;
        if (at.h + 1 < x.shape.h) {
            const double below = ds_at(x, at.n, at.c, at.h + 1, at.w);
            sum += (below - here) * (below - here);
        }
        if (at.w + 1 < x.shape.w) {
            const double right = ds_at(x, at.n, at.c, at.h, at.w + 1);
            sum += (right - here) * (right - here);
        }
        return sum;
    }
};

/* The factor times the differences of a pixel to its four neighbours. */
struct gradient {
    ds_view x, dx;
    const float *dl;
    double factor;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const double here = ds_load(x, i);
        double sum = 0;
        if (at.h > 0)
            sum += here - ds_at(x, at.n, at.c, at.h - 1, at.w);
        if (at.h + 1 < x.shape.h)
            sum += here - ds_at(x, at.n, at.c, at.h + 1, at.w);
        if (at.w > 0)
            sum += here - ds_at(x, at.n, at.c, at.h, at.w - 1);
        if (at.w + 1 < x.shape.w)
            sum += here - ds_at(x, at.n, at.c, at.h, at.w + 1);
        ds_store(dx, i, (float)(factor * *dl * sum));
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const double scale = DS_ATTR(total_variation, step->attr).scale;
    ds_sum(backend, variation{ds_view_of(step->in[0])},
           ds_sum_to_scalar{(float *)step->out->data, scale}, ds_count(step->in[0]->shape),
           step->workspace);
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = DS_SUM_BYTES;
    return DS_OK;
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const double scale = DS_ATTR(total_variation_backward, step->attr).scale;
    const gradient f = {ds_view_of(step->in[0]), ds_view_of(step->out),
                        (const float *)step->in[1]->data, 2 * scale};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_total_variation = {.prepare = prepare, .run = run};
const ds_kernel ds_cuda_total_variation_backward = {.run = run_backward};
