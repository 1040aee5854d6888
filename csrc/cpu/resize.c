/* Resizing, and its adjoint, as two sparse products: rows are combined into one, whose pixels are
   combined into the output row. Formulas: ops/resize.c. */
#include "core/resample.h"
#include "cpu/half.h"

typedef struct side {
    ds_taps taps;
    float *weight; /* those of the taps */
} side;

typedef struct plan {
    const ds_slots *slots;
    side rows, columns;
    int64_t lanes; /* floats of a pixel: 16, or 1 of a plane */
    ds_pairs pairs;
    int64_t row;  /* floats of the combined row, whole cache lines */
    int64_t made; /* of an output row, where that is bf16 */
    int64_t read; /* of the input rows that are combined, where they are bf16 */
} plan;

static ds_code narrow(ds_alloc *alloc, side *s, ds_status *status)
{
    const size_t count = (size_t)(s->taps.size * s->taps.most);
    DS_TRY(ds_alloc_raw(alloc, count * sizeof(float), &s->weight, status));
    for (size_t i = 0; i < count; i++)
        s->weight[i] = (float)s->taps.weight[i];
    ds_release(alloc, &s->taps.weight);
exit:
    return status->code;
}

static int64_t worker_floats(const plan *p)
{
    return p->row + p->made + p->read;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const bool blocked = ds_is_blocked(step->out);
    const ds_shape x = step->in[0]->shape;
    plan *p = NULL;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *p, &p, status));
    step->prepared = p;
    *p = (plan){.slots = ds_cpu_slots(backend->level),
                .lanes = blocked ? DS_BLOCK : 1,
                .pairs = ds_pairs_of(step->out, ds_step_has_half(step))};
    p->row = (x.w * p->lanes + DS_BLOCK - 1) / DS_BLOCK * DS_BLOCK;
    DS_TRY(ds_taps_of_step(backend->alloc, step, &p->rows.taps, &p->columns.taps, status));
    DS_TRY(narrow(backend->alloc, &p->rows, status));
    DS_TRY(narrow(backend->alloc, &p->columns, status));
    p->made = ds_is_half(step->out) ? step->out->shape.w * DS_BLOCK : 0;
    p->read = ds_is_half(step->in[0]) ? p->rows.taps.most * x.w * DS_BLOCK : 0;
    step->workspace_bytes =
        (size_t)(ds_pool_threads(backend->pool) * worker_floats(p)) * sizeof(float);
exit:
    return status->code;
}

static void release(ds_backend *backend, ds_step *step)
{
    plan *p = step->prepared;
    if (!p)
        return;
    ds_taps_release(backend->alloc, &p->rows.taps);
    ds_taps_release(backend->alloc, &p->columns.taps);
    ds_release(backend->alloc, &p->rows.weight);
    ds_release(backend->alloc, &p->columns.weight);
    ds_release(backend->alloc, &step->prepared);
}

/* The pixels of a plane have one float each. */
static void resample_plane(const side *columns, const float *x, float *y)
{
    const ds_taps *t = &columns->taps;
    for (int64_t j = 0; j < t->size; j++) {
        const float *weight = columns->weight + j * t->most, *from = x + t->begin[j];
        float sum = 0;
        for (int64_t k = 0; k < t->count[j]; k++)
            sum += weight[k] * from[k];
        y[j] = sum;
    }
}

/* `count` rows of a plane of x from `first` on; bf16 ones as floats in `buffer`. */
static const float *read_rows(const plan *p, const ds_tensor *x, int64_t plane, int64_t first,
                              int64_t count, float *buffer)
{
    const ds_shape s = x->shape;
    if (ds_is_half(x))
        return ds_read_pixels(p->slots, x, plane, first * s.w, count * s.w, buffer);
    return (const float *)x->data + (plane * s.h + first) * s.w * p->lanes;
}

static void make_row(const ds_step *step, int64_t plane, int64_t i, int worker)
{
    const plan *p = step->prepared;
    const ds_tensor *out = step->out;
    const ds_taps *rows = &p->rows.taps, *columns = &p->columns.taps;
    const int64_t width = step->in[0]->shape.w * p->lanes, at = plane * rows->size + i;
    const float *weight = p->rows.weight + i * rows->most;
    float *row = (float *)step->workspace + worker * worker_floats(p);
    float *made = row + p->row, *buffer = made + p->made;
    const float *x = read_rows(p, step->in[0], plane, rows->begin[i], rows->count[i], buffer);
    float *y = ds_is_half(out) ? made : (float *)out->data + at * columns->size * p->lanes;
    if (rows->count[i] == 1 && weight[0] == 1.0f)
        row = (float *)x;
    else
        p->slots->combine_rows(x, width, weight, rows->count[i], 0, row, width);
    if (p->lanes == 1)
        resample_plane(&p->columns, row, y);
    else
        p->slots->resample_pixels(row, columns->begin, columns->count, p->columns.weight,
                                  columns->most, y, columns->size);
    if (ds_is_half(out))
        ds_write_pixels(p->slots, out, plane, i * columns->size, columns->size, y);
}

/* Item: one output row of a pair of planes. */
static void task(void *context, int64_t item, int worker)
{
    const ds_step *step = context;
    const plan *p = step->prepared;
    const int64_t height = p->rows.taps.size;
    int64_t end, plane = ds_pair_blocks(&p->pairs, item / height, &end);
    for (; plane < end; plane++)
        make_row(step, plane, item % height, worker);
}

static void run(ds_backend *backend, const ds_step *step)
{
    const plan *p = step->prepared;
    ds_pool_run(backend->pool, p->pairs.count * p->rows.taps.size, task, (void *)step);
}

const ds_kernel ds_cpu_resize = {
    .prepare = prepare, .run = run, .release = release, .takes_half = true};
