/* 3x3 convolution with stride 1 by Winograd's F(4x4, 3x3), forward and backward to the input.

   A tile of 4x4 outputs comes from 6x6 inputs with 36 products per pair of channels, not 144:
     Y = A' [(G g G') * (B' d B)] A
   The matrices follow from Lagrange interpolation at 0, a, -a, b, -b and infinity. With M_p(x) the
   product of (x - q) over the other finite points q and N_p = M_p(p):
     row p of B':  the coefficients of M_p;        last row: those of x (x^2 - a^2) (x^2 - b^2)
     row p of G:   (1, p, p^2) / N_p;              last row: (0, 0, 1)
     column p of A': (1, p, p^2, p^3);             last column: (0, 0, 0, 1)
   M_a = x (x + a) (x^2 - b^2) and so on: rows a and -a share an even and an odd half, as do b and
   -b. a = 5/8 and b = 3/2 lose 2.3 times less accuracy than the textbook's 1 and 2.

   Backward to the input is the same convolution of dy, with the weights turned by 180 degrees,
   input and output channels exchanged, and pad 2 - pad.

   Two orders of work. Where all transformed weights fit the third-level cache, a work item is a
   block of tiles, all in the worker's own scratch: transform, multiply, transform back for each
   group of 64 output channels. Where they do not fit, all tiles (of a band that does fit) are
   transformed first, then a work item is a group of output channels, whose weights are transformed
   just then: reading 9 numbers and computing 36 costs less than reading 36 from memory. So it goes
   with maps of a few tiles too, where the weights of 64 input channels at a time are transformed
   and used. No order changes how a sum is formed. Down to maps of 6x6 pixels this beats the direct
   kernel. */
#include "cpu/conv_end.h"
#include "cpu/transpose.h"

#include <string.h>

enum {
    XI = 36,                   /* products per tile */
    SIX = 6,                   /* tiles of one register tile */
    KEEP_BYTES = 5 << 20,      /* transformed weights up to here are computed once */
    STREAM_BYTES = 12 << 20,   /* and up to here a work item is a block of tiles */
    SCRATCH_BYTES = 500 << 10, /* of a worker, to stay in its second-level cache */
    RUNS = 32,                 /* pieces of work to share out, where there are so many blocks */
    BAND_BYTES = 20 << 20,     /* transformed tiles of a band */
    FEW_TILES = 64,            /* of which a group of output channels is a work item as well, */
    MANY_GROUPS = 4,           /* where there are so many */
    CHUNK = 64,                /* input channels */
    BLOCKS = 8,                /* of tiles to share out, at least */
};

typedef struct winograd {
    const ds_slots *slots;
    int64_t top, left;
    int32_t *row;    /* (4 tiles_y + 2) the stored row under each row of the tiles, -1: zero */
    int32_t *column; /* (4 tiles_x + 2) */
    int64_t tiles_y, tiles_x, tiles; /* of one picture; of the batch */
    int64_t in_blocks, out_blocks, groups;
    bool by_group;
    bool keep;        /* the transformed weights */
    int64_t step;     /* tiles of one work item, or of a band: a multiple of 6 */
    int64_t run;      /* blocks of tiles that one worker takes one after the other */
    int64_t depth;    /* input channels whose weights are transformed together */
    int64_t u_stride; /* floats between two of the 36 matrices */
    int64_t u_group;  /* floats of the transformed weights of a group */
    int64_t v_stride;
    int64_t m_stride;
    float *kept; /* (groups, u_group); NULL: transformed in every run */
} winograd;

/* One run of one step. */
typedef struct work {
    const winograd *plan;
    ds_conv conv;
    ds_end end;
    float *u; /* (groups, u_group); NULL: by group */
    float *scratch;
    int64_t first, tiles; /* by group: the band */
} work;

/* An odd number of cache lines: a power of two would put all 36 matrices into the same cache
   set. */
static int64_t odd_lines(int64_t floats)
{
    return (floats / DS_BLOCK | 1) * DS_BLOCK;
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    ds_conv conv = ds_conv_of(step);
    ds_shape w = conv.w->shape;
    return w.h == 3 && w.w == 3 && conv.stride == 1 && conv.dilation == 1 && conv.groups == 1 &&
           (!conv.backward || conv.top <= 2) && !(conv.mode == DS_PAD_REFLECT && conv.backward) &&
           ds_is_blocked(conv.x) && ds_is_blocked(conv.y) && ds_finish_accepts(step);
}

static void set_sizes(winograd *plan, const ds_conv *conv)
{
    ds_shape x = conv->x->shape, y = conv->y->shape;
    plan->top = conv->backward ? 2 - conv->top : conv->top;
    plan->left = conv->backward ? 2 - conv->left : conv->left;
    plan->tiles_y = (y.h + 3) / 4;
    plan->tiles_x = (y.w + 3) / 4;
    plan->tiles = x.n * plan->tiles_y * plan->tiles_x;
    plan->in_blocks = ds_blocks(x.c);
    plan->out_blocks = ds_blocks(y.c);
    plan->groups = (plan->out_blocks * DS_BLOCK + WINO_GROUP - 1) / WINO_GROUP;
}

/* The transformed weights of a group, `depth` input channels at a time. */
static void set_weights(winograd *plan, int64_t depth)
{
    int64_t columns = ds_minimum(plan->out_blocks * DS_BLOCK, WINO_GROUP);
    plan->depth = depth;
    plan->u_stride = odd_lines(depth * columns);
    plan->u_group = XI * plan->u_stride;
}

static int64_t weight_bytes(const winograd *plan)
{
    return plan->groups * plan->u_group * (int64_t)sizeof(float);
}

static void set_order(winograd *plan, bool constant)
{
    int64_t tile = XI * (int64_t)sizeof(float) * plan->in_blocks * DS_BLOCK;
    int64_t product = XI * (int64_t)sizeof(float) * WINO_GROUP;
    bool few = plan->tiles <= FEW_TILES;
    set_weights(plan, plan->in_blocks * DS_BLOCK);
    plan->keep = constant && weight_bytes(plan) <= KEEP_BYTES;
    plan->by_group = weight_bytes(plan) > STREAM_BYTES || (few && plan->groups >= MANY_GROUPS);
    if (plan->by_group && few && !plan->keep)
        set_weights(plan, ds_minimum(plan->depth, CHUNK));
    plan->step = plan->by_group
                     ? BAND_BYTES / tile
                     : ds_minimum(SCRATCH_BYTES / (tile + product), plan->tiles / BLOCKS + SIX);
    plan->step = ds_minimum(plan->step, plan->tiles) + SIX - 1;
    plan->step -= plan->step % SIX;
    int64_t runs = plan->tiles / (plan->step * RUNS);
    plan->run = runs < 1 ? 1 : ds_minimum(runs, 8);
    plan->v_stride = odd_lines(plan->step * plan->in_blocks * DS_BLOCK);
    plan->m_stride = odd_lines(plan->step * WINO_GROUP);
}

/* Floats of the parts of the workspace: bias, shared, and of each worker. */
static int64_t shared_floats(const winograd *plan)
{
    if (plan->by_group)
        return XI * plan->v_stride;
    return plan->kept ? 0 : plan->groups * plan->u_group;
}

static int64_t worker_floats(const winograd *plan)
{
    int64_t weights = plan->keep ? 0 : plan->u_group;
    return XI * plan->m_stride + (plan->by_group ? weights : XI * plan->v_stride);
}

/* 16 output by 16 input channels: w (16, 16, 9), w_step floats between the rows, to taps. */
static void turn_taps(const float *w, int64_t w_step, float *taps)
{
    for (int64_t i = 0; i < DS_BLOCK; i += 4)
        for (int64_t j = 0; j < DS_BLOCK * 9; j += 4)
            ds_transpose_4(w + i * w_step + j, w_step, taps + j * DS_BLOCK + i, DS_BLOCK);
}

/* The same backward, where the rows of w are the input channels. */
static void turn_taps_backward(const float *w, int64_t w_step, float *taps)
{
    for (int64_t i = 0; i < DS_BLOCK; i++, w += w_step, taps += 9 * DS_BLOCK)
        for (int64_t j = 0; j < DS_BLOCK; j += 4) {
            for (int64_t k = 0; k < 8; k += 4)
                ds_transpose_4(w + j * 9 + k, 9, taps + (8 - k) * DS_BLOCK + j, -DS_BLOCK);
            for (int64_t lane = j; lane < j + 4; lane++)
                taps[lane] = w[lane * 9 + 8];
        }
}

/* Starts reading what gather_taps will: 16 far pieces of memory, which no processor foresees. */
static void fetch_taps(const ds_conv *conv, int64_t out, int64_t in)
{
    ds_shape w = conv->w->shape;
    int64_t row = conv->backward ? in : out, column = conv->backward ? out : in;
    const float *weights = (const float *)conv->w->data + (row * w.c + column) * 9;
    for (int64_t i = 0; i < ds_minimum(DS_BLOCK, w.n - row); i++)
        for (int64_t line = 0; line < 9 * DS_BLOCK; line += DS_BLOCK)
            __builtin_prefetch(weights + i * w.c * 9 + line);
}

/* Spreads the weights of 16 output and 16 input channels as taps (input, 9, output). */
static void gather_taps(const ds_conv *conv, int64_t out, int64_t in, float *taps)
{
    ds_shape w = conv->w->shape;
    const float *weights = conv->w->data;
    int64_t row = conv->backward ? in : out, column = conv->backward ? out : in;
    int64_t rows = ds_minimum(DS_BLOCK, w.n - row), columns = ds_minimum(DS_BLOCK, w.c - column);
    if (rows == DS_BLOCK && columns == DS_BLOCK) {
        weights += (row * w.c + column) * 9;
        if (conv->backward)
            turn_taps_backward(weights, w.c * 9, taps);
        else
            turn_taps(weights, w.c * 9, taps);
        return;
    }
    memset(taps, 0, DS_BLOCK * 9 * DS_BLOCK * sizeof(float));
    for (int64_t i = 0; i < rows; i++) {
        const float *from = weights + ((row + i) * w.c + column) * 9;
        if (conv->backward)
            for (int64_t j = 0; j < columns; j++)
                for (int64_t k = 0; k < 9; k++)
                    taps[(i * 9 + 8 - k) * DS_BLOCK + j] = from[j * 9 + k];
        else
            for (int64_t j = 0; j < columns * 9; j++)
                taps[j * DS_BLOCK + i] = from[j];
    }
}

/* The weights of a group and `channels` input channels as u (36, columns / strip, channels,
   strip). */
static void transform_weights(const winograd *plan, const ds_conv *conv, int64_t group,
                              int64_t first, int64_t channels, float *u)
{
    float taps[DS_BLOCK * 9 * DS_BLOCK];
    int64_t columns = ds_minimum(plan->out_blocks * DS_BLOCK - group * WINO_GROUP, WINO_GROUP);
    for (int64_t j = 0; j < columns; j += DS_BLOCK) {
        int64_t strip = j - j % plan->slots->strip;
        int64_t width = ds_minimum(columns - strip, plan->slots->strip);
        for (int64_t in = 0; in < channels; in += DS_BLOCK) {
            gather_taps(conv, group * WINO_GROUP + j, first + in, taps);
            if (conv->rounds)
                ds_round_operand(plan->slots, conv->w, taps, taps, DS_BLOCK * 9 * DS_BLOCK);
            if (in + DS_BLOCK < channels)
                fetch_taps(conv, group * WINO_GROUP + j, first + in + DS_BLOCK);
            else if (j + DS_BLOCK < columns)
                fetch_taps(conv, group * WINO_GROUP + j + DS_BLOCK, first);
            for (int64_t i = 0; i < DS_BLOCK; i++)
                plan->slots->winograd_weights(taps + i * 9 * DS_BLOCK,
                                              u + strip * channels + (in + i) * width + j - strip,
                                              plan->u_stride);
        }
    }
}

static void weights_item(void *context, int64_t group, int worker)
{
    (void)worker;
    const work *w = context;
    transform_weights(w->plan, &w->conv, group, 0, w->plan->depth, w->u + group * w->plan->u_group);
}

/* Where a tile starts. */
typedef struct place {
    int64_t n, y, x;
} place;

static place place_of(const winograd *plan, int64_t tile)
{
    int64_t row = tile / plan->tiles_x;
    return (place){
        .n = row / plan->tiles_y, .y = row % plan->tiles_y * 4, .x = tile % plan->tiles_x * 4};
}

/* A tile that crosses the border or is enlarged, copied to tile (6, 6, 16). */
static void gather_tile(const winograd *plan, const ds_tensor *x, int64_t block, place p,
                        float *tile)
{
    const int32_t *row = plan->row + p.y, *column = plan->column + p.x;
    const void *map = ds_pixel_at(x, block, 0);
    const bool half = ds_is_half(x);
    for (int64_t i = 0; i < 6; i++)
        for (int64_t j = 0; j < 6; j++, tile += DS_BLOCK) {
            const int64_t pixel = row[i] * x->shape.w + column[j];
            if (row[i] < 0 || column[j] < 0)
                memset(tile, 0, DS_BLOCK * sizeof(float));
            else if (!half)
                memcpy(tile, (const float *)map + pixel * DS_BLOCK, DS_BLOCK * sizeof(float));
            else
                for (int64_t lane = 0; lane < DS_BLOCK; lane++)
                    tile[lane] = ds_widen(((const ds_bf16 *)map)[pixel * DS_HALF_BLOCK + lane]);
        }
}

/* The input under a tile, and how many floats lie between its rows: where it lies, or in `copy`
   (6, 6, 16). */
static const float *read_tile(const work *w, int64_t block, place p, float *copy, int64_t *row)
{
    const winograd *plan = w->plan;
    const ds_tensor *x = w->conv.x;
    const ds_shape s = x->shape;
    const int64_t top = p.y - plan->top, left = p.x - plan->left;
    const bool inside =
        w->conv.up == 1 && top >= 0 && left >= 0 && top + 6 <= s.h && left + 6 <= s.w;
    const ds_area area = {top * s.w + left, 6, 6, s.w, 1};
    *row = 6 * DS_BLOCK;
    if (inside && !w->conv.rounds) {
        *row = s.w * DS_BLOCK;
        return ds_pixel_at(x, block, area.pixel);
    }
    if (inside)
        ds_read_area(plan->slots, x, block, &area, copy);
    else
        gather_tile(plan, x, block, p, copy);
    if (w->conv.rounds && !ds_is_half(x))
        ds_round_operand(plan->slots, x, copy, copy, XI * DS_BLOCK);
    return copy;
}

/* Where tile `slot` of 6 sixes tiles and a block of channels start in one of the 36 matrices of v,
   (in_blocks / 4, sixes, 4, 6, 16) with fewer blocks in the last part. */
static int64_t v_at(const winograd *plan, int64_t sixes, int64_t slot, int64_t block)
{
    int64_t part = block / 4 * 4, blocks = ds_minimum(4, plan->in_blocks - part);
    return ((part * sixes + slot / SIX * blocks + block - part) * SIX + slot % SIX) * DS_BLOCK;
}

/* Tiles [first, first + count) into v, where `at` of the 6 sixes tiles come before them. Tiles
   beyond the last repeat it. */
static void transform_input(const work *w, int64_t first, int64_t count, int64_t at, int64_t sixes,
                            float *v)
{
    const winograd *plan = w->plan;
    float copy[XI * DS_BLOCK];
    for (int64_t block = 0; block < plan->in_blocks; block++)
        for (int64_t i = 0; i < count; i++) {
            place p = place_of(plan, ds_minimum(first + i, plan->tiles - 1));
            int64_t row;
            const float *tile = read_tile(w, p.n * plan->in_blocks + block, p, copy, &row);
            plan->slots->winograd_input(tile, row, v + v_at(plan, sixes, at + i, block),
                                        plan->v_stride);
        }
}

/* m (36, tiles, 64) of one group, back to pixels. */
static void transform_output(const work *w, int64_t first, int64_t count, int64_t group,
                             const float *m)
{
    const winograd *plan = w->plan;
    ds_shape s = w->conv.y->shape;
    int64_t begin = group * (WINO_GROUP / DS_BLOCK);
    int64_t end = ds_minimum(begin + WINO_GROUP / DS_BLOCK, plan->out_blocks);
    float scratch[DS_END_MAPS * 4 * 4 * DS_BLOCK];
    for (int64_t block = begin; block < end; block++)
        for (int64_t i = 0; i < count; i++) {
            place p = place_of(plan, first + i);
            ds_part part = {.n = p.n,
                            .block = block,
                            .blocks = 1,
                            .area = {.pixel = p.y * s.w + p.x,
                                     .rows = ds_minimum(4, s.h - p.y),
                                     .columns = ds_minimum(4, s.w - p.x),
                                     .row = s.w,
                                     .column = 1}};
            ds_opened to = ds_end_open(&w->end, &part, scratch);
            plan->slots->winograd_output(m + i * WINO_GROUP + (block - begin) * DS_BLOCK,
                                         plan->m_stride, to.y, to.row, (int)part.area.rows,
                                         (int)part.area.columns, &to.finish);
            ds_end_close(&w->end, &part, scratch);
        }
}

/* Pixels of a row under the block of tiles that starts at `first`, each `up` times. */
static ds_lines row_lines(const winograd *plan, const ds_tensor *map, int64_t block, int64_t first,
                          int64_t row, int64_t up)
{
    place p = place_of(plan, first);
    int64_t y = (p.y + row) / up, x = p.x / up;
    if (!map || y >= map->shape.h)
        return (ds_lines){0};
    block += p.n * ds_blocks(map->shape.c);
    return (ds_lines){.at = ds_pixel_at(map, block, y * map->shape.w + x),
                      .count = ds_minimum(plan->step * 4 / up, map->shape.w - x)};
}

/* What to fetch during product xi of a group: the input of the next block, spread over all groups,
   less the two rows that the tiles above have brought; and what the epilogue of this one reads. */
static void next_lines(const work *w, int64_t group, int64_t xi, int64_t first, int64_t next,
                       ds_lines lines[WINO_NEXT])
{
    const winograd *plan = w->plan;
    int64_t rows = 4 * plan->in_blocks, products = XI * plan->groups, at = group * XI + xi;
    int64_t row = (at * rows + products - 1) / products;
    lines[0] = lines[1] = (ds_lines){0};
    if (next < plan->tiles && row * products < (at + 1) * rows)
        lines[0] = row_lines(plan, w->conv.x, row / 4, next, row % 4 + 2 - plan->top, w->conv.up);
    int64_t block = group * (WINO_GROUP / DS_BLOCK) + xi / 8;
    if (xi < 32 && block < plan->out_blocks)
        lines[1] =
            row_lines(plan, xi % 2 ? w->end.addend : w->end.gate, block, first, xi / 2 % 4, 1);
}

/* The products of a group for input channels [begin, begin + channels). */
static void multiply(const work *w, const float *v, const float *u, float *m, int64_t tiles,
                     int64_t group, int64_t begin, int64_t channels, int64_t first, int64_t next)
{
    const winograd *plan = w->plan;
    int64_t columns = ds_minimum(plan->out_blocks * DS_BLOCK - group * WINO_GROUP, WINO_GROUP);
    int64_t sixes = (tiles + SIX - 1) / SIX;
    for (int64_t xi = 0; xi < XI; xi++) {
        ds_lines lines[WINO_NEXT];
        next_lines(w, group, xi, first, next, lines);
        plan->slots->winograd_multiply(v + xi * plan->v_stride + begin * sixes * SIX,
                                       u + xi * plan->u_stride, m + xi * plan->m_stride, sixes,
                                       channels, columns, begin > 0, u + (xi + 1) * plan->u_stride,
                                       lines);
    }
}

/* A run of blocks, one after the other. */
static void blocks_item(void *context, int64_t item, int worker)
{
    const work *w = context;
    const winograd *plan = w->plan;
    float *m = w->scratch + worker * worker_floats(plan), *v = m + XI * plan->m_stride;
    int64_t end = ds_minimum((item + 1) * plan->run * plan->step, plan->tiles);
    for (int64_t first = item * plan->run * plan->step; first < end; first += plan->step) {
        int64_t count = ds_minimum(plan->step, end - first), next = first + plan->step;
        int64_t sixes = (count + SIX - 1) / SIX;
        transform_input(w, first, sixes * SIX, 0, sixes, v);
        for (int64_t group = 0; group < plan->groups; group++) {
            multiply(w, v, w->u + group * plan->u_group, m, count, group, 0, plan->depth, first,
                     next < end ? next : plan->tiles);
            transform_output(w, first, count, group, m);
        }
    }
}

static void band_input_item(void *context, int64_t item, int worker)
{
    (void)worker;
    const work *w = context;
    float *v = w->scratch - XI * w->plan->v_stride;
    transform_input(w, w->first + item * SIX, SIX, item * SIX, (w->tiles + SIX - 1) / SIX, v);
}

static void group_item(void *context, int64_t group, int worker)
{
    const work *w = context;
    const winograd *plan = w->plan;
    float *m = w->scratch + worker * worker_floats(plan), *u = m + XI * plan->m_stride;
    int64_t channels = plan->in_blocks * DS_BLOCK;
    for (int64_t begin = 0; begin < channels; begin += plan->depth) {
        int64_t count = ds_minimum(plan->depth, channels - begin);
        if (plan->keep)
            u = plan->kept + group * plan->u_group;
        else
            transform_weights(plan, &w->conv, group, begin, count, u);
        multiply(w, w->scratch - XI * plan->v_stride, u, m, w->tiles, group, begin, count, w->first,
                 plan->tiles);
    }
    transform_output(w, w->first, w->tiles, group, m);
}

static void release(ds_backend *backend, ds_step *step)
{
    winograd *plan = step->prepared;
    if (plan) {
        ds_release(backend->alloc, &plan->kept);
        ds_release(backend->alloc, &plan->row);
        ds_release(backend->alloc, &plan->column);
    }
    ds_release(backend->alloc, &step->prepared);
}

static ds_code keep_weights(ds_backend *backend, winograd *plan, const ds_conv *conv,
                            ds_status *status)
{
    ds_code code = ds_alloc_raw(backend->alloc, (size_t)weight_bytes(plan), &plan->kept, status);
    if (code != DS_OK)
        return code;
    work w = {.plan = plan, .conv = *conv, .u = plan->kept};
    ds_pool_run(backend->pool, plan->groups, weights_item, &w);
    return DS_OK;
}

static ds_code prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    winograd *plan = NULL;
    ds_conv conv = ds_conv_of(step);
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *plan, &plan, status));
    step->prepared = plan;
    plan->slots = ds_cpu_slots(backend->level);
    set_sizes(plan, &conv);
    set_order(plan, step->constant[1]);
    DS_TRY(ds_list_pixels(backend->alloc, &conv, -plan->top, 1, plan->tiles_y * 4 + 2,
                          conv.x->shape.h, &plan->row, status));
    DS_TRY(ds_list_pixels(backend->alloc, &conv, -plan->left, 1, plan->tiles_x * 4 + 2,
                          conv.x->shape.w, &plan->column, status));
    if (plan->keep) {
        DS_TRY(keep_weights(backend, plan, &conv, status));
        step->prepared_bytes = (size_t)weight_bytes(plan);
    }
    step->workspace_bytes = (size_t)(plan->out_blocks * DS_BLOCK + shared_floats(plan) +
                                     ds_pool_threads(backend->pool) * worker_floats(plan)) *
                            sizeof(float);
    step->variant = plan->by_group ? "winograd4 by group" : "winograd4 by tile";
exit:
    return status->code;
}

static void run(ds_backend *backend, const ds_step *step)
{
    const winograd *plan = step->prepared;
    float *bias = step->workspace, *shared = bias + plan->out_blocks * DS_BLOCK;
    work w = {.plan = plan, .conv = ds_conv_of(step), .scratch = shared + shared_floats(plan)};
    ds_pad_bias(w.conv.bias, bias, plan->out_blocks);
    w.end = ds_end_of(plan->slots, step, bias);
    if (!plan->by_group) {
        w.u = plan->kept ? plan->kept : shared;
        if (!plan->kept)
            ds_pool_run(backend->pool, plan->groups, weights_item, &w);
        int64_t tiles = plan->run * plan->step;
        ds_pool_run(backend->pool, (plan->tiles + tiles - 1) / tiles, blocks_item, &w);
        return;
    }
    for (w.first = 0; w.first < plan->tiles; w.first += plan->step) {
        w.tiles = ds_minimum(plan->step, plan->tiles - w.first);
        ds_pool_run(backend->pool, (w.tiles + SIX - 1) / SIX, band_input_item, &w);
        ds_pool_run(backend->pool, plan->groups, group_item, &w);
    }
}

const ds_kernel ds_cpu_conv2d_winograd = {
    .accepts = accepts, .prepare = prepare, .run = run, .release = release, .takes_half = true};
