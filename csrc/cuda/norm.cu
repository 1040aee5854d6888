#include "cuda/statistics.h"

namespace
{

/* Element c of an optional vector. */
struct vector {
    const float *data;
    float otherwise;
    __device__ double of(int64_t c) const
    {
        return data ? data[c] : otherwise;
    }
};

vector vector_of(const ds_step *step, int input, float otherwise)
{
    return {step->inputs > input ? (const float *)step->in[input]->data : NULL, otherwise};
}

struct group {
    ds_map_statistics maps;
    bool whole_batch;
    double epsilon;
    __device__ ds_statistics of(int64_t n, int64_t c) const
    {
        return whole_batch ? maps.of_batch(c) : maps.of(n, c);
    }
    __device__ double scale(const ds_statistics &s) const
    {
        return 1 / sqrt(s.squares / s.count + epsilon);
    }
};

struct instance {
    group g;
    vector gamma, beta;
    ds_view y;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i);
        const ds_statistics s = g.of(at.n, at.c);
        const double scale = g.scale(s) * gamma.of(at.c);
        ds_store(y, i, (float)((ds_load(g.maps.x, i) - s.mean) * scale + beta.of(at.c)));
    }
};

/* Sums of dy and dy xhat over a map. */
struct gradient_sums {
    group g;
    ds_view dy;
    __device__ void operator()(int64_t n, int64_t c, int64_t k, double *sums) const
    {
        const ds_statistics s = g.of(n, c);
        const double up = ds_pixel(dy, n, c, k);
        sums[0] += up;
        sums[1] += up * (ds_pixel(g.maps.x, n, c, k) - s.mean) * g.scale(s);
    }
};

struct instance_backward {
    group g;
    ds_map_sums<2> sums;
    vector gamma;
    ds_view dy, dx;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const ds_statistics s = g.of(at.n, at.c);
        double up = 0, up_xhat = 0;
        const int64_t first = g.whole_batch ? 0 : at.n;
        const int64_t last = g.whole_batch ? dx.shape.n : at.n + 1;
        for (int64_t n = first; n < last; n++) {
            up += sums.of(n, at.c)[0];
            up_xhat += sums.of(n, at.c)[1];
        }
        const double xhat = (ds_load(g.maps.x, i) - s.mean) * g.scale(s);
        const double centred = ds_load(dy, i) - (up + xhat * up_xhat) / s.count;
        ds_store(dx, i, (float)(g.scale(s) * gamma.of(at.c) * centred));
    }
};

struct gamma_gradient {
    ds_map_sums<2> sums;
    float *out;
    int64_t pictures;
    __device__ void operator()(int64_t c) const
    {
        double sum = 0;
        for (int64_t n = 0; n < pictures; n++)
            sum += sums.of(n, c)[1];
        out[c] = (float)sum;
    }
};

void run_instance(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_attr a = DS_ATTR(instance_norm, step->attr);
    const ds_view x = ds_view_of(backend, step->in[0]);
    const instance f = {
        {ds_measure_maps(backend, x, step->workspace), a.whole_batch != 0, a.epsilon},
        vector_of(step, 1, 1),
        vector_of(step, 2, 0),
        ds_view_of(backend, step->out)};
    ds_each(backend, f, ds_count(step->out->shape));
}

ds_code prepare_instance(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes = ds_measure_bytes(step->in[0]->shape);
    return DS_OK;
}

ds_code prepare_backward(ds_backend *, ds_step *step, ds_status *)
{
    step->workspace_bytes =
        ds_measure_bytes(step->in[1]->shape) + ds_map_sum_bytes(step->in[1]->shape, 2);
    return DS_OK;
}

group measure_second(ds_backend *backend, const ds_step *step, double epsilon, int64_t whole_batch)
{
    const ds_view x = ds_view_of(backend, step->in[1]);
    return {ds_measure_maps(backend, x, step->workspace), whole_batch != 0, epsilon};
}

ds_map_sums<2> sum_gradients(ds_backend *backend, const group &g, const ds_step *step)
{
    const ds_shape shape = g.maps.x.shape;
    char *work = (char *)step->workspace + ds_measure_bytes(shape);
    return ds_sum_maps<2>(backend, gradient_sums{g, ds_view_of(backend, step->in[0])}, shape, work);
}

void run_instance_backward(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_backward_attr a = DS_ATTR(instance_norm_backward, step->attr);
    const group g = measure_second(backend, step, a.epsilon, a.whole_batch);
    const instance_backward f = {g, sum_gradients(backend, g, step), vector_of(step, 2, 1),
                                 ds_view_of(backend, step->in[0]), ds_view_of(backend, step->out)};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_instance_backward_gamma(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_backward_gamma_attr a =
        DS_ATTR(instance_norm_backward_gamma, step->attr);
    const group g = measure_second(backend, step, a.epsilon, a.whole_batch);
    const ds_shape x = g.maps.x.shape;
    const gamma_gradient f = {sum_gradients(backend, g, step), (float *)step->out->data, x.n};
    ds_each(backend, f, x.c);
}

/* Batch norm: y = (x - mean) * scale + shift; backward: the same with neither. */
struct batch {
    ds_view x, y;
    vector mean, variance, gamma, beta;
    double epsilon;
    __device__ void operator()(int64_t i) const
    {
        const int64_t c = ds_index_of(y, i).c;
        const double scale = gamma.of(c) / sqrt(variance.of(c) + epsilon);
        ds_store(y, i, (float)((ds_load(x, i) - mean.of(c)) * scale + beta.of(c)));
    }
};

void run_batch(ds_backend *backend, const ds_step *step)
{
    const batch f = {ds_view_of(backend, step->in[0]),
                     ds_view_of(backend, step->out),
                     vector_of(step, 1, 0),
                     vector_of(step, 2, 1),
                     vector_of(step, 3, 1),
                     vector_of(step, 4, 0),
                     DS_ATTR(batch_norm, step->attr).epsilon};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_batch_backward(ds_backend *backend, const ds_step *step)
{
    const batch f = {ds_view_of(backend, step->in[0]),
                     ds_view_of(backend, step->out),
                     {NULL, 0},
                     vector_of(step, 1, 1),
                     vector_of(step, 2, 1),
                     {NULL, 0},
                     DS_ATTR(batch_norm_backward, step->attr).epsilon};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_instance_norm = {
    .prepare = prepare_instance, .run = run_instance, .in_place = 1};
const ds_kernel ds_cuda_instance_norm_backward = {
    .prepare = prepare_backward, .run = run_instance_backward, .in_place = 1 | 2};
const ds_kernel ds_cuda_instance_norm_backward_gamma = {.prepare = prepare_backward,
                                                        .run = run_instance_backward_gamma};
const ds_kernel ds_cuda_batch_norm = {.run = run_batch, .in_place = 1};
const ds_kernel ds_cuda_batch_norm_backward = {.run = run_batch_backward, .in_place = 1};
