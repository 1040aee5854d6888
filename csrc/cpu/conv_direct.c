/* Direct convolution, forward and backward to the input, for every kernel size, stride, dilation
   and number of groups whose channels fill blocks, between blocked and planar maps (one of the two
   sides has more than 4 channels).

   Groups narrower than a block are taken together to parts of one block, with zeros for the weights
   between them; a convolution without groups is one part. A part's output channels are computed in
   sets of up to 64.

   A work item is a band of output rows of a part: it copies the input rows with their border, then
   goes through the sets. On small maps with many weights it is one set and all rows instead, so
   that the weights are read once. A 1x1 convolution without border needs no copy: its items are
   runs of pixels of the map itself. What is bf16 of a run lies as floats in the worker's scratch, a
   piece at a time. */
#include "cpu/conv_end.h"

#include <string.h>

enum {
    TILE = 12,             /* pixels that the inner loops compute at least */
    PIECE = 48,            /* pixels of a run: a multiple of TILE */
    RUN_PIXELS = 96,       /* of a 1x1 convolution's work item, */
    FEW_PIXELS = 24,       /* and at least so many */
    ROW_BYTES = 256 << 10, /* of the copies of a band, to stay in the second-level cache */
    BANDS = 16,            /* or runs to share out, where there are so many rows or pixels */
    SET_BYTES = 1 << 20,   /* weights of a part from which an item may be one set */
    SET_PIXELS = 1024,     /* and the largest map for that */
    SMALL_PIXELS = 4 * FEW_PIXELS, /* below this an item is one set whatever the weights */
};

typedef struct direct {
    const ds_slots *slots;
    ds_rows rows;
    bool pointwise; /* 1x1, no border, blocked: no copies of rows, */
    bool copies;    /* but of pieces */
    bool planar;    /* the output */
    int64_t parts;
    int64_t part_blocks;  /* input blocks (planar: channels) of a part */
    int64_t part_columns; /* output channels of a part; in blocks: rounded up to 16 */
    int64_t sets;         /* of up to 64 output channels, in a part */
    int64_t item_sets;    /* sets of a work item: all or one */
    int64_t lines, runs;  /* of a picture: output rows or bands, and runs in each */
    int64_t run;          /* pixels of a run; the last one may have more */
    int64_t taps;         /* kernel positions */
    int64_t depth;        /* rows of a part's packed weights: part_blocks taps lanes */
    int64_t end_floats;   /* of a worker, for its end */
    float *kept;          /* packed weights; NULL: packed in every run */
} direct;

typedef struct work {
    const direct *plan;
    ds_conv conv;
    ds_end end;
    float *weights;
    float *scratch;
} work;

/* Which part of the work an item is. */
typedef struct place {
    int64_t n, part, set, line, run;
} place;

/* Groups that lie in one block. */
static int64_t groups_of_part(const ds_conv *conv)
{
    int64_t width = conv->x->shape.c / conv->groups;
    return conv->groups > 1 && width < DS_BLOCK ? DS_BLOCK / width : 1;
}

static bool accepts_groups(const ds_conv *conv)
{
    int64_t in = conv->x->shape.c / conv->groups, out = conv->y->shape.c / conv->groups;
    if (conv->groups == 1 || (in % DS_BLOCK == 0 && out % DS_BLOCK == 0))
        return true;
    return in == out && DS_BLOCK % in == 0 && conv->groups % (DS_BLOCK / in) == 0;
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    ds_conv conv = ds_conv_of(step);
    bool finishes = ds_is_blocked(conv.y) ? ds_finish_accepts(step) : !step->epilogue.active;
    return accepts_groups(&conv) && !(conv.mode == DS_PAD_REFLECT && conv.backward) && finishes &&
           conv.x->kind == DS_MAP && conv.y->kind == DS_MAP &&
           (ds_is_blocked(conv.x) || ds_is_blocked(conv.y));
}

static void set_parts(direct *plan, const ds_conv *conv)
{
    ds_shape x = conv->x->shape, y = conv->y->shape;
    bool blocked = ds_is_blocked(conv->x);
    plan->planar = !ds_is_blocked(conv->y);
    plan->parts = conv->groups / groups_of_part(conv);
    plan->part_blocks = (blocked ? ds_blocks(x.c) : x.c) / plan->parts;
    plan->part_columns = (plan->planar ? y.c : ds_blocks(y.c) * DS_BLOCK) / plan->parts;
    plan->sets = (plan->part_columns + WINO_GROUP - 1) / WINO_GROUP;
    plan->taps = conv->w->shape.h * conv->w->shape.w;
    plan->depth = plan->part_blocks * plan->taps * (blocked ? DS_BLOCK : 1);
}

/* How the output is divided into work items. */
static void set_items(direct *plan, const ds_conv *conv)
{
    ds_shape y = conv->y->shape;
    int64_t bytes = plan->depth * plan->part_columns * (int64_t)sizeof(float);
    bool by_set = (bytes > SET_BYTES && y.h * y.w <= SET_PIXELS) || y.h * y.w < SMALL_PIXELS;
    plan->item_sets = by_set ? 1 : plan->sets;
    plan->runs = 1;
    if (plan->pointwise) {
        plan->lines = conv->stride == 1 ? 1 : y.h;
        int64_t pixels = y.h * y.w / plan->lines;
        plan->run = pixels / (conv->stride == 1 ? BANDS : 1);
        plan->run = plan->run < FEW_PIXELS ? FEW_PIXELS : ds_minimum(plan->run, RUN_PIXELS);
        plan->runs = by_set || pixels < plan->run ? 1 : pixels / plan->run;
        return;
    }
    plan->rows = ds_rows_of(conv, 1, TILE);
    int64_t row = plan->part_blocks * plan->rows.length * plan->rows.lanes * (int64_t)sizeof(float);
    int64_t step = conv->backward ? 1 : conv->stride;
    int64_t band = (ROW_BYTES / row - plan->rows.count) / step + 1;
    band = ds_minimum(band, (y.h + BANDS - 1) / BANDS);
    plan->rows = ds_rows_of(conv, band < 1 ? 1 : band, TILE);
    plan->lines = (y.h + plan->rows.band - 1) / plan->rows.band;
}

static void set_sizes(direct *plan, const ds_conv *conv)
{
    ds_shape x = conv->x->shape, y = conv->y->shape;
    set_parts(plan, conv);
    plan->pointwise = plan->taps == 1 && conv->top == 0 && conv->left == 0 && conv->up == 1 &&
                      ds_is_blocked(conv->x) && (conv->stride == 1 || !conv->backward) &&
                      (y.h - 1) * conv->stride < x.h && (y.w - 1) * conv->stride < x.w &&
                      (conv->stride == 1 ? y.h * y.w : y.w) >= TILE;
    plan->copies = plan->pointwise && conv->rounds;
    set_items(plan, conv);
}

static int64_t whole_lines(int64_t floats)
{
    return (floats + DS_BLOCK - 1) / DS_BLOCK * DS_BLOCK;
}

/* The next pixels of a run of which `left` are left: no piece is shorter than a tile. */
static int64_t piece_of(int64_t left)
{
    return left < 2 * PIECE ? left : PIECE;
}

/* Floats of a worker: the copied rows, or piece, then the taps, the positions and the end. */
static int64_t row_floats(const direct *plan)
{
    const ds_rows *rows = &plan->rows;
    if (plan->pointwise)
        return plan->copies ? plan->part_blocks * 2 * PIECE * DS_BLOCK : 0;
    return whole_lines(plan->part_blocks * rows->count * rows->length * rows->lanes);
}

static int64_t tap_floats(const direct *plan)
{
    return whole_lines(plan->part_blocks * plan->taps * (int64_t)(sizeof(ds_tap) / sizeof(float)));
}

static int64_t list_floats(const direct *plan)
{
    return tap_floats(plan) +
           whole_lines(plan->taps * (int64_t)(sizeof(ds_position) / sizeof(float)));
}

static int64_t worker_floats(const direct *plan)
{
    return row_floats(plan) + list_floats(plan) + plan->end_floats;
}

/* Where the weight of an output channel and a row of packed weights of a part goes. Planar outputs
   have (depth / 16, columns, 16), blocks (sets, 64 / strip, depth, strip). */
static int64_t packed_at(const direct *plan, int64_t out, int64_t row)
{
    if (plan->planar)
        return (row / DS_BLOCK * plan->part_columns + out) * DS_BLOCK + row % DS_BLOCK;
    int64_t strip = plan->slots->strip, begin = out - out % strip;
    return begin * plan->depth + row * ds_minimum(strip, plan->part_columns - begin) + out % strip;
}

static int64_t weight_floats(const direct *plan)
{
    return plan->parts * plan->depth * plan->part_columns;
}

/* w (O, I / groups, taps) as (parts, ...) of packed_at. */
static void pack_weights(const direct *plan, const ds_conv *conv, float *packed)
{
    ds_shape w = conv->w->shape;
    const float *from = conv->w->data;
    int64_t lanes = ds_is_blocked(conv->x) ? DS_BLOCK : 1, together = groups_of_part(conv);
    int64_t rows = w.n / conv->groups; /* output channels of a group */
    memset(packed, 0, (size_t)weight_floats(plan) * sizeof(float));
    for (int64_t o = 0; o < w.n; o++)
        for (int64_t i = 0; i < w.c; i++) {
            int64_t group = o / rows, part = group / together, member = group % together;
            int64_t a = member * rows + o % rows, b = member * w.c + i;
            int64_t out = conv->backward ? b : a, in = conv->backward ? a : b;
            int64_t row = in / lanes * plan->taps * lanes + in % lanes;
            float *to = packed + part * plan->depth * plan->part_columns;
            for (int64_t tap = 0; tap < plan->taps; tap++)
                to[packed_at(plan, out, row + tap * lanes)] = *from++;
        }
    if (conv->rounds)
        ds_round_operand(plan->slots, conv->w, packed, packed, weight_floats(plan));
}

static place place_of(const direct *plan, int64_t index)
{
    place at = {.run = index % plan->runs};
    index /= plan->runs;
    at.line = index % plan->lines;
    index /= plan->lines;
    int64_t sets = plan->sets / plan->item_sets;
    at.set = index % sets * plan->item_sets;
    index /= sets;
    at.part = index % plan->parts;
    at.n = index / plan->parts;
    return at;
}

static int64_t items(const direct *plan, int64_t pictures)
{
    return pictures * plan->parts * (plan->sets / plan->item_sets) * plan->lines * plan->runs;
}

/* A run of output pixels, each `apart` further on in the map. */
typedef struct pixel_run {
    ds_direct direct;
    int64_t pixel, apart;
    float *scratch;
} pixel_run;

/* One set of output channels of a run of pixels. */
static void run_pixels(const work *w, const pixel_run *run, const place *item, int64_t set)
{
    const direct *plan = w->plan;
    ds_direct d = run->direct;
    int64_t lanes = plan->planar ? 1 : DS_BLOCK, channel = set * WINO_GROUP;
    int64_t first = item->part * plan->part_columns + channel;
    d.channels = ds_is_blocked(w->conv.x) ? DS_BLOCK : 1;
    d.depth = plan->depth;
    d.w = w->weights + first * plan->depth;
    d.columns = ds_minimum(WINO_GROUP, plan->part_columns - channel);
    ds_part part = {
        .n = item->n,
        .block = first / lanes,
        .blocks = d.columns / lanes,
        .area = {.pixel = run->pixel, .rows = 1, .row = w->conv.y->shape.w, .column = run->apart}};
    for (int64_t left = run->direct.pixels; left > 0; left -= d.pixels) {
        part.area.columns = d.pixels = w->end.apart ? piece_of(left) : left;
        ds_opened to = ds_end_open(&w->end, &part, run->scratch);
        d.y = to.y;
        d.y_block = to.block;
        d.y_step = to.column;
        if (plan->planar)
            plan->slots->planar_row(&d, &to.finish);
        else
            plan->slots->direct_row(&d, &to.finish);
        ds_end_close(&w->end, &part, run->scratch);
        part.area.pixel += d.pixels * run->apart;
        d.x += d.pixels * d.x_step;
    }
}

/* Where the copies and lists of a work item are. */
typedef struct share {
    const float *copies;
    ds_tap *tap;
    ds_position *position;
    float *scratch;     /* for ends */
    int64_t begin, end; /* output rows */
} share;

/* The taps of output row y and the columns of a phase; returns how many. */
static int64_t set_taps(const work *w, const share *band, int64_t y, int64_t phase)
{
    const direct *plan = w->plan;
    const ds_rows *rows = &plan->rows;
    const ds_position *position = band->position;
    int64_t count = ds_positions(rows, &w->conv, band->begin, y, phase, band->position);
    ds_tap *tap = band->tap;
    for (int64_t block = 0; block < plan->part_blocks; block++)
        for (int64_t i = 0; i < count; i++)
            *tap++ =
                (ds_tap){.x = (block * rows->count * rows->length + position[i].at) * rows->lanes,
                         .w = (block * plan->taps + position[i].tap) * rows->lanes};
    return plan->part_blocks * count;
}

/* The output rows of a band from y on, and the columns from `phase` on, that have the same taps. */
static void phase_rows(const work *w, const place *item, const share *band, int64_t y,
                       int64_t phase)
{
    const direct *plan = w->plan;
    const ds_rows *rows = &plan->rows;
    int64_t width = w->conv.y->shape.w;
    pixel_run run = {.direct = {.tap = band->tap,
                                .taps = set_taps(w, band, y, phase),
                                .x_step = rows->x_step,
                                .pixels = ds_phase_pixels(rows, width, phase)},
                     .apart = rows->phases,
                     .scratch = band->scratch};
    for (int64_t set = 0; set < plan->item_sets; set++) {
        run.direct.x = band->copies;
        run.pixel = y * width + phase;
        for (int64_t row = y; row < band->end; row += rows->phases) {
            run_pixels(w, &run, item, item->set + set);
            run.direct.x += rows->y_step;
            run.pixel += rows->phases * width;
        }
    }
}

static void rows_item(void *context, int64_t index, int worker)
{
    const work *w = context;
    const direct *plan = w->plan;
    const ds_rows *rows = &plan->rows;
    place item = place_of(plan, index);
    float *copies = w->scratch + worker * worker_floats(plan);
    float *lists = copies + row_floats(plan);
    int64_t begin = item.line * rows->band;
    share band = {.copies = copies,
                  .tap = (ds_tap *)(void *)lists,
                  .position = (ds_position *)(void *)(lists + tap_floats(plan)),
                  .scratch = lists + list_floats(plan),
                  .begin = begin,
                  .end = ds_minimum(begin + rows->band, w->conv.y->shape.h)};
    ds_copy_rows(plan->slots, rows, &w->conv, item.n, item.part * plan->part_blocks,
                 plan->part_blocks, begin, copies);
    for (int64_t y = begin; y < ds_minimum(begin + rows->phases, band.end); y++)
        for (int64_t phase = 0; phase < rows->phases; phase++)
            phase_rows(w, &item, &band, y, phase);
}

/* The input of a run of a 1x1 convolution that starts with pixel `from`. */
static void read_piece(const work *w, const place *item, int64_t from, pixel_run *run,
                       float *copies)
{
    const direct *plan = w->plan;
    const ds_tensor *x = w->conv.x;
    int64_t pixels = run->direct.pixels, step = w->conv.stride;
    int64_t first = (item->n * plan->parts + item->part) * plan->part_blocks;
    ds_area area = {from, 1, pixels, x->shape.w, step};
    run->direct.x = plan->copies ? copies : ds_pixel_at(x, first, from);
    run->direct.x_step = plan->copies ? DS_BLOCK : DS_BLOCK * step;
    for (int64_t block = 0; plan->copies && block < plan->part_blocks; block++) {
        float *to = copies + block * 2 * PIECE * DS_BLOCK;
        ds_read_area(plan->slots, x, first + block, &area, to);
        if (!ds_is_half(x))
            ds_round_operand(plan->slots, x, to, to, pixels * DS_BLOCK);
    }
}

static void pointwise_item(void *context, int64_t index, int worker)
{
    const work *w = context;
    const direct *plan = w->plan;
    ds_shape s = w->conv.x->shape, y = w->conv.y->shape;
    place item = place_of(plan, index);
    int64_t size = plan->copies ? 2 * PIECE : s.h * s.w, stride = w->conv.stride;
    int64_t pixels = stride == 1 ? y.h * y.w : y.w, pixel = item.run * plan->run;
    int64_t from = item.line * stride * s.w + pixel * stride;
    int64_t left = item.run + 1 < plan->runs ? plan->run : pixels - pixel;
    float *copies = w->scratch + worker * worker_floats(plan), *lists = copies + row_floats(plan);
    ds_tap *tap = (ds_tap *)(void *)lists;
    for (int64_t block = 0; block < plan->part_blocks; block++)
        tap[block] = (ds_tap){.x = block * size * DS_BLOCK, .w = block * DS_BLOCK};
    pixel_run run = {.direct = {.tap = tap, .taps = plan->part_blocks},
                     .pixel = item.line * y.w + pixel,
                     .apart = 1,
                     .scratch = lists + list_floats(plan)};
    for (; left > 0; left -= run.direct.pixels) {
        run.direct.pixels = plan->copies ? piece_of(left) : left;
        read_piece(w, &item, from, &run, copies);
        for (int64_t set = 0; set < plan->item_sets; set++)
            run_pixels(w, &run, &item, item.set + set);
        run.pixel += run.direct.pixels;
        from += run.direct.pixels * stride;
    }
}

static void release(ds_backend *backend, ds_step *step)
{
    direct *plan = step->prepared;
    if (plan)
        ds_release(backend->alloc, &plan->kept);
    ds_release(backend->alloc, &step->prepared);
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    direct *plan = NULL;
    ds_conv conv = ds_conv_of(step);
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *plan, &plan, status));
    step->prepared = plan;
    plan->slots = ds_cpu_slots(backend->level);
    set_sizes(plan, &conv);
    plan->end_floats = ds_end_floats(step, 2 * PIECE * (WINO_GROUP / DS_BLOCK));
    int64_t shared = whole_lines(plan->parts * plan->part_columns);
    if (step->constant[1]) {
        size_t bytes = (size_t)weight_floats(plan) * sizeof(float);
        DS_TRY(ds_alloc_raw(backend->alloc, bytes, &plan->kept, status));
        pack_weights(plan, &conv, plan->kept);
        step->prepared_bytes = bytes;
    } else {
        shared += whole_lines(weight_floats(plan));
    }
    step->workspace_bytes =
        (size_t)(shared + ds_pool_threads(backend->pool) * worker_floats(plan)) * sizeof(float);
    step->variant = plan->pointwise   ? "direct 1x1"
                    : plan->planar    ? "direct planar"
                    : plan->parts > 1 ? "direct grouped"
                                      : "direct";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const direct *plan = step->prepared;
    int64_t channels = whole_lines(plan->parts * plan->part_columns);
    float *bias = step->workspace, *after = bias + channels;
    work w = {.plan = plan, .conv = ds_conv_of(step), .weights = plan->kept, .scratch = after};
    if (!plan->kept) {
        w.weights = after;
        w.scratch = after + whole_lines(weight_floats(plan));
        pack_weights(plan, &w.conv, w.weights);
    }
    ds_pad_bias(w.conv.bias, bias, channels / DS_BLOCK);
    w.end = ds_end_of(plan->slots, step, bias);
    ds_pool_run(backend->pool, items(plan, w.conv.y->shape.n),
                plan->pointwise ? pointwise_item : rows_item, &w);
}

const ds_kernel ds_cpu_conv2d_direct = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release, .takes_half = true};
