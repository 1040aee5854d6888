/* Gram matrix, and its gradient, as products of bf16 tiles; formulas: ops/gram.c. bf16 maps are
   multiplied as they are stored, floats as two parts of bf16, high and low, in three products: high
   high + high low + low high. Sums are fp32. Strips of pixels are summed on their own and then in
   order, so the bits do not depend on the threads. Large matrices have few strips, to stay in the
   caches, and are themselves shared out instead.

   The gradient S F is a 1x1 convolution of F whose weights are S = scale (dG + dG'), split so that
   S loses nothing that counts. Where a convolution takes it into its own sums (conv_tiles_gram.c)
   nothing of this runs. */
#include "cpu/conv.h"
#include "cpu/gram.h"
#include "cpu/tiles.h"

enum { TILES = DS_GRAM_CHUNK / DS_TILE_DEPTH }; /* of a chunk, for 16 channels */

/* Rows of blocks of a matrix that are worth sharing out. */
enum { GROUP = 4 };

/* Values of a chunk of 32 channels, packed. */
enum { PACKED = 2 * TILES * DS_TILE_VALUES };

/* Maps of floats only where three products cost less than one of floats. */
static bool accepts(const ds_backend *backend, const ds_step *step, int unmasked)
{
    const ds_tensor *x = step->in[0];
    bool pays = ds_is_half(x) || (step->splits && backend->level == DS_CPU_AMX && ds_is_blocked(x));
    return ds_cpu_tiles(backend->level) && pays && step->inputs == unmasked && ds_no_epilogue(step);
}

static bool accepts_gram(const ds_backend *backend, const ds_step *step)
{
    return accepts(backend, step, 1);
}

typedef struct job {
    const ds_tile_slots *slots;
    const ds_tensor *x;
    int64_t parts; /* of bf16 that a value is split into: 1 or 2 */
    int64_t blocks, strip, strips;
    int64_t groups;  /* of rows of blocks of the matrix */
    float *partial;  /* (N, strips, blocks 32, blocks 32) */
    ds_bf16 *packed; /* (workers, 2, parts, blocks, 2, TILES, 512): left and right factors */
} job;

static job job_of(const ds_backend *backend, const ds_step *step)
{
    const ds_tensor *x = step->in[0];
    int64_t pixels = x->shape.h * x->shape.w, blocks = ds_half_blocks(x->shape.c);
    int64_t groups = ds_minimum((blocks + GROUP - 1) / GROUP, DS_GRAM_STRIPS);
    int64_t strip = ds_gram_strip(pixels, DS_GRAM_STRIPS / groups);
    return (job){.slots = ds_cpu_tiles(backend->level),
                 .x = x,
                 .parts = ds_is_half(x) ? 1 : 2,
                 .blocks = blocks,
                 .strip = strip,
                 .strips = (pixels + strip - 1) / strip,
                 .groups = groups};
}

static int64_t square(const job *j)
{
    return j->blocks * DS_TILE_DEPTH * j->blocks * DS_TILE_DEPTH;
}

/* Pairs of blocks on and right of the diagonal in the rows before `row`. */
static int64_t pairs_above(const job *j, int64_t row)
{
    return row * (2 * j->blocks - row + 1) / 2;
}

/* The first row of a group: groups have about as many pairs each. */
static int64_t first_row(const job *j, int64_t group)
{
    int64_t row = 0, all = pairs_above(j, j->blocks);
    while (pairs_above(j, row) * j->groups < all * group)
        row++;
    return row;
}

/* The pairs of blocks of a chunk, on and right of the diagonal, in some rows. */
static void add_chunk(const job *j, int64_t row, int64_t last_row, const ds_bf16 *left,
                      const ds_bf16 *right, bool first, float *g)
{
    int64_t padded = j->blocks * DS_TILE_DEPTH, low = j->blocks * PACKED;
    for (int64_t a = row; a < last_row; a++)
        for (int64_t b = a; b < j->blocks; b++) {
            const ds_bf16 *l = left + a * PACKED, *r = right + b * PACKED;
            float *to = g + (a * padded + b) * DS_TILE_DEPTH;
            j->slots->gram_add(l, r, TILES, first, to, padded);
            if (j->parts == 1)
                continue;
            j->slots->gram_add(l, r + low, TILES, false, to, padded);
            j->slots->gram_add(l + low, r, TILES, false, to, padded);
        }
}

/* A chunk of a block of 32 channels of floats, in two parts. */
static void split_chunk(const job *j, int64_t n, int64_t block, int64_t at, int64_t count,
                        ds_bf16 part[2][DS_GRAM_CHUNK * DS_TILE_DEPTH])
{
    int32_t column[DS_GRAM_CHUNK];
    const ds_shape s = j->x->shape;
    for (int32_t i = 0; i < DS_GRAM_CHUNK; i++)
        column[i] = i < count ? i : -1;
    j->slots->copy(&(ds_tile_copy){.column = column,
                                   .pixels = DS_GRAM_CHUNK,
                                   .row = ds_block(j->x, n, 2 * block) + at * DS_BLOCK,
                                   .plane = s.h * s.w * DS_BLOCK,
                                   .channels = s.c - block * DS_TILE_DEPTH,
                                   .to = part[0],
                                   .low = part[1]});
}

/* Without the left factors: NULL. */
static void pack_chunk(const job *j, int64_t n, int64_t block, int64_t at, int64_t count,
                       ds_bf16 *left, ds_bf16 *right)
{
    ds_bf16 part[2][DS_GRAM_CHUNK * DS_TILE_DEPTH];
    const ds_bf16 *from[2] = {part[0], part[1]};
    int64_t to = block * PACKED;
    if (ds_is_half(j->x))
        from[0] = ds_half_block(j->x, n, block) + at * DS_HALF_BLOCK;
    else
        split_chunk(j, n, block, at, count, part);
    for (int64_t i = 0; i < j->parts; i++, to += j->blocks * PACKED)
        j->slots->gram_pack(from[i], count, TILES, left ? left + to : NULL, right + to);
}

/* Item: one group of one strip of one picture. */
static void gram_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    int64_t row = first_row(j, item % j->groups), last_row = first_row(j, item % j->groups + 1);
    int64_t strip = item / j->groups, n = strip / j->strips, begin = strip % j->strips * j->strip;
    int64_t end = ds_minimum(begin + j->strip, j->x->shape.h * j->x->shape.w);
    int64_t factor = j->parts * j->blocks * PACKED;
    ds_bf16 *left = j->packed + worker * 2 * factor, *right = left + factor;
    float *g = j->partial + strip * square(j);
    j->slots->begin();
    for (int64_t at = begin; at < end; at += DS_GRAM_CHUNK) {
        for (int64_t block = row; block < j->blocks; block++)
            pack_chunk(j, n, block, at, end - at, block < last_row ? left : NULL, right);
        add_chunk(j, row, last_row, left, right, at == begin, g);
    }
    j->slots->end();
}

static ds_code gram_prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const job j = job_of(backend, step);
    int64_t parts = step->in[0]->shape.n * j.strips;
    int64_t packed = ds_pool_threads(backend->pool) * 2 * j.parts * j.blocks * PACKED;
    (void)status;
    step->workspace_bytes =
        (size_t)(parts * square(&j)) * sizeof(float) + (size_t)packed * sizeof(ds_bf16);
    step->variant = j.parts > 1 ? "tiles split" : "tiles";
    return DS_OK;
}

static void gram_run(ds_backend *backend, const ds_step *step)
{
    job j = job_of(backend, step);
    int64_t c = j.x->shape.c, pictures = j.x->shape.n;
    j.partial = step->workspace;
    j.packed = (ds_bf16 *)(void *)(j.partial + pictures * j.strips * square(&j));
    ds_pool_run(backend->pool, pictures * j.strips * j.groups, gram_task, &j);
    for (int64_t n = 0; n < pictures; n++) {
        const ds_gram_parts parts = {.partial = j.partial + n * j.strips * square(&j),
                                     .strips = j.strips,
                                     .padded = j.blocks * DS_TILE_DEPTH,
                                     .channels = c,
                                     .factor = DS_ATTR(gram, step->attr).scale,
                                     .g = (float *)step->out->data + n * c * c};
        ds_gram_close(backend->pool, &parts);
    }
}

const ds_kernel ds_cpu_gram_tiles = {
    .accepts = accepts_gram, .prepare = gram_prepare, .run = gram_run, .takes_half = true};

/* The gradient's convolution, one picture at a time: each has its own S. */
typedef struct inner {
    ds_step step;
    ds_conv2d_attr attr;
    ds_tensor x, y, s;
} inner;

static bool accepts_backward(const ds_backend *backend, const ds_step *step)
{
    /* With S in two parts vectors of bf16 compute as much as floats do. */
    return backend->level == DS_CPU_AMX && accepts(backend, step, 2);
}

static size_t s_bytes(const inner *self)
{
    return (size_t)ds_round_up(ds_count(self->s.shape) * (int64_t)sizeof(float), DS_ALIGN);
}

static ds_code backward_prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    inner *self = NULL;
    DS_TRY(ds_alloc_zeroed(backend->alloc, sizeof *self, &self, status));
    step->prepared = self;
    self->attr = (ds_conv2d_attr){.stride = 1, .dilation = 1, .groups = 1};
    self->x = *step->in[0];
    self->y = *step->out;
    self->x.shape.n = self->y.shape.n = 1;
    self->s = (ds_tensor){.shape = {self->x.shape.c, self->x.shape.c, 1, 1}, .kind = DS_PLAIN};
    self->step = (ds_step){.op = DS_OP_conv2d,
                           .attr = &self->attr.stride,
                           .inputs = 2,
                           .in = {&self->x, &self->s},
                           .out = &self->y,
                           .splits = true};
    DS_TRY(ds_cpu_conv2d_tiles.prepare(backend, &self->step, status));
    step->workspace_bytes = s_bytes(self) + self->step.workspace_bytes;
    step->variant = "tiles";
exit:
    return status->code;
}

/* Picture n of a map. */
static void *picture(const ds_tensor *map, int64_t n)
{
    return (unsigned char *)map->data + (size_t)n * (ds_stored_bytes(map) / (size_t)map->shape.n);
}

typedef struct symmetric {
    const float *dg;
    int64_t channels;
    double scale;
    float *s;
} symmetric;

/* Item: a row of S. */
static void s_task(void *context, int64_t row, int worker)
{
    const symmetric *m = context;
    const int64_t c = m->channels;
    (void)worker;
    for (int64_t i = 0; i < c; i++)
        m->s[row * c + i] = ds_gram_factor(m->dg, c, row, i, m->scale);
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    inner *self = step->prepared;
    const ds_shape s = step->in[0]->shape;
    symmetric m = {
        .channels = s.c, .scale = DS_ATTR(gram_backward, step->attr).scale, .s = step->workspace};
    self->s.data = m.s;
    self->step.workspace = (unsigned char *)step->workspace + s_bytes(self);
    for (int64_t n = 0; n < s.n; n++) {
        m.dg = (const float *)step->in[1]->data + n * s.c * s.c;
        self->x.data = picture(step->in[0], n);
        self->y.data = picture(step->out, n);
        ds_pool_run(backend->pool, s.c, s_task, &m);
        ds_cpu_conv2d_tiles.run(backend, &self->step);
    }
}

static void backward_release(ds_backend *backend, ds_step *step)
{
    inner *self = step->prepared;
    if (self)
        ds_cpu_conv2d_tiles.release(backend, &self->step);
    ds_release(backend->alloc, &step->prepared);
}

const ds_kernel ds_cpu_gram_backward_tiles = {.accepts = accepts_backward,
                                              .prepare = backward_prepare,
                                              .run = backward_run,
                                              .release = backward_release,
                                              .takes_half = true};
