#include "core/resample.h"

#include <math.h>

/* Half the width of the kernel where it is not widened. */
static int64_t radius_of(int64_t mode)
{
    return mode == DS_BILINEAR ? 1 : mode == DS_BICUBIC ? 2 : 3;
}

/* Keys' cubic of slope `a` at 1. */
static double cubic(double x, double a)
{
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
}

static double sinc(double x)
{
    return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x);
}

static double kernel(const ds_resample *side, double x)
{
    x = fabs(x);
    if (side->mode == DS_BILINEAR)
        return x < 1 ? 1 - x : 0;
    if (side->mode == DS_BICUBIC)
        return cubic(x, side->antialias ? -0.5 : -0.75);
    return x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

/* Where output pixel i lies on the input side, whose pixel k has its middle at k. */
static double position(const ds_resample *side, int64_t i)
{
    if (side->align_corners)
        return side->to > 1 ? (double)i * (double)(side->from - 1) / (double)(side->to - 1) : 0;
    return ((double)i + 0.5) * (double)side->from / (double)side->to - 0.5;
}

static double spread_of(const ds_resample *side)
{
    const bool widened = side->antialias && side->from > side->to;
    return widened ? (double)side->from / (double)side->to : 1;
}

static int64_t most_taps(const ds_resample *side)
{
    if (side->mode == DS_NEAREST)
        return 1;
    const double support = (double)radius_of(side->mode) * spread_of(side);
    const int64_t width = 2 * (int64_t)ceil(support) + 1;
    return width < side->from ? width : side->from;
}

static int64_t clamp(int64_t k, int64_t size)
{
    return k < 0 ? 0 : k < size ? k : size - 1;
}

/* Fills row i. Taps beyond the edge go to the edge pixel, or, antialiased, are left out. */
static void fill_row(const ds_resample *side, ds_taps *taps, int64_t i)
{
    double *weight = taps->weight + i * taps->most, sum = 0;
    if (side->mode == DS_NEAREST) {
        taps->begin[i] = i * side->from / side->to;
        taps->count[i] = 1;
        weight[0] = 1;
        return;
    }
    const double middle = position(side, i), spread = spread_of(side);
    const double support = (double)radius_of(side->mode) * spread;
    const int64_t low = (int64_t)floor(middle - support + 1);
    const int64_t high = (int64_t)floor(middle + support);
    const int64_t begin = clamp(low, side->from), end = clamp(high, side->from) + 1;
    taps->begin[i] = begin;
    taps->count[i] = end - begin;
    for (int64_t k = low; k <= high; k++) {
        const int64_t at = clamp(k, side->from);
        if (side->antialias && at != k)
            continue;
        const double part = kernel(side, ((double)k - middle) / spread);
        weight[at - begin] += part;
        sum += part;
    }
    for (int64_t k = 0; k < end - begin; k++)
        weight[k] /= sum;
}

static ds_code allocate(ds_alloc *alloc, ds_taps *taps, ds_status *status)
{
    const size_t size = (size_t)taps->size;
    size_t weights = 0;
    if (!ds_multiply(size * sizeof(double), (size_t)taps->most, &weights))
        weights = SIZE_MAX;
    DS_TRY(ds_alloc_zeroed(alloc, size * sizeof(int64_t), &taps->begin, status));
    DS_TRY(ds_alloc_zeroed(alloc, size * sizeof(int64_t), &taps->count, status));
    DS_TRY(ds_alloc_zeroed(alloc, weights, &taps->weight, status));
exit:
    return status->code;
}

ds_code ds_taps_create(ds_alloc *alloc, const ds_resample *side, ds_taps *taps, ds_status *status)
{
    *taps = (ds_taps){.size = side->to, .most = most_taps(side)};
    DS_TRY(allocate(alloc, taps, status));
    for (int64_t i = 0; i < side->to; i++)
        fill_row(side, taps, i);
exit:
    return status->code;
}

ds_code ds_taps_transpose(ds_alloc *alloc, const ds_taps *taps, int64_t inputs, ds_taps *transposed,
                          ds_status *status)
{
    int64_t *end = NULL;
    *transposed = (ds_taps){.size = inputs};
    DS_TRY(ds_alloc_zeroed(alloc, (size_t)inputs * sizeof *end, &end, status));
    /* Runs of an input pixel: from the first to the last output pixel that reads it. */
    for (int64_t i = taps->size - 1; i >= 0; i--)
        for (int64_t k = taps->begin[i]; k < taps->begin[i] + taps->count[i]; k++) {
            end[k] = end[k] ? end[k] : i + 1;
            transposed->most = end[k] - i > transposed->most ? end[k] - i : transposed->most;
        }
    DS_TRY(allocate(alloc, transposed, status));
    for (int64_t i = taps->size - 1; i >= 0; i--)
        for (int64_t k = taps->begin[i]; k < taps->begin[i] + taps->count[i]; k++) {
            transposed->begin[k] = i;
            transposed->count[k] = end[k] - i;
        }
    for (int64_t i = 0; i < taps->size; i++)
        for (int64_t t = 0; t < taps->count[i]; t++) {
            const int64_t k = taps->begin[i] + t;
            transposed->weight[k * transposed->most + i - transposed->begin[k]] =
                taps->weight[i * taps->most + t];
        }
exit:
    ds_release(alloc, &end);
    return status->code;
}

void ds_taps_release(ds_alloc *alloc, ds_taps *taps)
{
    ds_release(alloc, &taps->begin);
    ds_release(alloc, &taps->count);
    ds_release(alloc, &taps->weight);
}

/* From `from` to `to` pixels, or the adjoint of that. */
static ds_code side_of_step(ds_alloc *alloc, const ds_resample *side, bool adjoint, ds_taps *taps,
                            ds_status *status)
{
    ds_taps forward = {0};
    if (!adjoint)
        return ds_taps_create(alloc, side, taps, status);
    DS_TRY(ds_taps_create(alloc, side, &forward, status));
    DS_TRY(ds_taps_transpose(alloc, &forward, side->from, taps, status));
exit:
    ds_taps_release(alloc, &forward);
    return status->code;
}

ds_code ds_taps_of_step(ds_alloc *alloc, const ds_step *step, ds_taps *rows, ds_taps *columns,
                        ds_status *status)
{
    const bool adjoint = step->op == DS_OP_resize_backward;
    /* The two ops have the same attributes in the same order. */
    const ds_resize_attr a = DS_ATTR(resize, step->attr);
    const ds_shape in = step->in[0]->shape, out = step->out->shape;
    const ds_shape x = adjoint ? out : in, y = adjoint ? in : out;
    ds_resample side = {x.h, y.h, a.mode, a.align_corners, a.antialias};
    DS_TRY(side_of_step(alloc, &side, adjoint, rows, status));
    side.from = x.w;
    side.to = y.w;
    DS_TRY(side_of_step(alloc, &side, adjoint, columns, status));
exit:
    return status->code;
}
