/* Sizes, kernel positions and packed weights of a convolution by tiles. */
#include "cpu/conv_tiles.h"

#include <math.h>
#include <string.h>

enum {
    COPY_BYTES = 512 << 10, /* of a work item, to stay in its second-level cache */
    ITEMS_PER_THREAD = 6,   /* at least, where there are so many rows */
};

typedef struct cell {
    int64_t at; /* pixels from the start of a copy to the one under the first output */
    int64_t index;
    bool placed;
} cell;

/* The pixel with which the tile of an image's position starts: positions of a row share tiles of 4
   pixels, from the leftmost on. */
static int64_t image_start(const ds_tile_plan *plan, const ds_position *position, int64_t count,
                           int64_t at)
{
    int64_t row = at / plan->length * plan->length, first = at;
    for (int64_t i = 0; i < count; i++)
        if (position[i].at >= row && position[i].at < first)
            first = position[i].at;
    int64_t pixels = DS_TILE_DEPTH / DS_IMAGE_LANES;
    return first + (at - first) / pixels * pixels;
}

static cell *find_cell(cell *cells, int64_t count, int64_t at)
{
    for (int64_t i = 0; i < count; i++)
        if (cells[i].at == at && !cells[i].placed)
            return &cells[i];
    return NULL;
}

/* Lists the tiles that the positions of a phase need, from top to bottom; returns how many. */
static int64_t list_cells(const ds_tile_plan *plan, const ds_position *position, int64_t count,
                          cell *cells)
{
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = position[i].at, to = found;
        if (plan->lanes == DS_IMAGE_LANES)
            at = image_start(plan, position, count, at);
        if (find_cell(cells, found, at))
            continue;
        for (found++; to > 0 && cells[to - 1].at > at; to--)
            cells[to] = cells[to - 1];
        cells[to] = (cell){.at = at};
    }
    return found;
}

/* Numbers the cells in the order of their use and makes taps of them; returns how many. */
static int64_t make_taps(const ds_tile_plan *plan, cell *cells, int64_t count, ds_tile_tap *tap)
{
    int64_t down = plan->advance * plan->length, next = 0, taps = 0;
    for (int64_t i = 0; i < count; i++) {
        if (cells[i].placed)
            continue;
        int64_t at = cells[i].at;
        cell *ladder[DS_TILE_LADDER] = {&cells[i], find_cell(cells, count, at + down),
                                        find_cell(cells, count, at + 2 * down)};
        int64_t rungs = ladder[1] && ladder[2] ? DS_TILE_LADDER : 1;
        tap[taps++] =
            (ds_tile_tap){.x = at * plan->lanes, .w = next * DS_TILE_VALUES, .count = rungs};
        for (int64_t rung = 0; rung < rungs; rung++) {
            ladder[rung]->placed = true;
            ladder[rung]->index = next++;
        }
    }
    return taps;
}

static void place_weights(const ds_tile_plan *plan, const ds_position *position, int64_t count,
                          int64_t at_phase, const cell *cells, int64_t found)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t at = position[i].at;
        if (plan->lanes == DS_IMAGE_LANES)
            at = image_start(plan, position, count, at);
        for (int64_t j = 0; j < found; j++)
            if (cells[j].at == at)
                plan->spot[position[i].tap] =
                    (ds_tile_spot){.phase = at_phase,
                                   .cell = cells[j].index,
                                   .k = (position[i].at - at) * plan->lanes};
    }
}

/* The taps of one block of input channels, repeated for all, and for all pairs of halves. */
static void repeat_taps(const ds_tile_plan *plan, ds_tile_phase *p, ds_tile_tap *tap, int64_t taps)
{
    static const int64_t HALVES[3][2] = {{0, 0}, {0, 1}, {1, 0}}; /* of x and of w: 1 is low */
    int64_t image = plan->pointwise ? plan->x.h * plan->x.w : plan->count * plan->length;
    int64_t to = 0, pairs = plan->x_parts + plan->w_parts - 1;
    for (int64_t pair = pairs - 1; pair >= 0; pair--)
        for (int64_t block = plan->in_blocks - 1; block >= 0; block--)
            for (int64_t i = taps - 1; i >= 0; i--) {
                to = (pair * plan->in_blocks + block) * taps + i;
                tap[to] = tap[i];
                tap[to].x += (HALVES[pair][0] * plan->in_blocks + block) * image * plan->lanes;
                tap[to].w +=
                    (HALVES[pair][1] * plan->in_blocks + block) * p->cells * DS_TILE_VALUES;
            }
    p->tap = tap;
    p->taps = pairs * plan->in_blocks * taps;
}

/* Needs the geometry; `position` and `cells` have room for every kernel position. */
static void set_phases(ds_tile_plan *plan, const ds_conv *conv, ds_position *position, cell *cells)
{
    ds_rows rows = ds_rows_of(conv, 1, 1);
    ds_tile_tap *tap = plan->tap;
    rows.length = plan->length;
    for (int64_t i = 0; i < plan->phases * plan->phases; i++) {
        ds_tile_phase *p = &plan->phase[i];
        int64_t count = ds_positions(&rows, conv, 0, i / plan->phases, i % plan->phases, position);
        p->cells = list_cells(plan, position, count, cells);
        p->weights = plan->block_weights;
        int64_t taps = make_taps(plan, cells, p->cells, tap);
        place_weights(plan, position, count, i, cells, p->cells);
        repeat_taps(plan, p, tap, taps);
        tap += p->taps;
        plan->block_weights += plan->w_parts * plan->in_blocks * p->cells * DS_TILE_VALUES;
    }
}

/* Sizes. */

/* Rows or columns to copy for `outputs` outputs from the first on. */
static int64_t reach(const ds_tile_plan *plan, const ds_conv *conv, int64_t before, int64_t kernel,
                     int64_t outputs)
{
    int64_t first, last;
    ds_reach(conv, before, kernel, 0, outputs - 1, &first, &last);
    return (last - first) / plan->skip + 1;
}

static int64_t copied_pixels(const ds_tile_plan *plan, const ds_conv *conv)
{
    /* The last tile of an image reads beyond the pixel under its last output. */
    int64_t length = reach(plan, conv, conv->left, conv->w->shape.w, plan->segment);
    bool image = plan->lanes == DS_IMAGE_LANES;
    return image ? ds_round_up(length + DS_TILE_DEPTH / DS_IMAGE_LANES, DS_TILE_ROWS) : length;
}

/* Bytes of the input that an item works on. */
static int64_t item_bytes(const ds_tile_plan *plan, const ds_conv *conv)
{
    int64_t rows = reach(plan, conv, conv->top, conv->w->shape.h, plan->band);
    rows =
        plan->x_parts * plan->in_blocks * rows + plan->gram.parts * plan->gram.blocks * plan->band;
    return rows * copied_pixels(plan, conv) * plan->lanes * (int64_t)sizeof(ds_bf16);
}

/* Segments of the width in `parts`, and bands of as many rows as fit; returns how many bytes all
   items copy, or infinity where not even the smallest band fits. */
static double cut(ds_tile_plan *plan, const ds_conv *conv, int64_t parts, int64_t least)
{
    int64_t rows = DS_TILE_GROUP * plan->phases, columns = DS_TILE_ROWS * plan->phases;
    plan->segment = ds_round_up((plan->y.w + parts - 1) / parts, columns);
    plan->segments = (plan->y.w + plan->segment - 1) / plan->segment;
    int64_t most = plan->y.h * plan->segments * plan->y.n / least;
    for (plan->band = rows; plan->band + rows <= most; plan->band += rows)
        if (item_bytes(plan, conv) > COPY_BYTES)
            break;
    if (plan->band > rows && item_bytes(plan, conv) > COPY_BYTES)
        plan->band -= rows;
    plan->bands = (plan->y.h + plan->band - 1) / plan->band;
    bool fits = item_bytes(plan, conv) <= COPY_BYTES || plan->segment == columns;
    return fits ? (double)(plan->bands * plan->segments * item_bytes(plan, conv)) : INFINITY;
}

static void divide(ds_tile_plan *plan, const ds_conv *conv, int64_t least)
{
    int64_t best = 1, narrow = DS_TILE_ROWS * plan->phases;
    int64_t most = (plan->y.w + narrow - 1) / narrow;
    double fewest = INFINITY;
    for (int64_t parts = 1; parts <= most; parts++) {
        double copied = cut(plan, conv, parts, least);
        if (copied < fewest) {
            fewest = copied;
            best = parts;
        }
    }
    cut(plan, conv, best, least);
    plan->item_blocks = plan->out_blocks;
    plan->sets = 1;
    while (ds_tile_items(plan) < least && plan->item_blocks > 1) {
        plan->item_blocks = (plan->item_blocks + 1) / 2;
        plan->sets = (plan->out_blocks + plan->item_blocks - 1) / plan->item_blocks;
    }
}

static int64_t blocks_of(const ds_tensor *map)
{
    return ds_is_blocked(map) ? ds_half_blocks(map->shape.c) : 1;
}

static bool is_pointwise(const ds_conv *conv)
{
    ds_shape w = conv->w->shape, x = conv->x->shape;
    return ds_is_half(conv->x) && w.h == 1 && w.w == 1 && conv->stride == 1 && conv->top == 0 &&
           conv->left == 0 && conv->up == 1 &&
           ds_same_shape(x, (ds_shape){x.n, x.c, conv->y->shape.h, conv->y->shape.w}) &&
           x.h * x.w % DS_TILE_ROWS == 0;
}

static ds_shape in_columns(ds_shape s)
{
    return (ds_shape){s.n, s.c, s.h * s.w / DS_TILE_ROWS, DS_TILE_ROWS};
}

static void set_sizes(ds_tile_plan *plan, const ds_step *step, ds_conv *conv, int threads)
{
    plan->x = conv->x->shape;
    plan->y = conv->y->shape;
    plan->pointwise = is_pointwise(conv) && !step->epilogue.features && !step->prologue.active;
    if (plan->pointwise) {
        plan->x = in_columns(plan->x);
        plan->y = in_columns(plan->y);
    }
    plan->w_parts = step->splits ? 2 : 1;
    plan->x_parts = step->splits && !ds_is_half(conv->x) && !ds_is_image(conv->x) ? 2 : 1;
    plan->lanes = ds_is_image(conv->x) ? DS_IMAGE_LANES : DS_TILE_DEPTH;
    plan->in_blocks = blocks_of(conv->x);
    plan->out_blocks = blocks_of(conv->y);
    if (step->epilogue.features)
        plan->x.n = plan->y.n = 1;
    ds_tile_gram_size(plan, &step->epilogue);
    plan->phases = conv->backward ? conv->stride : 1;
    /* Of a strided 1x1 convolution, what no output reads is left out. */
    bool sparse = !conv->backward && conv->w->shape.h == 1 && conv->w->shape.w == 1;
    plan->skip = sparse ? conv->stride : 1;
    plan->advance = conv->backward || sparse ? 1 : conv->stride;
    divide(plan, conv, (int64_t)threads * ITEMS_PER_THREAD);
    plan->count = reach(plan, conv, conv->top, conv->w->shape.h, plan->band);
    plan->length = copied_pixels(plan, conv);
}

/* Weights. */

int64_t ds_tile_weight_values(const ds_tile_plan *plan)
{
    return 2 * plan->out_blocks * plan->block_weights;
}

typedef struct packing {
    const ds_tile_plan *plan;
    const ds_conv *conv;
    ds_bf16 *packed;
} packing;

/* The weights of an output channel for an input channel, at all kernel positions; of an image for
   both parts of it. */
static void pack_pair(const packing *job, int64_t out, int64_t in)
{
    const ds_tile_plan *plan = job->plan;
    ds_shape w = job->conv->w->shape;
    int64_t taps = w.h * w.w, o = job->conv->backward ? in : out,
            i = job->conv->backward ? out : in;
    int64_t parts = ds_is_image(job->conv->x) ? 2 : 1;
    const float *from = (const float *)job->conv->w->data + (o * w.c + i) * taps;
    for (int64_t tap = 0; tap < taps; tap++) {
        const ds_tile_spot *at = &plan->spot[tap];
        const ds_tile_phase *p = &plan->phase[at->phase];
        int64_t k = at->k + in % DS_TILE_DEPTH, tile = in / DS_TILE_DEPTH * p->cells + at->cell;
        ds_bf16 *to = job->packed + out / DS_TILE_ROWS * plan->block_weights + p->weights +
                      tile * DS_TILE_VALUES + k / 2 * DS_TILE_DEPTH + out % DS_TILE_ROWS * 2 +
                      k % 2;
        for (int64_t part = 0; part < parts; part++, to += DS_IMAGE_CHANNELS / 2 * DS_TILE_DEPTH) {
            *to = ds_narrow(from[tap]);
            if (plan->w_parts > 1)
                to[plan->in_blocks * p->cells * DS_TILE_VALUES] = ds_rest(from[tap], *to);
        }
    }
}

/* Item: 16 output channels. */
static void pack_task(void *context, int64_t item, int worker)
{
    const packing *job = context;
    int64_t values = job->plan->block_weights, first = item * DS_TILE_ROWS;
    int64_t last = ds_minimum(first + DS_TILE_ROWS, job->conv->y->shape.c);
    (void)worker;
    memset(job->packed + item * values, 0, (size_t)values * sizeof *job->packed);
    for (int64_t out = first; out < last; out++)
        for (int64_t in = 0; in < job->conv->x->shape.c; in++)
            pack_pair(job, out, in);
}

void ds_tile_pack_weights(ds_backend *backend, const ds_tile_plan *plan, const ds_conv *conv,
                          ds_bf16 *packed)
{
    packing job = {.plan = plan, .conv = conv, .packed = packed};
    ds_pool_run(backend->pool, 2 * plan->out_blocks, pack_task, &job);
}

/* The lists of a plan whose sizes are known. */
static ds_code make_lists(ds_backend *backend, ds_tile_plan *plan, const ds_conv *conv,
                          ds_status *status)
{
    ds_shape w = conv->w->shape;
    size_t taps = (size_t)(w.h * w.w), phases = (size_t)(plan->phases * plan->phases);
    size_t most = 3 * ((size_t)plan->in_blocks * taps + (size_t)plan->gram.blocks);
    int64_t rows = ds_tile_apart(plan, (plan->bands - 1) * plan->band) + plan->count;
    int64_t columns = ds_tile_apart(plan, (plan->segments - 1) * plan->segment) + plan->length;
    ds_position *position = NULL;
    cell *cells = NULL;
    int64_t above, before, last;
    ds_shape x = ds_tile_input(conv)->shape;
    ds_reach(conv, conv->top, w.h, 0, 0, &above, &last);
    ds_reach(conv, conv->left, w.w, 0, 0, &before, &last);
    DS_TRY(ds_list_pixels(backend->alloc, conv, above, plan->skip, rows, x.h, &plan->row, status));
    DS_TRY(ds_list_pixels(backend->alloc, conv, before, plan->skip, columns, x.w, &plan->column,
                          status));
    DS_TRY(ds_alloc_zeroed(backend->alloc, phases * sizeof(ds_tile_phase), &plan->phase, status));
    DS_TRY(ds_alloc_zeroed(backend->alloc, taps * sizeof(ds_tile_spot), &plan->spot, status));
    DS_TRY(ds_alloc_raw(backend->alloc, most * sizeof(ds_tile_tap), &plan->tap, status));
    DS_TRY(ds_alloc_raw(backend->alloc, taps * sizeof *position, &position, status));
    DS_TRY(ds_alloc_raw(backend->alloc, taps * sizeof *cells, &cells, status));
    set_phases(plan, conv, position, cells);
    DS_TRY(ds_tile_gram_make(backend, plan, status));
exit:
    ds_release(backend->alloc, &position);
    ds_release(backend->alloc, &cells);
    return status->code;
}

ds_code ds_tile_plan_make(ds_backend *backend, const ds_step *step, ds_tile_plan *plan,
                          ds_status *status)
{
    ds_conv conv = ds_conv_of(step);
    plan->slots = ds_cpu_tiles(backend->level);
    set_sizes(plan, step, &conv, ds_pool_threads(backend->pool));
    return make_lists(backend, plan, &conv, status);
}

void ds_tile_plan_release(ds_backend *backend, ds_tile_plan *plan)
{
    ds_release(backend->alloc, &plan->row);
    ds_release(backend->alloc, &plan->column);
    ds_release(backend->alloc, &plan->phase);
    ds_release(backend->alloc, &plan->spot);
    ds_release(backend->alloc, &plan->tap);
    ds_release(backend->alloc, &plan->gram.row);
    ds_release(backend->alloc, &plan->gram.column);
}
