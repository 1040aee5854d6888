#include "cuda/device.h"

namespace
{

/* y[channels from `first` on] = x */
struct place_channels {
    ds_view x, y;
    int64_t first;
    __device__ void operator()(int64_t i) const
    {
        ds_index at = ds_index_of(x, i);
        at.c += first;
        ds_store(y, ds_place_of(y, at), ds_load(x, i));
    }
};

void run_concat(ds_backend *backend, const ds_step *step)
{
    const ds_view y = ds_view_of(step->out);
    int64_t first = 0;
    for (int i = 0; i < step->inputs; i++) {
        const ds_view x = ds_view_of(step->in[i]);
        ds_each(backend, place_channels{x, y, first}, ds_count(x.shape));
        first += x.shape.c;
    }
}

/* Adds `by` to the index along axis 1, 2 or 3. */
__device__ ds_index moved(ds_index i, int axis, int64_t by)
{
    i.c += axis == 1 ? by : 0;
    i.h += axis == 2 ? by : 0;
    i.w += axis == 3 ? by : 0;
    return i;
}

/* y[i] = x[i + begin], zero where that leaves x. */
struct cut {
    ds_view x, y;
    int axis;
    int64_t begin;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = moved(ds_index_of(y, i), axis, begin);
        const int64_t along = axis == 1 ? at.c : axis == 2 ? at.h : at.w;
        const int64_t size = axis == 1 ? x.shape.c : axis == 2 ? x.shape.h : x.shape.w;
        const bool inside = along >= 0 && along < size;
        ds_store(y, i, inside ? ds_load(x, ds_place_of(x, at)) : 0);
    }
};

void run_slice(ds_backend *backend, const ds_step *step)
{
    const ds_slice_attr a = DS_ATTR(slice, step->attr);
    const cut f = {ds_view_of(step->in[0]), ds_view_of(step->out), (int)a.axis, a.begin};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_slice_backward(ds_backend *backend, const ds_step *step)
{
    const ds_slice_backward_attr a = DS_ATTR(slice_backward, step->attr);
    const cut f = {ds_view_of(step->in[0]), ds_view_of(step->out), (int)a.axis, -a.begin};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_concat = {.run = run_concat};
const ds_kernel ds_cuda_slice = {.run = run_slice};
const ds_kernel ds_cuda_slice_backward = {.run = run_slice_backward};
