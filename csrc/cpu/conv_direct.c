/* Direct convolution, forward and backward to the input, for every kernel size, stride and
   dilation, between blocked and planar maps (one of the two sides has more than 4 channels).

   Output row y is a sum over kernel rows i and columns j. Forward, it reads input rows
     y stride + i dilation - pad;
   backward to the input, output pixel x takes part in dy at
     (x + pad - j dilation) / stride   where that is whole,
   so the pixels of a row fall into `stride` phases, each an ordinary convolution with some of the
   taps whose outputs lie `stride` pixels apart.

   A work item is an output row. The input rows it needs are copied side by side with their border,
   so that the inner loops know nothing of borders. A 1x1 convolution with stride 1 needs no copy:
   its rows are runs of pixels of the map itself. */
#include "cpu/conv.h"

#include <string.h>

enum {
    SLACK = 6,       /* pixels that the inner loops may read beyond a row */
    RUN_PIXELS = 96, /* of a 1x1 convolution's work item */
};

typedef struct direct {
    const ds_slots *slots;
    bool pointwise; /* 1x1, stride 1, no border, blocked */
    bool planar;    /* the output */
    int64_t lanes;  /* channels of an input pixel that lie side by side: 16 or 1 */
    int64_t in_blocks;
    int64_t out_columns; /* output channels; in blocks: rounded up to 16 */
    int64_t groups;      /* of 64 output channels */
    int64_t taps;        /* kernel positions */
    int64_t depth;       /* rows of packed weights: in_blocks taps lanes */
    int64_t left;        /* pixels of border before a copied row */
    int64_t length;      /* pixels of a copied row */
    int64_t items;
    float *kept; /* packed weights; NULL: packed in every run */
} direct;

typedef struct work {
    const direct *plan;
    ds_conv conv;
    ds_finish finish;
    float *weights;
    float *scratch;
} work;

static int64_t minimum(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    ds_conv conv = ds_conv_of(step);
    bool finishes = ds_is_blocked(conv.y) ? ds_finish_accepts(step) : !step->epilogue.active;
    return conv.groups == 1 && !(conv.reflect && conv.backward) && finishes &&
           conv.x->kind == DS_MAP && conv.y->kind == DS_MAP &&
           (ds_is_blocked(conv.x) || ds_is_blocked(conv.y));
}

/* a / b rounded down, b > 0. */
static int64_t floor_divide(int64_t a, int64_t b)
{
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static void set_rows(direct *plan, const ds_conv *conv)
{
    ds_shape y = conv->y->shape, w = conv->w->shape;
    int64_t reach = (w.w - 1) * conv->dilation, first, last;
    if (conv->backward) {
        first = floor_divide(conv->pad - reach, conv->stride);
        last = (y.w - 1 + conv->pad) / conv->stride;
    } else {
        first = -conv->pad;
        last = (y.w - 1) * conv->stride + reach - conv->pad;
    }
    plan->left = -first;
    plan->length = last - first + 1 + SLACK * conv->stride;
    plan->items = y.n * y.h;
    if (plan->pointwise) {
        int64_t runs = y.h * y.w / RUN_PIXELS;
        plan->items = y.n * (runs ? runs : 1);
    }
}

static void set_sizes(direct *plan, const ds_conv *conv)
{
    ds_shape x = conv->x->shape, y = conv->y->shape, w = conv->w->shape;
    bool blocked = ds_is_blocked(conv->x);
    plan->planar = !ds_is_blocked(conv->y);
    plan->pointwise = w.h == 1 && w.w == 1 && conv->stride == 1 && conv->pad == 0 && blocked &&
                      y.h * y.w >= SLACK;
    plan->lanes = blocked ? DS_BLOCK : 1;
    plan->in_blocks = blocked ? ds_blocks(x.c) : x.c;
    plan->out_columns = plan->planar ? y.c : ds_blocks(y.c) * DS_BLOCK;
    plan->groups = (plan->out_columns + WINO_GROUP - 1) / WINO_GROUP;
    plan->taps = w.h * w.w;
    plan->depth = plan->in_blocks * plan->taps * plan->lanes;
    set_rows(plan, conv);
}

/* Floats of the copied rows of one worker, then of its taps. */
static int64_t row_floats(const direct *plan, const ds_conv *conv)
{
    int64_t rows = plan->pointwise ? 0 : conv->w->shape.h;
    return (rows * plan->in_blocks * plan->length * plan->lanes + DS_BLOCK - 1) / DS_BLOCK *
           DS_BLOCK;
}

static int64_t worker_floats(const direct *plan, const ds_conv *conv)
{
    int64_t taps = plan->in_blocks * plan->taps * (int64_t)(sizeof(ds_tap) / sizeof(float));
    return row_floats(plan, conv) + (taps + DS_BLOCK - 1) / DS_BLOCK * DS_BLOCK;
}

/* Where the weight of an output channel and a row of packed weights goes. Planar outputs have
   (depth / 16, columns, 16), blocks (groups, 64 / strip, depth, strip). */
static int64_t packed_at(const direct *plan, int64_t out, int64_t row)
{
    if (plan->planar)
        return (row / DS_BLOCK * plan->out_columns + out) * DS_BLOCK + row % DS_BLOCK;
    int64_t strip = plan->slots->strip, begin = out - out % strip;
    return begin * plan->depth + row * minimum(strip, plan->out_columns - begin) + out % strip;
}

static void pack_weights(const direct *plan, const ds_conv *conv, float *packed)
{
    ds_shape w = conv->w->shape;
    const float *from = conv->w->data;
    memset(packed, 0, (size_t)(plan->depth * plan->out_columns) * sizeof(float));
    for (int64_t o = 0; o < w.n; o++)
        for (int64_t i = 0; i < w.c; i++) {
            int64_t out = conv->backward ? i : o, in = conv->backward ? o : i;
            int64_t row = in / plan->lanes * plan->taps * plan->lanes + in % plan->lanes;
            for (int64_t tap = 0; tap < plan->taps; tap++)
                packed[packed_at(plan, out, row + tap * plan->lanes)] = *from++;
        }
}

/* Input row `row` of a picture's block with its border; a row outside is zero. */
static void copy_row(const work *w, const float *map, int64_t row, float *to)
{
    const direct *plan = w->plan;
    ds_shape s = w->conv.x->shape;
    int64_t lanes = plan->lanes;
    row = ds_border(row, s.h, w->conv.reflect);
    if (row < 0) {
        memset(to, 0, (size_t)(plan->length * lanes) * sizeof(float));
        return;
    }
    const float *from = map + row * s.w * lanes;
    for (int64_t i = 0; i < plan->length; i++) {
        int64_t column = i - plan->left;
        if (column == 0) {
            int64_t inner = minimum(s.w, plan->length - i);
            memcpy(to + i * lanes, from, (size_t)(inner * lanes) * sizeof(float));
            i += inner - 1;
            continue;
        }
        column = ds_border(column, s.w, w->conv.reflect);
        for (int64_t lane = 0; lane < lanes; lane++)
            to[i * lanes + lane] = column < 0 ? 0.0f : from[column * lanes + lane];
    }
}

/* The input row that kernel row i meets in output row y; false: none. */
static bool input_row(const ds_conv *conv, int64_t y, int64_t i, int64_t *row)
{
    int64_t at = conv->backward ? y + conv->pad - i * conv->dilation
                                : y * conv->stride + i * conv->dilation - conv->pad;
    int64_t divisor = conv->backward ? conv->stride : 1;
    *row = floor_divide(at, divisor);
    return *row * divisor == at;
}

static void copy_rows(const work *w, int64_t n, int64_t y, float *rows)
{
    const direct *plan = w->plan;
    ds_shape s = w->conv.x->shape;
    int64_t row;
    for (int64_t i = 0; i < w->conv.w->shape.h; i++)
        for (int64_t block = 0; block < plan->in_blocks; block++) {
            const float *map = (const float *)w->conv.x->data +
                               (n * plan->in_blocks + block) * s.h * s.w * plan->lanes;
            if (input_row(&w->conv, y, i, &row))
                copy_row(w, map, row,
                         rows + (i * plan->in_blocks + block) * plan->length * plan->lanes);
        }
}

/* The taps of output row y and a phase (forward: 0); returns how many. */
static int64_t set_taps(const work *w, int64_t y, int64_t phase, ds_tap *tap)
{
    const direct *plan = w->plan;
    const ds_conv *conv = &w->conv;
    ds_shape k = conv->w->shape;
    int64_t count = 0, row;
    for (int64_t block = 0; block < plan->in_blocks; block++)
        for (int64_t i = 0; i < k.h; i++)
            for (int64_t j = 0; j < k.w; j++) {
                int64_t at = conv->backward ? phase + conv->pad - j * conv->dilation
                                            : j * conv->dilation - conv->pad;
                int64_t divisor = conv->backward ? conv->stride : 1;
                int64_t column = floor_divide(at, divisor);
                if (column * divisor != at || !input_row(conv, y, i, &row))
                    continue;
                int64_t line = (i * plan->in_blocks + block) * plan->length;
                tap[count++] = (ds_tap){.x = (line + column + plan->left) * plan->lanes,
                                        .w = ((block * k.h + i) * k.w + j) * plan->lanes};
            }
    return count;
}

/* All output channels of a run of pixels. */
static void run_pixels(const work *w, ds_direct *d, int64_t n, int64_t pixel)
{
    const direct *plan = w->plan;
    ds_shape s = w->conv.y->shape;
    d->channels = plan->lanes;
    d->depth = plan->depth;
    for (int64_t group = 0; group < plan->groups; group++) {
        int64_t channel = group * WINO_GROUP;
        int64_t at =
            (n * plan->out_columns + channel) * s.h * s.w + pixel * (plan->planar ? 1 : DS_BLOCK);
        ds_finish finish = ds_finish_at(&w->finish, at, channel);
        d->y = (float *)w->conv.y->data + at;
        d->y_block = s.h * s.w * (plan->planar ? 1 : DS_BLOCK);
        d->w = w->weights + channel * plan->depth;
        d->columns = minimum(WINO_GROUP, plan->out_columns - channel);
        if (plan->planar)
            plan->slots->planar_row(d, &finish);
        else
            plan->slots->direct_row(d, &finish);
    }
}

static void row_item(void *context, int64_t item, int worker)
{
    const work *w = context;
    const direct *plan = w->plan;
    const ds_conv *conv = &w->conv;
    ds_shape s = conv->y->shape;
    int64_t n = item / s.h, y = item % s.h, lanes = plan->planar ? 1 : DS_BLOCK;
    int64_t phases = conv->backward ? minimum(conv->stride, s.w) : 1;
    float *rows = w->scratch + worker * worker_floats(plan, conv);
    ds_tap *tap = (ds_tap *)(void *)(rows + row_floats(plan, conv));
    copy_rows(w, n, y, rows);
    for (int64_t phase = 0; phase < phases; phase++) {
        ds_direct d = {.tap = tap,
                       .taps = set_taps(w, y, phase, tap),
                       .x = rows,
                       .x_step = plan->lanes * (conv->backward ? 1 : conv->stride),
                       .y_step = lanes * phases,
                       .pixels = (s.w - phase + phases - 1) / phases};
        run_pixels(w, &d, n, y * s.w + phase);
    }
}

static void pointwise_item(void *context, int64_t item, int worker)
{
    const work *w = context;
    const direct *plan = w->plan;
    ds_shape s = w->conv.x->shape;
    int64_t size = s.h * s.w, runs = plan->items / s.n;
    int64_t n = item / runs, run = item % runs, pixel = run * RUN_PIXELS;
    ds_tap *tap = (ds_tap *)(void *)(w->scratch + worker * worker_floats(plan, &w->conv));
    for (int64_t block = 0; block < plan->in_blocks; block++)
        tap[block] = (ds_tap){.x = block * size * DS_BLOCK, .w = block * DS_BLOCK};
    ds_direct d = {.tap = tap,
                   .taps = plan->in_blocks,
                   .x = (const float *)w->conv.x->data +
                        (n * plan->in_blocks * size + pixel) * DS_BLOCK,
                   .x_step = DS_BLOCK,
                   .y_step = plan->planar ? 1 : DS_BLOCK,
                   .pixels = run + 1 < runs ? RUN_PIXELS : size - pixel};
    run_pixels(w, &d, n, pixel);
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
    int64_t weights = plan->depth * plan->out_columns;
    int64_t shared = ds_blocks(plan->out_columns) * DS_BLOCK;
    if (step->constant[1]) {
        size_t bytes = (size_t)weights * sizeof(float);
        DS_TRY(ds_alloc_raw(backend->alloc, bytes, &plan->kept, status));
        pack_weights(plan, &conv, plan->kept);
        step->prepared_bytes = bytes;
    } else {
        shared += (weights + DS_BLOCK - 1) / DS_BLOCK * DS_BLOCK;
    }
    step->workspace_bytes =
        (size_t)(shared + ds_pool_threads(backend->pool) * worker_floats(plan, &conv)) *
        sizeof(float);
    step->variant = plan->pointwise ? "direct 1x1" : plan->planar ? "direct planar" : "direct";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const direct *plan = step->prepared;
    int64_t blocks = ds_blocks(plan->out_columns);
    float *bias = step->workspace, *after = bias + blocks * DS_BLOCK;
    work w = {.plan = plan, .conv = ds_conv_of(step), .weights = plan->kept, .scratch = after};
    if (!plan->kept) {
        int64_t weights = plan->depth * plan->out_columns;
        w.weights = after;
        w.scratch = after + (weights + DS_BLOCK - 1) / DS_BLOCK * DS_BLOCK;
        pack_weights(plan, &w.conv, w.weights);
    }
    ds_pad_bias(w.conv.bias, bias, blocks);
    w.finish = ds_finish_of(step, bias);
    ds_pool_run(backend->pool, plan->items, plan->pointwise ? pointwise_item : row_item, &w);
}

const ds_kernel ds_cpu_conv2d_direct = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release};
