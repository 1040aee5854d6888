#include "cuda/device.h"

namespace
{

/* The weight of the element at `at`; without a mask 1. */
struct weighting {
    ds_view mask;
    bool there;
    __device__ double of(const ds_view &x, int64_t i) const
    {
        if (!there)
            return 1;
        ds_index at = ds_index_of(x, i);
        at.c = 0;
        return ds_load(mask, ds_place_of(mask, at));
    }
};

weighting weighting_of(const ds_step *step, int input)
{
    if (step->inputs <= input)
        return {};
    return {ds_repeated(ds_view_of(step->in[input])), true};
}

struct squares {
    ds_view x, target;
    weighting weight;
    __device__ double operator()(int64_t i) const
    {
        const double difference =
            weight.of(x, i) * ((double)ds_load(x, i) - (double)ds_load(target, i));
        return difference * difference;
    }
};

struct gradient {
    ds_view x, target, dx;
    weighting weight;
    const float *dl;
    double factor;
    __device__ void operator()(int64_t i) const
    {
        const double w = weight.of(x, i);
        const double difference = (double)ds_load(x, i) - (double)ds_load(target, i);
        ds_store(dx, i, (float)(factor * *dl * w * w * difference));
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const squares f = {ds_view_of(step->in[0]), ds_view_of(step->in[1]), weighting_of(step, 2)};
    ds_sum(backend, f,
           ds_sum_to_scalar{(float *)step->out->data, DS_ATTR(feature_loss, step->attr).scale},
           ds_count(step->in[0]->shape), step->workspace);
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = DS_SUM_BYTES;
    return DS_OK;
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const gradient f = {ds_view_of(step->in[0]),
                        ds_view_of(step->in[1]),
                        ds_view_of(step->out),
                        weighting_of(step, 3),
                        (const float *)step->in[2]->data,
                        2 * DS_ATTR(feature_loss_backward, step->attr).scale};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_feature_loss = {.prepare = prepare, .run = run};
const ds_kernel ds_cuda_feature_loss_backward = {.run = run_backward, .in_place = 1 | 2};
