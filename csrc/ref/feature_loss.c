#include "ref/ref.h"

/* The weight of pixel k of picture n. */
static double weight_of(const ds_tensor *mask, int64_t n, int64_t k)
{
    return mask ? (double)ds_plane(mask, mask->shape.n == 1 ? 0 : n, 0)[k] : 1;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *target = step->in[1], *mask = step->in[2];
    const int64_t pixels = x->shape.h * x->shape.w;
    double sum = 0;
    (void)backend;
    for (int64_t n = 0; n < x->shape.n; n++)
        for (int64_t c = 0; c < x->shape.c; c++)
            for (int64_t k = 0; k < pixels; k++) {
                const double difference =
                    weight_of(mask, n, k) *
                    ((double)ds_plane(x, n, c)[k] - (double)ds_plane(target, n, c)[k]);
                sum += difference * difference;
            }
    *ds_real_data(step->out) = (ds_real)(DS_ATTR(feature_loss, step->attr).scale * sum);
}

static void run_backward(ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0], *target = step->in[1], *mask = step->in[3];
    const int64_t pixels = x->shape.h * x->shape.w;
    const double factor =
        2 * DS_ATTR(feature_loss_backward, step->attr).scale * (double)*ds_real_data(step->in[2]);
    (void)backend;
    for (int64_t n = 0; n < x->shape.n; n++)
        for (int64_t c = 0; c < x->shape.c; c++)
            for (int64_t k = 0; k < pixels; k++) {
                const double weight = weight_of(mask, n, k);
                ds_plane(step->out, n, c)[k] =
                    (ds_real)(factor * weight * weight *
                              ((double)ds_plane(x, n, c)[k] - (double)ds_plane(target, n, c)[k]));
            }
}

const ds_kernel DS_REF(feature_loss) = {.run = run};
const ds_kernel DS_REF(feature_loss_backward) = {.run = run_backward, .in_place = 1 | 2};
