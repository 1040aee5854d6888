/* Convolution of each channel with a kernel of its own, forward and backward to the input.

   A work item is a band of output rows of one block of channels. */
#include "cpu/conv.h"

enum {
    SLACK = 8,             /* pixels that the inner loops may read beyond a row */
    ROW_BYTES = 192 << 10, /* of the copies of a band, to stay in the second-level cache */
};

typedef struct depthwise {
    const ds_slots *slots;
    ds_rows rows;
    int64_t blocks, bands, taps;
    float *kept; /* (blocks, taps, 16); NULL: packed in every run */
} depthwise;

typedef struct work {
    const depthwise *plan;
    ds_conv conv;
    ds_finish finish;
    const float *weights;
    float *scratch;
} work;

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    ds_conv conv = ds_conv_of(step);
    return conv.groups == conv.x->shape.c && conv.groups == conv.y->shape.c &&
           !(conv.mode == DS_PAD_REFLECT && conv.backward) && ds_is_blocked(conv.x) &&
           ds_is_blocked(conv.y) && ds_finish_accepts(step);
}

static void set_sizes(depthwise *plan, const ds_conv *conv)
{
    ds_shape y = conv->y->shape;
    plan->blocks = ds_blocks(y.c);
    plan->taps = conv->w->shape.h * conv->w->shape.w;
    plan->rows = ds_rows_of(conv, 1, SLACK);
    int64_t row = plan->rows.length * DS_BLOCK * (int64_t)sizeof(float);
    int64_t step = conv->backward ? 1 : conv->stride;
    int64_t band = ds_minimum((ROW_BYTES / row - plan->rows.count) / step + 1, y.h);
    plan->rows = ds_rows_of(conv, band < 1 ? 1 : band, SLACK);
    plan->bands = (y.h + plan->rows.band - 1) / plan->rows.band;
}

/* Floats of a worker: the copied rows, then the taps, then the positions. */
static int64_t row_floats(const depthwise *plan)
{
    return plan->rows.count * plan->rows.length * DS_BLOCK;
}

static int64_t worker_floats(const depthwise *plan)
{
    int64_t bytes = plan->taps * (int64_t)(sizeof(ds_tap) + sizeof(ds_position));
    return row_floats(plan) + (bytes / (int64_t)sizeof(float) / DS_BLOCK + 1) * DS_BLOCK;
}

static void pack_weights(const depthwise *plan, const ds_conv *conv, float *packed)
{
    const float *from = conv->w->data;
    for (int64_t c = 0; c < plan->blocks * DS_BLOCK; c++)
        for (int64_t tap = 0; tap < plan->taps; tap++)
            packed[(c / DS_BLOCK * plan->taps + tap) * DS_BLOCK + c % DS_BLOCK] =
                c < conv->w->shape.n ? *from++ : 0.0f;
}

static void band_item(void *context, int64_t index, int worker)
{
    const work *w = context;
    const depthwise *plan = w->plan;
    const ds_conv *conv = &w->conv;
    const ds_rows *rows = &plan->rows;
    ds_shape s = conv->y->shape;
    int64_t map = index / plan->bands, n = map / plan->blocks, block = map % plan->blocks;
    int64_t begin = index % plan->bands * rows->band, end = ds_minimum(begin + rows->band, s.h);
    int64_t phases = ds_phases(conv);
    float *copies = w->scratch + worker * worker_floats(plan);
    ds_tap *tap = (ds_tap *)(void *)(copies + row_floats(plan));
    ds_position *position = (ds_position *)(void *)(tap + plan->taps);
    ds_copy_rows(rows, conv, n, block, 1, begin, copies);
    for (int64_t y = begin; y < end; y++)
        for (int64_t phase = 0; phase < phases; phase++) {
            int64_t at = ((map * s.h + y) * s.w + phase) * DS_BLOCK;
            ds_finish finish = ds_finish_at(&w->finish, at, block * DS_BLOCK);
            int64_t taps = ds_positions(rows, conv, begin, y, phase, position);
            for (int64_t i = 0; i < taps; i++)
                tap[i] = (ds_tap){.x = position[i].at * DS_BLOCK, .w = position[i].tap * DS_BLOCK};
            ds_direct d = {.tap = tap,
                           .taps = taps,
                           .x = copies,
                           .w = w->weights + block * plan->taps * DS_BLOCK,
                           .x_step = DS_BLOCK * (conv->backward ? 1 : conv->stride),
                           .y = (float *)conv->y->data + at,
                           .y_step = DS_BLOCK * phases,
                           .pixels = (s.w - phase + phases - 1) / phases};
            plan->slots->depthwise_row(&d, &finish);
        }
}

static void release(ds_backend *backend, ds_step *step)
{
    depthwise *plan = step->prepared;
    if (plan)
        ds_release(backend->alloc, &plan->kept);
    ds_release(backend->alloc, &step->prepared);
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    depthwise *plan = NULL;
    ds_conv conv = ds_conv_of(step);
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *plan, &plan, status));
    step->prepared = plan;
    plan->slots = ds_cpu_slots(backend->level);
    set_sizes(plan, &conv);
    int64_t weights = plan->blocks * plan->taps * DS_BLOCK;
    int64_t shared = plan->blocks * DS_BLOCK + (step->constant[1] ? 0 : weights);
    if (step->constant[1]) {
        size_t bytes = (size_t)weights * sizeof(float);
        DS_TRY(ds_alloc_raw(backend->alloc, bytes, &plan->kept, status));
        pack_weights(plan, &conv, plan->kept);
        step->prepared_bytes = bytes;
    }
    step->workspace_bytes =
        (size_t)(shared + ds_pool_threads(backend->pool) * worker_floats(plan)) * sizeof(float);
    step->variant = "depthwise";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const depthwise *plan = step->prepared;
    float *bias = step->workspace, *after = bias + plan->blocks * DS_BLOCK;
    work w = {.plan = plan, .conv = ds_conv_of(step), .weights = plan->kept, .scratch = after};
    if (!plan->kept) {
        w.weights = after;
        w.scratch = after + plan->blocks * plan->taps * DS_BLOCK;
        pack_weights(plan, &w.conv, after);
    }
    ds_pad_bias(w.conv.bias, bias, plan->blocks);
    w.finish = ds_finish_of(step, bias);
    ds_pool_run(backend->pool, w.conv.y->shape.n * plan->blocks * plan->bands, band_item, &w);
}

const ds_kernel ds_cpu_conv2d_depthwise = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release};
