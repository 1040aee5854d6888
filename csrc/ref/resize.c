#include "core/resample.h"
#include "ref/ref.h"

typedef struct tables {
    ds_taps rows, columns;
} tables;

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    tables *t = NULL;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *t, &t, status));
    step->prepared = t;
    DS_TRY(ds_taps_of_step(backend->alloc, step, &t->rows, &t->columns, status));
exit:
    return status->code;
}

static void release(ds_backend *backend, ds_step *step)
{
    tables *t = step->prepared;
    if (!t)
        return;
    ds_taps_release(backend->alloc, &t->rows);
    ds_taps_release(backend->alloc, &t->columns);
    ds_release(backend->alloc, &step->prepared);
}

/* Output pixel (i, j) of the map x of `width` columns. */
static double pixel(const tables *t, const ds_real *x, int64_t width, int64_t i, int64_t j)
{
    const double *vertical = t->rows.weight + i * t->rows.most;
    const double *horizontal = t->columns.weight + j * t->columns.most;
    double sum = 0;
    for (int64_t k = 0; k < t->rows.count[i]; k++) {
        const ds_real *row = x + (t->rows.begin[i] + k) * width + t->columns.begin[j];
        double part = 0;
        for (int64_t l = 0; l < t->columns.count[j]; l++)
            part += horizontal[l] * (double)row[l];
        sum += vertical[k] * part;
    }
    return sum;
}

static void run(ds_backend *backend, const ds_step *step)
{
    (void)backend;
    const ds_shape y = step->out->shape;
    const int64_t width = step->in[0]->shape.w;
    ds_real *to = ds_real_data(step->out);
    for (int64_t plane = 0; plane < y.n * y.c; plane++)
        for (int64_t i = 0; i < y.h; i++)
            for (int64_t j = 0; j < y.w; j++)
                *to++ =
                    (ds_real)pixel(step->prepared, ds_plane(step->in[0], 0, plane), width, i, j);
}

const ds_kernel DS_REF(resize) = {.prepare = prepare, .run = run, .release = release};
const ds_kernel DS_REF(resize_backward) = {.prepare = prepare, .run = run, .release = release};
