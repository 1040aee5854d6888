#include "cuda/pointwise.h"
#include "cuda/statistics.h"

namespace
{

/* What all three kernels know of a map and of a pixel. */
struct setting {
    ds_view x;
    ds_normals normals;
    ds_view style, strength;
    bool has_strength;
    double divisor; /* of the variance */

    __device__ double weight(int64_t n, int64_t h, int64_t w) const
    {
        return has_strength ? ds_load(strength, n * strength.n + h * strength.h + w * strength.w)
                            : 1;
    }
    __device__ double mean_of_style(int64_t n, int64_t c) const
    {
        return ds_load(style, n * style.n + c * style.c);
    }
    __device__ double deviation_of_style(int64_t n, int64_t c) const
    {
        return ds_load(style, n * style.n + c * style.c + 1);
    }
};

setting setting_of(ds_backend *backend, const ds_step *step, int x, double epsilon, bool unbiased)
{
    setting s = {};
    s.x = ds_view_of(step->in[x]);
    s.normals = ds_normalise_maps(backend, s.x, epsilon, unbiased, step->workspace);
    s.style = ds_view_of(step->in[x + 1]);
    s.has_strength = step->inputs > x + 2;
    s.divisor = (double)(s.x.shape.h * s.x.shape.w) - unbiased;
    if (s.style.shape.n == 1)
        s.style.n = 0;
    if (s.has_strength)
        s.strength = ds_repeated(ds_view_of(step->in[x + 2]));
    return s;
}

struct forward {
    setting s;
    __device__ float operator()(float value, const ds_index &at) const
    {
        const ds_normal normal = s.normals.of(at.n, at.c);
        const double x = value, weight = s.weight(at.n, at.h, at.w);
        const double z = (x - normal.mean) * normal.inverse;
        const double styled = s.deviation_of_style(at.n, at.c) * z + s.mean_of_style(at.n, at.c);
        return (float)(weight * styled + (1 - weight) * x);
    }
};

/* Sums over a map of g = strength dy and of g z. */
struct gradient_sums {
    setting s;
    ds_view dy;
    __device__ void operator()(int64_t n, int64_t c, int64_t k, double *sums) const
    {
        int64_t w;
        const int64_t h = ds_split(k, dy.shape.w, &w);
        const ds_normal normal = s.normals.of(n, c);
        const double g = s.weight(n, h, w) * ds_pixel(dy, n, c, k);
        sums[0] += g;
        sums[1] += g * (ds_pixel(s.x, n, c, k) - normal.mean) * normal.inverse;
    }
};

struct backward {
    setting s;
    const ds_two_sums *sums;
    ds_view dy, dx;
    double share; /* of a pixel in the mean */
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const ds_normal normal = s.normals.of(at.n, at.c);
        const ds_two_sums map = sums[at.n * dx.shape.c + at.c];
        const double weight = s.weight(at.n, at.h, at.w), up = ds_load(dy, i);
        const double z = (ds_load(s.x, i) - normal.mean) * normal.inverse;
        const double styled = weight * up - map.first * share - z * map.second / s.divisor;
        const double ratio = s.deviation_of_style(at.n, at.c) * normal.inverse;
        ds_store(dx, i, (float)((1 - weight) * up + ratio * styled));
    }
};

struct backward_style {
    const ds_two_sums *sums;
    ds_view out;
    int64_t pictures;
    __device__ void operator()(int64_t i) const
    {
        int64_t c;
        const int64_t m = ds_split(i, out.shape.c, &c);
        double mean = 0, deviation = 0;
        for (int64_t n = m; n < pictures; n += out.shape.n) {
            mean += sums[n * out.shape.c + c].first;
            deviation += sums[n * out.shape.c + c].second;
        }
        ds_store(out, m * out.n + c * out.c, (float)mean);
        ds_store(out, m * out.n + c * out.c + 1, (float)deviation);
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const ds_adain_attr a = DS_ATTR(adain, step->attr);
    const setting s = setting_of(backend, step, 0, a.epsilon, a.unbiased != 0);
    ds_apply(backend, step, forward{s}, s.x);
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = ds_normal_bytes(step->in[0]->shape);
    return DS_OK;
}

/* The workspace has the normals, then both sums of every map. */
ds_code prepare_backward(ds_backend *, ds_step *step, ds_status *)
{
    const ds_shape x = step->in[1]->shape;
    step->workspace_bytes = ds_normal_bytes(x) + ds_two_sum_bytes(x);
    return DS_OK;
}

const ds_two_sums *sum_gradients(ds_backend *backend, const setting &s, const ds_step *step)
{
    return ds_sum_maps_twice(backend, gradient_sums{s, ds_view_of(step->in[0])}, s.x.shape,
                             (char *)step->workspace + ds_normal_bytes(s.x.shape));
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_attr a = DS_ATTR(adain_backward, step->attr);
    const setting s = setting_of(backend, step, 1, a.epsilon, a.unbiased != 0);
    const backward f = {s, sum_gradients(backend, s, step), ds_view_of(step->in[0]),
                        ds_view_of(step->out), 1 / (double)(s.x.shape.h * s.x.shape.w)};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_backward_style(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_style_attr a = DS_ATTR(adain_backward_style, step->attr);
    const setting s = setting_of(backend, step, 1, a.epsilon, a.unbiased != 0);
    const ds_view out = ds_view_of(step->out);
    const backward_style f = {sum_gradients(backend, s, step), out, s.x.shape.n};
    ds_each(backend, f, out.shape.n * out.shape.c);
}

} // namespace

const ds_kernel ds_cuda_adain = {.accepts = ds_takes_end, .prepare = prepare, .run = run};
const ds_kernel ds_cuda_adain_backward = {.prepare = prepare_backward, .run = run_backward};
const ds_kernel ds_cuda_adain_backward_style = {.prepare = prepare_backward,
                                                .run = run_backward_style};
