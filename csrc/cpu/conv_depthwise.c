/* Convolution of each channel with a kernel of its own, forward and backward to the input.

   A work item is a band of output rows of one block of channels, or of the two of a bf16 map. */
#include "cpu/conv.h"
#include "cpu/half.h"

enum {
    TILE = 8,              /* pixels that the inner loops compute at least */
    ROW_BYTES = 192 << 10, /* of the copies of a band, to stay in the second-level cache */
};

typedef struct depthwise {
    const ds_slots *slots;
    ds_rows rows;
    ds_pairs pairs;
    int64_t blocks, bands, taps;
    int64_t made; /* floats of a band of the output, where that is bf16 */
    float *kept;  /* (blocks, taps, 16); NULL: packed in every run */
} depthwise;

typedef struct work {
    const depthwise *plan;
    ds_conv conv;
    ds_finish finish;
    const float *weights;
    float *scratch;
} work;

/* What the end of a bf16 step reads would have to be widened too. */
static bool accepts_types(const ds_step *step)
{
    return !ds_step_has_half(step) || (ds_is_half(step->in[0]) && ds_is_half(step->out) &&
                                       !step->epilogue.addend && !step->epilogue.gate);
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    ds_conv conv = ds_conv_of(step);
    return conv.groups == conv.x->shape.c && conv.groups == conv.y->shape.c &&
           !(conv.mode == DS_PAD_REFLECT && conv.backward) && ds_is_blocked(conv.x) &&
           ds_is_blocked(conv.y) && ds_finish_accepts(step) && accepts_types(step);
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
    plan->made = ds_is_half(conv->y) ? plan->rows.band * y.w * DS_BLOCK : 0;
}

/* Floats of a worker: the copied rows and those made, then the taps, then the positions. */
static int64_t row_floats(const depthwise *plan)
{
    return plan->rows.count * plan->rows.length * DS_BLOCK + plan->made;
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
    for (int64_t i = 0; ds_is_half(conv->x) && i < plan->blocks * plan->taps * DS_BLOCK; i++)
        packed[i] = ds_round_to_bf16(packed[i]);
}

/* Where a band's share of the scratch is, and which band it is. */
typedef struct share {
    const float *copies;
    float *to; /* the first output row, in the output or in the scratch */
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
        int64_t at = ((band->map * s.h + y) * s.w + phase) * DS_BLOCK;
        ds_finish finish = ds_finish_at(&w->finish, at, block * DS_BLOCK);
        d.y = band->to + ((y - band->begin) * s.w + phase) * DS_BLOCK;
        plan->slots->depthwise_row(&d, &finish);
    }
}

static void run_band(const work *w, int64_t map, int64_t begin, int worker)
{
    const depthwise *plan = w->plan;
    const ds_rows *rows = &plan->rows;
    const ds_tensor *y = w->conv.y;
    float *copies = w->scratch + worker * worker_floats(plan);
    float *made = copies + row_floats(plan) - plan->made;
    ds_tap *tap = (ds_tap *)(void *)(made + plan->made);
    share band = {.copies = copies,
                  .to = ds_pixels_to_write(y, map, begin * y->shape.w, made),
                  .tap = tap,
                  .position = (ds_position *)(void *)(tap + plan->taps),
                  .map = map,
                  .begin = begin,
                  .end = ds_minimum(begin + rows->band, y->shape.h)};
    ds_copy_rows(plan->slots, rows, &w->conv, map / plan->blocks, map % plan->blocks, 1, begin,
                 copies);
    for (int64_t row = begin; row < ds_minimum(begin + rows->phases, band.end); row++)
        for (int64_t phase = 0; phase < rows->phases; phase++)
            phase_rows(w, &band, row, phase);
    ds_write_pixels(plan->slots, y, map, begin * y->shape.w, (band.end - begin) * y->shape.w,
                    band.to);
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
    w.finish.stream &= !ds_is_half(w.conv.y);
    ds_pool_run(backend->pool, plan->pairs.count * plan->bands, band_item, &w);
}

const ds_kernel ds_cpu_conv2d_depthwise = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release, .takes_half = true};
