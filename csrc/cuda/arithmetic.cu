#include "cuda/pointwise.h"

namespace
{

/* Whether the second operand has the shape of the first, so that places are the same. */
bool aligned(const ds_view &a, const ds_view &b)
{
    return ds_same_shape(a.shape, b.shape) && a.map == b.map;
}

struct sum {
    __device__ static float of(float a, float b)
    {
        return a + b;
    }
};

struct product {
    __device__ static float of(float a, float b)
    {
        return a * b;
    }
};

template <class O> struct combine {
    ds_view a, b, y;
    bool same;
    ds_end end;
    __device__ void operator()(int64_t i) const
    {
        const int64_t place = same ? i : ds_place_of(b, ds_index_of(y, i));
        ds_store(y, i, end.of(O::of(ds_load(a, i), ds_load(b, place)), i));
    }
};

template <class O> void run_combine(ds_backend *backend, const ds_step *step)
{
    const ds_view a = ds_view_of(step->in[0]), b = ds_view_of(step->in[1]);
    const combine<O> f = {a, ds_repeated(b), ds_view_of(step->out), aligned(a, b), ds_end_of(step)};
    ds_each(backend, f, ds_count(step->out->shape));
}

struct affine {
    ds_view x, y;
    float scale, shift;
    __device__ void operator()(int64_t i) const
    {
        ds_store(y, i, scale * ds_load(x, i) + shift);
    }
};

void run_affine(ds_backend *backend, const ds_step *step)
{
    const ds_affine_attr a = DS_ATTR(affine, step->attr);
    const affine f = {ds_view_of(step->in[0]), ds_view_of(step->out), (float)a.scale,
                      (float)a.shift};
    ds_each(backend, f, ds_count(step->out->shape));
}

/* One result is the sum of `many` values of x, which begin at its own index. */
struct gather {
    ds_view x, y;
    ds_shape many;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i);
        double sum = 0;
        for (int64_t n = 0; n < many.n; n++)
            for (int64_t c = 0; c < many.c; c++)
                for (int64_t h = 0; h < many.h; h++)
                    for (int64_t w = 0; w < many.w; w++)
                        sum += ds_at(x, at.n + n, at.c + c, at.h + h, at.w + w);
        ds_store(y, i, (float)sum);
    }
};

struct element {
    ds_view x;
    __device__ double operator()(int64_t i) const
    {
        return ds_load(x, i);
    }
};

void run_sum_to(ds_backend *backend, const ds_step *step)
{
    const ds_view x = ds_view_of(step->in[0]), y = ds_view_of(step->out);
    const ds_shape from = x.shape, to = y.shape;
    if (ds_is_scalar(to)) {
        ds_sum(backend, element{x}, ds_sum_to_scalar{(float *)y.data, 1}, ds_count(from),
               step->workspace);
        return;
    }
    const ds_shape many = {from.n / to.n, from.c / to.c, from.h / to.h, from.w / to.w};
    ds_each(backend, gather{x, y, many}, ds_count(to));
}

ds_code prepare_sum_to(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = DS_SUM_BYTES;
    return DS_OK;
}

struct repeat {
    ds_view x, y;
    __device__ void operator()(int64_t i) const
    {
        ds_store(y, i, ds_load(x, ds_place_of(x, ds_index_of(y, i))));
    }
};

void run_broadcast(ds_backend *backend, const ds_step *step)
{
    const repeat f = {ds_repeated(ds_view_of(step->in[0])), ds_view_of(step->out)};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_add = {.accepts = ds_takes_end, .run = run_combine<sum>, .in_place = 1};
const ds_kernel ds_cuda_multiply = {
    .accepts = ds_takes_end, .run = run_combine<product>, .in_place = 1};
const ds_kernel ds_cuda_affine = {.run = run_affine, .in_place = 1};
const ds_kernel ds_cuda_sum_to = {.prepare = prepare_sum_to, .run = run_sum_to};
const ds_kernel ds_cuda_broadcast = {.run = run_broadcast};
