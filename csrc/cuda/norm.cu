#include "cuda/pointwise.h"
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

struct keep_statistics {
    ds_normals to;
    __device__ void operator()(int64_t n, int64_t c, const ds_statistics &s) const
    {
        to.of(n, c) = {s.mean, s.squares};
    }
};

/* Makes the statistics of a channel's maps, kept in place of their normals, those of the batch. */
struct merge_batch {
    ds_normals normals;
    int64_t pictures;
    double pixels, epsilon;
    __device__ void operator()(int64_t c) const
    {
        double mean = normals.of(0, c).mean, squares = normals.of(0, c).inverse;
        for (int64_t n = 1; n < pictures; n++) {
            const ds_normal next = normals.of(n, c);
            const double apart = next.mean - mean, share = 1 / (double)(n + 1);
            mean += apart * share;
            squares += next.inverse + apart * apart * pixels * (double)n * share;
        }
        const double inverse = 1 / sqrt(squares / (pixels * (double)pictures) + epsilon);
        for (int64_t n = 0; n < pictures; n++)
            normals.of(n, c) = {mean, inverse};
    }
};

/* Measures x for an instance norm or, with whole_batch, for a norm over all pictures. */
ds_normals measure(ds_backend *backend, const ds_view &x, double epsilon, int64_t whole_batch,
                   void *work)
{
    if (!whole_batch || x.shape.n == 1)
        return ds_normalise_maps(backend, x, epsilon, false, work);
    const ds_normals normals = ds_normals_in(x.shape, work);
    const double pixels = (double)(x.shape.h * x.shape.w);
    ds_measure_maps(backend, x, keep_statistics{normals}, work);
    ds_each(backend, merge_batch{normals, x.shape.n, pixels, epsilon}, x.shape.c);
    return normals;
}

struct instance {
    ds_normals normals;
    vector gamma, beta;
    __device__ float operator()(float x, const ds_index &at) const
    {
        const ds_normal normal = normals.of(at.n, at.c);
        return (float)((x - normal.mean) * (normal.inverse * gamma.of(at.c)) + beta.of(at.c));
    }
};

/* Sums of dy and dy xhat over a map. */
struct gradient_sums {
    ds_normals normals;
    ds_view x, dy;
    __device__ void operator()(int64_t n, int64_t c, int64_t k, double *sums) const
    {
        const ds_normal normal = normals.of(n, c);
        const double up = ds_pixel(dy, n, c, k);
        sums[0] += up;
        sums[1] += up * (ds_pixel(x, n, c, k) - normal.mean) * normal.inverse;
    }
};

struct instance_backward {
    ds_normals normals;
    const ds_two_sums *sums;
    vector gamma;
    ds_view x, dy, dx;
    bool whole_batch;
    double share; /* of a pixel in the mean */
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(dx, i);
        const ds_normal normal = normals.of(at.n, at.c);
        double up = 0, up_xhat = 0;
        const int64_t first = whole_batch ? 0 : at.n;
        const int64_t last = whole_batch ? dx.shape.n : at.n + 1;
        for (int64_t n = first; n < last; n++) {
            up += sums[n * dx.shape.c + at.c].first;
            up_xhat += sums[n * dx.shape.c + at.c].second;
        }
        const double xhat = (ds_load(x, i) - normal.mean) * normal.inverse;
        const double centred = ds_load(dy, i) - (up + xhat * up_xhat) * share;
        ds_store(dx, i, (float)(normal.inverse * gamma.of(at.c) * centred));
    }
};

struct gamma_gradient {
    const ds_two_sums *sums;
    float *out;
    int64_t pictures, channels;
    __device__ void operator()(int64_t c) const
    {
        double sum = 0;
        for (int64_t n = 0; n < pictures; n++)
            sum += sums[n * channels + c].second;
        out[c] = (float)sum;
    }
};

void run_instance(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_attr a = DS_ATTR(instance_norm, step->attr);
    const ds_view x = ds_view_of(step->in[0]);
    const ds_normals normals = measure(backend, x, a.epsilon, a.whole_batch, step->workspace);
    ds_apply(backend, step, instance{normals, vector_of(step, 1, 1), vector_of(step, 2, 0)}, x);
}

ds_code prepare_instance(ds_backend *, ds_step *step, ds_status *)
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

const ds_two_sums *sum_gradients(ds_backend *backend, const ds_normals &normals,
                                 const ds_step *step)
{
    const ds_view dy = ds_view_of(step->in[0]), x = ds_view_of(step->in[1]);
    return ds_sum_maps_twice(backend, gradient_sums{normals, x, dy}, x.shape,
                             (char *)step->workspace + ds_normal_bytes(x.shape));
}

void run_instance_backward(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_backward_attr a = DS_ATTR(instance_norm_backward, step->attr);
    const ds_view x = ds_view_of(step->in[1]);
    const bool whole_batch = a.whole_batch != 0;
    const ds_normals normals = measure(backend, x, a.epsilon, a.whole_batch, step->workspace);
    const int64_t pixels = x.shape.h * x.shape.w * (whole_batch ? x.shape.n : 1);
    const instance_backward f = {normals,
                                 sum_gradients(backend, normals, step),
                                 vector_of(step, 2, 1),
                                 x,
                                 ds_view_of(step->in[0]),
                                 ds_view_of(step->out),
                                 whole_batch,
                                 1 / (double)pixels};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_instance_backward_gamma(ds_backend *backend, const ds_step *step)
{
    const ds_instance_norm_backward_gamma_attr a =
        DS_ATTR(instance_norm_backward_gamma, step->attr);
    const ds_view x = ds_view_of(step->in[1]);
    const ds_normals normals = measure(backend, x, a.epsilon, a.whole_batch, step->workspace);
    const gamma_gradient f = {sum_gradients(backend, normals, step), (float *)step->out->data,
                              x.shape.n, x.shape.c};
    ds_each(backend, f, x.shape.c);
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
    const batch f = {ds_view_of(step->in[0]),
                     ds_view_of(step->out),
                     vector_of(step, 1, 0),
                     vector_of(step, 2, 1),
                     vector_of(step, 3, 1),
                     vector_of(step, 4, 0),
                     DS_ATTR(batch_norm, step->attr).epsilon};
    ds_each(backend, f, ds_count(step->out->shape));
}

void run_batch_backward(ds_backend *backend, const ds_step *step)
{
    const batch f = {ds_view_of(step->in[0]),
                     ds_view_of(step->out),
                     {NULL, 0},
                     vector_of(step, 1, 1),
                     vector_of(step, 2, 1),
                     {NULL, 0},
                     DS_ATTR(batch_norm_backward, step->attr).epsilon};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_instance_norm = {
    .accepts = ds_takes_end, .prepare = prepare_instance, .run = run_instance, .in_place = 1};
const ds_kernel ds_cuda_instance_norm_backward = {
    .prepare = prepare_backward, .run = run_instance_backward, .in_place = 1 | 2};
const ds_kernel ds_cuda_instance_norm_backward_gamma = {.prepare = prepare_backward,
                                                        .run = run_instance_backward_gamma};
const ds_kernel ds_cuda_batch_norm = {.run = run_batch, .in_place = 1};
const ds_kernel ds_cuda_batch_norm_backward = {.run = run_batch_backward, .in_place = 1};
