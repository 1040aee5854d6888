/* Convolution as products of bf16 tiles, forward and backward to the input: any kernel, stride,
   dilation and border, between maps and images, without groups.

   A work item is a part of the output, `band` rows by `segment` columns. It copies the input rows
   under it, with their border and as bf16, to where the loads of tiles have one stride and no
   border; there 16 neighbouring outputs read 16 pixels an equal step apart, whatever the kernel
   position. Of a map 32 channels of a pixel are the inner dimension of a tile, of an image 4
   neighbouring pixels with the high and the low parts of 4 channels each, which meet the same
   weights. Kernel positions below one another that meet neighbouring rows make a ladder: the rows
   of pixels that four rows of outputs share are loaded once. All sums stay in registers until they
   are complete. A 1x1 convolution of a bf16 map is one of a map of 16 columns, read where it lies.
   A norm of the input is applied to the copies.

   Operands that must not lose what bf16 cannot hold are split into two of them, high and low, and
   what is computed is high high + high low + low high: the same sum with three times the terms, or
   with twice as many where the map is of bf16 itself, or an image, which is split anyway.

   The gradient of a Gram matrix that is added to the result is computed as one more kernel position
   of other pixels, those of the features, which an item copies too (conv_tiles_gram.c). A gradient
   that went back through a max pool is made when it is copied, of that to the pool's result. */
#include "cpu/conv_tiles.h"

#include "cpu/norm.h"

#include <string.h>

/* Floats of the sums of 4 rows of 16 pixels by 32 channels. */
enum { SUMS = 2 * DS_TILE_GROUP * DS_TILE_ROWS * DS_TILE_ROWS };

/* Weights of 16 output channels that stay in the first-level cache without being fetched early. */
enum { FEW_LINES = 256 };

/* A larger stride backward leaves few pixels for each pair of phases. */
enum { MOST_PHASES = 4 };

/* What is made of a map's values when they are read. */
typedef struct norm {
    const float *scale, *shift; /* (N, lanes) of the map; NULL: nothing */
    ds_finish end;              /* an activation */
} norm;

typedef struct work {
    const ds_tile_plan *plan;
    int64_t picture; /* the first one */
    ds_conv conv;
    ds_finish finish;
    const ds_epilogue *epilogue;
    norm norm;
    bool rectified; /* of the prologue */
    const ds_bf16 *weights;
    float *statistics; /* as ds_tile_statistics_at; NULL: y is not measured */
    unsigned char *scratch;
} work;

/* The part of the output that an item computes. */
typedef struct place {
    int64_t n, block, last_block, y, y_end, x, x_end;
} place;

/* Whether vectors of bf16 are worth it: Winograd needs a quarter of the products, in fp32; of
   images they would waste more lanes than the direct kernel does. */
static bool pays_on_vectors(const ds_backend *backend, const ds_step *step, const ds_conv *conv)
{
    return ds_is_blocked(conv->x) && ds_is_blocked(conv->y) &&
           !ds_cpu_conv2d_winograd.accepts(backend, step);
}

/* Without tile registers the two parts of S cost as much as the separate step. */
static bool adds_gram(const ds_backend *backend, const ds_conv *conv)
{
    return backend->level == DS_CPU_AMX && conv->backward && conv->stride == 1 &&
           ds_is_blocked(conv->x) && ds_is_blocked(conv->y);
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    ds_conv conv = ds_conv_of(step);
    bool finishes = ds_is_blocked(conv.y) ? ds_finish_accepts(step) : !step->epilogue.active;
    bool pays = backend->level == DS_CPU_AMX
                    ? ds_step_rounds(step) || step->splits
                    : ds_step_rounds(step) && pays_on_vectors(backend, step, &conv);
    if ((step->epilogue.features && !adds_gram(backend, &conv)) ||
        (conv.pooled && !ds_is_half(conv.x)))
        return false;
    if (step->prologue.norm && !ds_is_blocked(conv.x))
        return false;
    return ds_cpu_tiles(backend->level) && pays && conv.groups == 1 && finishes &&
           !(conv.backward && (conv.mode == DS_PAD_REFLECT || conv.stride > MOST_PHASES)) &&
           conv.x->kind == DS_MAP && conv.y->kind == DS_MAP &&
           (ds_is_blocked(conv.x) || ds_is_blocked(conv.y));
}

static place place_of(const work *w, int64_t index)
{
    const ds_tile_plan *plan = w->plan;
    place at = {.block = index % plan->sets * plan->item_blocks};
    index /= plan->sets;
    at.x = index % plan->segments * plan->segment;
    index /= plan->segments;
    at.y = index % plan->bands * plan->band;
    at.n = w->picture + index / plan->bands;
    at.last_block = ds_minimum(at.block + plan->item_blocks, plan->out_blocks);
    at.x_end = ds_minimum(at.x + plan->segment, plan->y.w);
    at.y_end = ds_minimum(at.y + plan->band, plan->y.h);
    return at;
}

/* A map whose rows are copied, and which of them. */
typedef struct source {
    const ds_tensor *map;
    int64_t blocks, parts;
    const int32_t *row;    /* (rows) the row of the map, -1: zero */
    const int32_t *column; /* (pixels) */
    int64_t rows, pixels;
    int64_t apart; /* values from a block's copy to the next one's */
    norm norm;
    const ds_tensor *pooled; /* of which the map is a pool's gradient, or NULL */
    bool rectified;
} source;

/* The map as it lies: block 0 of picture n. */
static const void *input_at(const ds_tensor *x, int64_t n, int64_t block)
{
    ds_shape s = x->shape;
    if (ds_is_half(x))
        return ds_half_block(x, n, block);
    if (ds_is_blocked(x))
        return ds_block(x, n, 2 * block);
    return (const float *)x->data + n * s.c * s.h * s.w;
}

static int64_t row_bytes(const ds_tensor *map)
{
    return map->shape.w * ds_block_lanes(map) * (int64_t)ds_dtype_bytes(map->dtype);
}

/* Lets `copy` read row `row` of a block; false where that is all zero. */
static bool find_row(const source *from, int64_t n, int64_t block, int64_t row, ds_tile_copy *copy)
{
    const ds_tensor *x = from->map, *pooled = from->pooled;
    int64_t y = pooled ? row / 2 : row;
    if (row < 0 || y >= x->shape.h)
        return false;
    copy->row = (const unsigned char *)input_at(x, n, block) + y * row_bytes(x);
    if (!pooled)
        return true;
    ds_shape s = pooled->shape;
    const unsigned char *map = input_at(pooled, n, block);
    copy->windows = (ds_tile_windows){.x = map + row * row_bytes(pooled),
                                      .beside = map + (row ^ 1) * row_bytes(pooled),
                                      .below = row % 2,
                                      .half = ds_is_half(pooled),
                                      .plane = s.h * s.w * DS_BLOCK,
                                      .channels = s.c - block * DS_HALF_BLOCK,
                                      .count = x->shape.w,
                                      .rectified = from->rectified};
    return true;
}

static void copy_rows(const ds_tile_plan *plan, const source *from, int64_t n, ds_bf16 *to)
{
    const ds_tensor *x = from->map;
    ds_shape s = x->shape;
    bool half = ds_is_half(x), image = plan->lanes == DS_IMAGE_LANES;
    int64_t row_values = plan->length * plan->lanes, low = from->blocks * from->apart;
    ds_tile_copy copy = {.column = from->column,
                         .pixels = from->pixels,
                         .half = half,
                         .image = image,
                         .active = from->norm.end.active,
                         .slope = from->norm.end.slope,
                         .high = from->norm.end.high,
                         .plane = s.h * s.w * (image ? 1 : DS_BLOCK)};
    for (int64_t block = 0; block < from->blocks; block++) {
        copy.channels = s.c - block * DS_HALF_BLOCK;
        if (from->norm.scale) {
            copy.scale = from->norm.scale + n * ds_lanes(x) + block * DS_HALF_BLOCK;
            copy.shift = from->norm.shift + n * ds_lanes(x) + block * DS_HALF_BLOCK;
        }
        for (int64_t i = 0; i < from->rows; i++) {
            copy.to = to + block * from->apart + i * row_values;
            copy.low = from->parts > 1 ? copy.to + low : NULL;
            if (find_row(from, n, block, from->row[i], &copy)) {
                plan->slots->copy(&copy);
                continue;
            }
            memset(copy.to, 0, (size_t)row_values * sizeof *to);
            if (copy.low)
                memset(copy.low, 0, (size_t)row_values * sizeof *to);
        }
    }
}

/* The input, or what it is made of, and the features whose Gram matrix has a gradient. */
static void copy_inputs(const work *w, const place *item, ds_bf16 *to)
{
    const ds_tile_plan *plan = w->plan;
    const ds_tile_gram *gram = &plan->gram;
    const int64_t row_values = plan->length * plan->lanes;
    const source x = {.map = w->conv.x,
                      .norm = w->norm,
                      .blocks = plan->in_blocks,
                      .parts = plan->x_parts,
                      .row = plan->row + ds_tile_apart(plan, item->y),
                      .column = plan->column + ds_tile_apart(plan, item->x),
                      .rows = plan->count,
                      .pixels = plan->length,
                      .apart = plan->count * row_values,
                      .pooled = w->conv.pooled,
                      .rectified = w->rectified};
    copy_rows(plan, &x, item->n, to);
    if (!gram->blocks)
        return;
    const source features = {.map = w->epilogue->features,
                             .blocks = gram->blocks,
                             .parts = gram->parts,
                             .row = gram->row + item->y,
                             .column = gram->column + item->x,
                             .rows = item->y_end - item->y,
                             .pixels = plan->segment,
                             .apart = plan->band * row_values};
    copy_rows(plan, &features, item->n, to + gram->copy);
}

static ds_tile_map map_at(const ds_tensor *map, int64_t n, int64_t block)
{
    if (!map)
        return (ds_tile_map){0};
    int64_t pixels = map->shape.h * map->shape.w;
    if (ds_is_half(map))
        return (ds_tile_map){.data = ds_half_block(map, n, block), .half = true};
    if (ds_is_blocked(map))
        return (ds_tile_map){.data = ds_block(map, n, 2 * block), .plane = pixels * DS_BLOCK};
    return (ds_tile_map){.data = (float *)map->data + n * map->shape.c * pixels, .plane = pixels};
}

/* The end of the convolution for a block of output channels. */
static ds_tile_end end_of(const work *w, const place *item, int64_t block)
{
    const ds_tile_plan *plan = w->plan;
    int64_t channels = w->conv.y->shape.c - block * DS_TILE_DEPTH;
    return (ds_tile_end){.bias = w->finish.bias + block * DS_TILE_DEPTH,
                         .addend = map_at(w->epilogue->addend, item->n, block),
                         .gate = map_at(w->epilogue->gate, item->n, block),
                         .y = map_at(w->conv.y, item->n, block),
                         .x_step = plan->phases,
                         .y_step = plan->phases * plan->y.w,
                         .planes = ds_is_blocked(w->conv.y) ? 0 : channels,
                         .halves = channels > DS_TILE_ROWS ? 2 : 1,
                         .active = w->finish.active,
                         .slope = w->finish.slope,
                         .high = w->finish.high,
                         .stream = w->finish.stream};
}

/* Whose sums are being computed, and the tile before, which is written meanwhile. */
typedef struct turns {
    ds_tile_end end[2];
    float *sum; /* (2, SUMS) */
    int64_t now;
} turns;

/* 4 rows or fewer of 16 outputs or fewer. */
static void compute_tile(const work *w, ds_tile_product *product, const ds_tile_end *end, turns *t)
{
    enum { PLACES = DS_TILE_GROUP * DS_TILE_ROWS };
    const ds_tile_plan *plan = w->plan;
    const ds_bf16 *weights = product->w, *next = product->next;
    int64_t taps = end->halves * product->taps;
    float *sum = t->sum + t->now * SUMS;
    t->end[t->now] = *end;
    t->end[t->now].sum = product->sum = sum;
    product->behind = &t->end[1 - t->now];
    product->places = taps ? (PLACES + taps - 1) / taps : 0;
    product->rows = end->rows;
    for (int64_t half = 0; half < end->halves; half++) {
        plan->slots->multiply(product);
        product->w += plan->block_weights;
        product->next += plan->block_weights;
        product->sum += SUMS / 2;
    }
    product->w = weights;
    product->next = next;
    plan->slots->finish(product->behind, PLACES);
    t->now = 1 - t->now;
}

/* Lines of the next block's weights to fetch for each tap of `products` products. */
static int64_t lines_ahead(const ds_tile_plan *plan, const ds_tile_phase *p, int64_t products)
{
    int64_t tiles = plan->w_parts * plan->in_blocks * p->cells + 2 * plan->gram.blocks;
    int64_t lines = tiles * DS_TILE_ROWS;
    int64_t taps = products * p->taps;
    return lines > FEW_LINES ? (lines + taps - 1) / taps : 0;
}

/* One block of output channels of one pair of phases. */
static void compute_phase(const work *w, const place *item, int64_t block, int64_t index,
                          const ds_bf16 *x, turns *t)
{
    const ds_tile_plan *plan = w->plan;
    const ds_tile_phase *p = &plan->phase[index];
    int64_t py = index / plan->phases, px = index % plan->phases;
    int64_t rows = ds_tile_of_phase(plan, item->y, item->y_end, py);
    int64_t columns = ds_tile_of_phase(plan, item->x, item->x_end, px);
    int64_t picture_block = item->n * plan->out_blocks + block;
    int64_t down = item->y / plan->phases / DS_TILE_GROUP;
    int64_t across = item->x / plan->phases / DS_TILE_ROWS;
    ds_tile_end end = end_of(w, item, block);
    ds_tile_product product = {.tap = p->tap,
                               .taps = p->taps,
                               .x_step = plan->advance * plan->lanes,
                               .y_step = plan->advance * plan->length * plan->lanes,
                               .w = w->weights + 2 * block * plan->block_weights + p->weights};
    product.next = product.w;
    if (block + 1 < item->last_block) {
        int64_t products = ds_round_up(rows, DS_TILE_GROUP) / DS_TILE_GROUP *
                           (ds_round_up(columns, DS_TILE_ROWS) / DS_TILE_ROWS);
        product.next += 2 * plan->block_weights;
        product.next_lines = lines_ahead(plan, p, products);
    }
    for (int64_t y = 0; y < rows; y += DS_TILE_GROUP)
        for (int64_t c = 0; c < columns; c += DS_TILE_ROWS) {
            end.rows = ds_minimum(rows - y, DS_TILE_GROUP);
            end.pixels = ds_minimum(columns - c, DS_TILE_ROWS);
            end.at =
                (item->y + py + y * plan->phases) * plan->y.w + item->x + px + c * plan->phases;
            if (w->statistics)
                end.statistics =
                    ds_tile_statistics_at(plan, w->statistics, picture_block, index,
                                          down + y / DS_TILE_GROUP, across + c / DS_TILE_ROWS);
            product.x = x + y * product.y_step + c * product.x_step;
            compute_tile(w, &product, &end, t);
            product.next += product.next_lines * product.taps * DS_TILE_DEPTH;
        }
}

static int64_t copy_bytes(const ds_tile_plan *plan)
{
    int64_t rows = plan->x_parts * plan->in_blocks * plan->count +
                   plan->gram.parts * plan->gram.blocks * plan->band;
    int64_t values = rows * plan->length * plan->lanes;
    return plan->pointwise ? 0 : ds_round_up(values * (int64_t)sizeof(ds_bf16), DS_ALIGN);
}

static int64_t worker_bytes(const ds_tile_plan *plan)
{
    return copy_bytes(plan) + 2 * SUMS * (int64_t)sizeof(float);
}

static void task(void *context, int64_t index, int worker)
{
    const work *w = context;
    const ds_tile_plan *plan = w->plan;
    place item = place_of(w, index);
    unsigned char *scratch = w->scratch + worker * worker_bytes(plan);
    const ds_bf16 *x = (ds_bf16 *)(void *)scratch;
    turns t = {.sum = (float *)(void *)(scratch + copy_bytes(plan))};
    if (plan->pointwise)
        x = ds_half_block(w->conv.x, item.n, 0) + item.y * DS_TILE_ROWS * DS_HALF_BLOCK;
    else
        copy_inputs(w, &item, (ds_bf16 *)(void *)scratch);
    plan->slots->begin();
    for (int64_t block = item.block; block < item.last_block; block++)
        for (int64_t i = 0; i < plan->phases * plan->phases; i++)
            compute_phase(w, &item, block, i, x, &t);
    plan->slots->finish(&t.end[1 - t.now], DS_TILE_GROUP * DS_TILE_ROWS);
    plan->slots->end();
}

static void release(ds_backend *backend, ds_step *step)
{
    ds_tile_plan *plan = step->prepared;
    if (plan) {
        ds_tile_plan_release(backend, plan);
        ds_release(backend->alloc, &plan->kept);
    }
    ds_release(backend->alloc, &step->prepared);
}

/* Bytes of the parts of the workspace: the bias, the weights that are not kept, the statistics of
   a measured output, the norm of the input, the workers. */
static int64_t bias_bytes(const ds_tile_plan *plan)
{
    return plan->out_blocks * DS_HALF_BLOCK * (int64_t)sizeof(float);
}

static int64_t weight_bytes(const ds_tile_plan *plan)
{
    return ds_tile_weight_values(plan) * (int64_t)sizeof(ds_bf16);
}

/* What the norm of the input needs. */
static size_t norm_bytes(const ds_step *step)
{
    const size_t bytes = step->prologue.norm ? ds_channels_bytes(step->in[0]) : 0;
    return (bytes + DS_ALIGN - 1) / DS_ALIGN * DS_ALIGN;
}

static norm norm_of(ds_backend *backend, const ds_step *step, void *workspace)
{
    const ds_prologue *p = &step->prologue;
    if (!p->norm)
        return (norm){0};
    const ds_channels channels =
        ds_norm_factors(backend, step->in[0], p->norm, p->gamma, p->beta, workspace);
    return (norm){.scale = channels.vector[DS_NORM_SCALE],
                  .shift = channels.vector[DS_NORM_SHIFT],
                  .end = ds_finish_activation(p->activates, p->activation, p->alpha)};
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    ds_tile_plan *plan = NULL;
    ds_conv conv = ds_conv_of(step);
    int threads = ds_pool_threads(backend->pool);
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *plan, &plan, status));
    step->prepared = plan;
    DS_TRY(ds_tile_plan_make(backend, step, plan, status));
    int64_t bytes = bias_bytes(plan) + threads * worker_bytes(plan);
    if (step->constant[1]) {
        step->prepared_bytes = (size_t)weight_bytes(plan);
        DS_TRY(ds_alloc_raw(backend->alloc, step->prepared_bytes, &plan->kept, status));
        ds_tile_pack_weights(backend, plan, &conv, plan->kept);
    } else {
        bytes += weight_bytes(plan);
    }
    step->workspace_bytes =
        (size_t)bytes + ds_tile_statistics_bytes(plan, step->out) + norm_bytes(step);
    step->variant = step->splits ? "tiles split" : plan->pointwise ? "tiles 1x1" : "tiles";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const ds_tile_plan *plan = step->prepared;
    float *bias = step->workspace;
    unsigned char *after = (unsigned char *)step->workspace + bias_bytes(plan);
    ds_bf16 *weights = plan->kept ? plan->kept : (ds_bf16 *)(void *)after;
    work w = {.plan = plan,
              .conv = ds_conv_of(step),
              .epilogue = &step->epilogue,
              .rectified = step->prologue.rectified,
              .weights = weights};
    if (!plan->kept) {
        ds_tile_pack_weights(backend, plan, &w.conv, weights);
        after += weight_bytes(plan);
    }
    if (step->out->measured)
        w.statistics = (float *)(void *)after;
    after += ds_tile_statistics_bytes(plan, step->out);
    w.norm = norm_of(backend, step, after);
    w.scratch = after + norm_bytes(step);
    ds_pad_bias(w.conv.bias, bias, 2 * plan->out_blocks);
    w.finish = ds_finish_of(step, bias);
    for (; w.picture < w.conv.y->shape.n; w.picture += plan->y.n) {
        if (plan->gram.blocks)
            ds_tile_gram_pack(backend, plan, &step->epilogue, w.picture, weights);
        ds_pool_run(backend->pool, ds_tile_items(plan), task, &w);
    }
    if (w.statistics)
        ds_tile_measure(backend, plan, w.statistics, step->out);
}

/* Images have no room for what 32 channels add up to. */
static bool measures(const ds_step *step)
{
    return ds_is_blocked(step->out);
}

const ds_kernel ds_cpu_conv2d_tiles = {.accepts = accepts,
                                       .prepare = prepare,
                                       .run = run,
                                       .release = release,
                                       .takes_half = true,
                                       .adds_gram = true,
                                       .normalises = true,
                                       .unpools = true,
                                       .measures = measures};
