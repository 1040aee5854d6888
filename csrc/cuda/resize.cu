#include "cuda/device.h"

extern "C" {
#include "core/resample.h"
}

namespace
{

/* The tables of one side, on the device. */
struct side {
    const int64_t *begin, *count; /* (size) */
    const double *weight;         /* (size, most) */
    int64_t most;
};

struct tables {
    side rows, columns;
};

/* Both directions: a gradient is the same walk over the transposed tables. */
struct resample {
    ds_view x, y;
    tables t;
    __device__ void operator()(int64_t i) const
    {
        const ds_index at = ds_index_of(y, i);
        const double *vertical = t.rows.weight + at.h * t.rows.most;
        const double *horizontal = t.columns.weight + at.w * t.columns.most;
        double sum = 0;
        for (int64_t k = 0; k < t.rows.count[at.h]; k++) {
            double part = 0;
            for (int64_t l = 0; l < t.columns.count[at.w]; l++)
                part += horizontal[l] *
                        ds_at(x, at.n, at.c, t.rows.begin[at.h] + k, t.columns.begin[at.w] + l);
            sum += vertical[k] * part;
        }
        ds_store(y, i, (float)sum);
    }
};

ds_code upload_side(ds_backend *backend, const ds_taps *taps, side *to, ds_status *status)
{
    const size_t indices = (size_t)taps->size * sizeof(int64_t);
    to->most = taps->most;
    DS_TRY(ds_cuda_upload(backend, taps->begin, indices, &to->begin, status));
    DS_TRY(ds_cuda_upload(backend, taps->count, indices, &to->count, status));
    DS_TRY(ds_cuda_upload(backend, taps->weight, (size_t)(taps->size * taps->most) * sizeof(double),
                          &to->weight, status));
exit:
    return status->code;
}

ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    tables *t = NULL;
    ds_taps rows = {}, columns = {};
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *t, &t, status));
    step->prepared = t;
    DS_TRY(ds_taps_of_step(backend->alloc, step, &rows, &columns, status));
    DS_TRY(upload_side(backend, &rows, &t->rows, status));
    DS_TRY(upload_side(backend, &columns, &t->columns, status));
exit:
    ds_taps_release(backend->alloc, &rows);
    ds_taps_release(backend->alloc, &columns);
    return status->code;
}

void release_side(ds_backend *backend, side *s)
{
    ds_cuda_free(backend, &s->begin);
    ds_cuda_free(backend, &s->count);
    ds_cuda_free(backend, &s->weight);
}

void release(ds_backend *backend, ds_step *step)
{
    tables *t = (tables *)step->prepared;
    if (!t)
        return;
    release_side(backend, &t->rows);
    release_side(backend, &t->columns);
    ds_release(backend->alloc, &step->prepared);
}

void run(ds_backend *backend, const ds_step *step)
{
    const resample f = {ds_view_of(step->in[0]), ds_view_of(step->out),
                        *(const tables *)step->prepared};
    ds_each(backend, f, ds_count(step->out->shape));
}

} // namespace

const ds_kernel ds_cuda_resize = {.prepare = prepare, .run = run, .release = release};
const ds_kernel ds_cuda_resize_backward = {.prepare = prepare, .run = run, .release = release};
