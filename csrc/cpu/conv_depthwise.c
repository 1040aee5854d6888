/* Convolution of each channel with a kernel of its own, forward and backward to the input.

   A work item is a band of output rows of one block of channels, or of the two of a bf16 map. */
#include "cpu/conv_end.h"

enum {
    TILE = 8,              /* pixels that the inner loops compute at least */
    ROW_BYTES = 192 << 10, /* of the copies of a band, to stay in the second-level cache */
};

typedef struct depthwise {
    const ds_slots *slots;
    ds_rows rows;
    ds_pairs pairs;
    int64_t blocks, bands, taps;
    int64_t end_floats; /* of a worker, for its end */
    float *kept;        /* (blocks, taps, 16); NULL: packed in every run */
} depthwise;

typedef struct work {
    const depthwise *plan;
    ds_conv conv;
    ds_end end;
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
    plan->rows = ds_rows_of(conv, 1, TILE);
    int64_t row = plan->rows.length * DS_BLOCK * (int64_t)sizeof(float);
    int64_t step = conv->backward ? 1 : conv->stride;
    int64_t band = ds_minimum((ROW_BYTES / row - plan->rows.count) / step + 1, y.h);
    plan->rows = ds_rows_of(conv, band < 1 ? 1 : band, TILE);
    plan->bands = (y.h + plan->rows.band - 1) / plan->rows.band;
    plan->pairs = ds_pairs_of(conv->y, ds_is_half(conv->y));
}

/* Floats of a worker: the copied rows and the end's, then the taps, then the positions. */
static int64_t row_floats(const depthwise *plan)
{
    return plan->rows.count * plan->rows.length * DS_BLOCK;
}

static int64_t worker_floats(const depthwise *plan)
{
    int64_t bytes = plan->taps * (int64_t)(sizeof(ds_tap) + sizeof(ds_position));
    return row_floats(plan) + plan->end_floats +
           (bytes / (int64_t)sizeof(float) / DS_BLOCK + 1) * DS_BLOCK;
}

static void pack_weights(const depthwise *plan, const ds_conv *conv, float *packed)
{
    const float *from = conv->w->data;
    for (int64_t c = 0; c < plan->blocks * DS_BLOCK; c++)
        for (int64_t tap = 0; tap < plan->taps; tap++)
            packed[(c / DS_BLOCK * plan->taps + tap) * DS_BLOCK + c % DS_BLOCK] =
                c < conv->w->shape.n ? *from++ : 0.0f;
    if (conv->rounds)
        ds_round_operand(plan->slots, conv->w, packed, packed,
                         plan->blocks * plan->taps * DS_BLOCK);
}

/* Where a band's share of the scratch is, and which band it is. */
typedef struct share {
    const float *copies;
    ds_opened to; /* the first output row */
    ds_tap *tap;
    ds_position *position;
    int64_t map; /* block of channels of the batch */
    int64_t begin, end;
} share;

/* The output rows of a band from y on, and the columns from `phase` on, that have the same taps. */
static void phase_rows(const work *w, const share *band, int64_t y, int64_t phase)
{
    const depthwise *plan = w->plan;
    const ds_rows *rows = &plan->rows;
    ds_shape s = w->conv.y->shape;
    int64_t block = band->map % plan->blocks;
    int64_t taps = ds_positions(rows, &w->conv, band->begin, y, phase, band->position);
    for (int64_t i = 0; i < taps; i++)
        band->tap[i] =
            (ds_tap){.x = band->position[i].at * DS_BLOCK, .w = band->position[i].tap * DS_BLOCK};
    ds_direct d = {.tap = band->tap,
                   .taps = taps,
                   .x = band->copies,
                   .w = w->weights + block * plan->taps * DS_BLOCK,
                   .x_step = rows->x_step,
                   .y_step = DS_BLOCK * rows->phases,
                   .pixels = ds_phase_pixels(rows, s.w, phase)};
    for (; y < band->end; y += rows->phases, d.x += rows->y_step) {
        int64_t at = ((y - band->begin) * s.w + phase) * DS_BLOCK;
        ds_finish finish = ds_finish_at(&band->to.finish, at, 0);
        d.y = band->to.y + at;
        plan->slots->depthwise_row(&d, &finish);
    }
}

static void run_band(const work *w, int64_t map, int64_t begin, int worker)
{
    const depthwise *plan = w->plan;
    const ds_rows *rows = &plan->rows;
    ds_shape s = w->conv.y->shape;
    float *copies = w->scratch + worker * worker_floats(plan);
    float *scratch = copies + row_floats(plan);
    ds_tap *tap = (ds_tap *)(void *)(scratch + plan->end_floats);
    int64_t end = ds_minimum(begin + rows->band, s.h);
    ds_part part = {.n = map / plan->blocks,
                    .block = map % plan->blocks,
                    .blocks = 1,
                    .area = {begin * s.w, 1, (end - begin) * s.w, s.w, 1}};
    share band = {.copies = copies,
                  .to = ds_end_open(&w->end, &part, scratch),
                  .tap = tap,
                  .position = (ds_position *)(void *)(tap + plan->taps),
                  .map = map,
                  .begin = begin,
                  .end = end};
    ds_copy_rows(plan->slots, rows, &w->conv, map / plan->blocks, map % plan->blocks, 1, begin,
                 copies);
    for (int64_t row = begin; row < ds_minimum(begin + rows->phases, end); row++)
        for (int64_t phase = 0; phase < rows->phases; phase++)
            phase_rows(w, &band, row, phase);
    ds_end_close(&w->end, &part, scratch);
}

static void band_item(void *context, int64_t index, int worker)
{
    const work *w = context;
    const depthwise *plan = w->plan;
    int64_t end, map = ds_pair_blocks(&plan->pairs, index / plan->bands, &end);
    for (; map < end; map++)
        run_band(w, map, index % plan->bands * plan->rows.band, worker);
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
    plan->end_floats = ds_end_floats(step, plan->rows.band * conv.y->shape.w);
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
    w.end = ds_end_of(plan->slots, step, bias);
    ds_pool_run(backend->pool, plan->pairs.count * plan->bands, band_item, &w);
}

const ds_kernel ds_cpu_conv2d_depthwise = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release, .takes_half = true};
