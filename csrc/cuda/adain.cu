#include "cuda/statistics.h"

namespace
{

/* What all three kernels know of a map and of a pixel. */
struct setting {
    ds_map_statistics maps;
    ds_view style, strength;
    bool has_strength;
    double epsilon;
    bool unbiased;

    __device__ double divisor() const
    {
        return (double)(maps.x.shape.h * maps.x.shape.w) - unbiased;
    }
    __device__ double deviation(const ds_statistics &s) const
    {
        return sqrt(s.squares / divisor() + epsilon);
    }
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

setting setting_of(ds_backend *backend, const ds_step *step, int x, double epsilon, bool unbiased,
                   void *work)
{
    setting s = {ds_measure_maps(backend, ds_view_of(backend, step->in[x]), work),
                 ds_view_of(backend, step->in[x + 1]),
                 {},
                 step->inputs > x + 2,
                 epsilon,
                 unbiased};
    if (s.style.shape.n == 1)
        s.style.n = 0;
    if (s.has_strength)
        s.strength = ds_repeated(ds_view_of(backend, step->in[x + 2]));
    return s;
}

struct forward {
    setting s;
    ds_view y;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i);
        const ds_statistics map = s.maps.of(at.n, at.c);
        const double x = ds_load(s.maps.x, i), weight = s.weight(at.n, at.h, at.w);
        const double z = (x - map.mean) / s.deviation(map);
        const double styled = s.deviation_of_style(at.n, at.c) * z + s.mean_of_style(at.n, at.c);
        ds_store(y, i, (float)(weight * styled + (1 - weight) * x));
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
        const ds_statistics map = s.maps.of(n, c);
        const double g = s.weight(n, h, w) * ds_pixel(dy, n, c, k);
        sums[0] += g;
        sums[1] += g * (ds_pixel(s.maps.x, n, c, k) - map.mean) / s.deviation(map);
    }
};

struct backward {
    setting s;
    ds_map_sums<2> sums;
    ds_view dy, dx;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const ds_statistics map = s.maps.of(at.n, at.c);
        const double *g = sums.of(at.n, at.c), deviation = s.deviation(map);
        const double weight = s.weight(at.n, at.h, at.w), up = ds_load(dy, i);
        const double z = (ds_load(s.maps.x, i) - map.mean) / deviation;
        const double styled = weight * up - g[0] / map.count - z * g[1] / s.divisor();
        const double ratio = s.deviation_of_style(at.n, at.c) / deviation;
        ds_store(dx, i, (float)((1 - weight) * up + ratio * styled));
    }
};

struct backward_style {
    ds_map_sums<2> sums;
    ds_view out;
    int64_t pictures;
    __device__ void operator()(int64_t i) const
    {
        int64_t c;
        const int64_t m = ds_split(i, out.shape.c, &c);
        double mean = 0, deviation = 0;
        for (int64_t n = m; n < pictures; n += out.shape.n) {
            mean += sums.of(n, c)[0];
            deviation += sums.of(n, c)[1];
        }
        ds_store(out, m * out.n + c * out.c, (float)mean);
        ds_store(out, m * out.n + c * out.c + 1, (float)deviation);
    }
};

void run(ds_backend *backend, const ds_step *step)
{
    const ds_adain_attr a = DS_ATTR(adain, step->attr);
    const forward f = {setting_of(backend, step, 0, a.epsilon, a.unbiased != 0, step->workspace),
                       ds_view_of(backend, step->out)};
    ds_each(backend, f, ds_count(step->out->shape));
}

ds_code prepare(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = ds_measure_bytes(step->in[0]->shape);
    return DS_OK;
}

/* Two sums over every map, one behind the other in the workspace. */
ds_code prepare_backward(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes =
        ds_measure_bytes(step->in[1]->shape) + ds_map_sum_bytes(step->in[1]->shape, 2);
    return DS_OK;
}

ds_map_sums<2> sum_gradients(ds_backend *backend, const setting &s, const ds_step *step)
{
    const ds_shape shape = s.maps.x.shape;
    char *work = (char *)step->workspace + ds_measure_bytes(shape);
    return ds_sum_maps<2>(backend, gradient_sums{s, ds_view_of(backend, step->in[0])}, shape, work);
}

void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_attr a = DS_ATTR(adain_backward, step->attr);
    const setting s = setting_of(backend, step, 1, a.epsilon, a.unbiased != 0, step->workspace);
    const backward f = {s, sum_gradients(backend, s, step), ds_view_of(backend, step->in[0]),
                        ds_view_of(backend, step->out)};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_backward_style(ds_backend *backend, const ds_step *step)
{
    const ds_adain_backward_style_attr a = DS_ATTR(adain_backward_style, step->attr);
    const setting s = setting_of(backend, step, 1, a.epsilon, a.unbiased != 0, step->workspace);
    const ds_view out = ds_view_of(backend, step->out);
    const backward_style f = {sum_gradients(backend, s, step), out, s.maps.x.shape.n};
    ds_each(backend, f, out.shape.n * out.shape.c);
}

} // namespace

const ds_kernel ds_cuda_adain = {.prepare = prepare, .run = run};
const ds_kernel ds_cuda_adain_backward = {.prepare = prepare_backward, .run = run_backward};
const ds_kernel ds_cuda_adain_backward_style = {.prepare = prepare_backward,
                                                .run = run_backward_style};
