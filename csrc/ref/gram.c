#include "ref/ref.h"

/* The weights of picture n, or NULL where there is no mask. */
static const ds_real *mask_of(const ds_tensor *mask, int64_t n)
{
    return mask ? ds_plane(mask, mask->shape.n == 1 ? 0 : n, 0) : NULL;
}

/* In double, so that the mean of ones is one at every size. */
static double eta_of(const ds_real *mask, int64_t pixels)
{
    double sum = 0;
    if (!mask)
        return 1;
    for (int64_t k = 0; k < pixels; k++)
        sum += (double)mask[k];
    return (sum / (double)pixels) * (sum / (double)pixels);
}

static double masked_dot(const ds_real *a, const ds_real *b, const ds_real *mask, int64_t pixels)
{
    double sum = 0;
    for (int64_t k = 0; k < pixels; k++) {
        const double weight = mask ? (double)mask[k] : 1;
        sum += (weight * (double)a[k]) * (weight * (double)b[k]);
    }
    return sum;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0];
    const int64_t channels = x->shape.c, pixels = x->shape.h * x->shape.w;
    (void)backend;
    for (int64_t n = 0; n < x->shape.n; n++) {
        const ds_real *mask = mask_of(step->in[1], n);
        const double factor = DS_ATTR(gram, step->attr).scale / eta_of(mask, pixels);
        ds_real *gram = ds_plane(step->out, n, 0);
        for (int64_t i = 0; i < channels; i++)
            for (int64_t j = 0; j <= i; j++)
                gram[i * channels + j] = gram[j * channels + i] =
                    (ds_real)(factor *
                              masked_dot(ds_plane(x, n, i), ds_plane(x, n, j), mask, pixels));
    }
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0];
    const int64_t channels = x->shape.c, pixels = x->shape.h * x->shape.w;
    (void)backend;
    for (int64_t n = 0; n < x->shape.n; n++) {
        const ds_real *mask = mask_of(step->in[2], n), *dg = ds_plane(step->in[1], n, 0);
        const double factor = DS_ATTR(gram_backward, step->attr).scale / eta_of(mask, pixels);
        for (int64_t i = 0; i < channels; i++)
            for (int64_t k = 0; k < pixels; k++) {
                const double weight = mask ? (double)mask[k] : 1;
                double sum = 0;
                for (int64_t j = 0; j < channels; j++)
                    sum += ((double)dg[i * channels + j] + (double)dg[j * channels + i]) *
                           (double)ds_plane(x, n, j)[k];
                ds_plane(step->out, n, i)[k] = (ds_real)(factor * weight * weight * sum);
            }
    }
}

const ds_kernel DS_REF(gram) = {.run = run};
const ds_kernel DS_REF(gram_backward) = {.run = run_backward};
