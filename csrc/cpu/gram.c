/* Gram matrix and its gradient, as GEMMs on blocks of 16 channels; formulas: ops/gram.c. Strips of
   pixels are summed on their own and then in order, so the bits do not depend on the threads. Of a
   bf16 map, a chunk of pixels at a time is widened into memory of the worker. */
#include "cpu/gram.h"
#include "cpu/half.h"
#include "cpu/slots.h"

#include <string.h>

typedef struct plan {
    const ds_slots *slots;
    int64_t strips; /* of one picture */
    int64_t strip;  /* pixels of a strip */
    int64_t padded; /* channels rounded up to whole blocks */
} plan;

typedef struct job {
    const plan *plan;
    const ds_tensor *x;
    const ds_tensor *mask; /* NULL: none */
    ds_tensor *out;
    float *partial; /* (N, strips, padded, padded) */
    float *weight;  /* (N or 1, H W): mask squared */
    float *s;       /* (padded / strip, padded, strip): scale / eta (dG + dG') */
    float *chunks;  /* (workers, 1 or 2, padded / 16, CHUNK, 16): of bf16 maps */
} job;

/* A chunk of all channels of a picture, as floats. */
typedef struct chunk {
    float *data;
    int64_t plane; /* floats from one block of 16 channels to the next */
} chunk;

static int64_t chunk_floats(const plan *p)
{
    return p->padded * DS_GRAM_CHUNK;
}

/* Floats of `maps` chunks for each worker, where a step needs them. */
static size_t all_chunks(const ds_backend *backend, const ds_step *step, int64_t maps)
{
    const int64_t floats = ds_pool_threads(backend->pool) * maps * chunk_floats(step->prepared);
    return ds_step_has_half(step) ? (size_t)floats : 0;
}

/* Where a chunk of a map lies, or, of a bf16 map, belongs: in the worker's memory. */
static chunk chunk_at(const ds_tensor *map, int64_t n, int64_t at, float *own)
{
    if (ds_is_half(map))
        return (chunk){own, DS_GRAM_CHUNK * DS_BLOCK};
    return (chunk){ds_block(map, n, 0) + at * DS_BLOCK, map->shape.h * map->shape.w * DS_BLOCK};
}

static chunk read_chunk(const job *j, int64_t n, int64_t at, int64_t count, float *own)
{
    const chunk c = chunk_at(j->x, n, at, own);
    const int64_t blocks = j->plan->padded / DS_BLOCK;
    for (int64_t b = 0; ds_is_half(j->x) && b < blocks; b++)
        ds_read_pixels(j->plan->slots, j->x, n * blocks + b, at, count, c.data + b * c.plane);
    return c;
}

static void write_chunk(const job *j, const chunk *c, int64_t n, int64_t at, int64_t count)
{
    const int64_t blocks = j->plan->padded / DS_BLOCK;
    for (int64_t b = 0; ds_is_half(j->out) && b < blocks; b++)
        ds_write_pixels(j->plan->slots, j->out, n * blocks + b, at, count, c->data + b * c->plane);
}

static bool accepts(const ds_backend *backend, const ds_step *step)
{
    (void)backend;
    return ds_is_blocked(step->in[0]) && ds_no_epilogue(step);
}

static const ds_tensor *mask_of(const ds_step *step, int index)
{
    return step->inputs > index ? step->in[index] : NULL;
}

static size_t mask_floats(const ds_tensor *mask)
{
    /* Whole lines, so that what follows in the workspace is aligned. */
    return mask ? ((size_t)ds_count(mask->shape) + DS_BLOCK - 1) / DS_BLOCK * DS_BLOCK : 0;
}

static ds_code make_plan(ds_backend *backend, ds_step *step, ds_status *status)
{
    plan *self = NULL;
    const ds_shape s = step->in[0]->shape;
    const int64_t pixels = s.h * s.w;
    const ds_code code = ds_alloc_zeroed(backend->alloc, sizeof *self, &self, status);
    if (code != DS_OK)
        return code;
    self->slots = ds_cpu_slots(backend->level);
    self->padded = ds_blocks(s.c) * DS_BLOCK;
    self->strip = ds_gram_strip(pixels, DS_GRAM_STRIPS);
    self->strips = (pixels + self->strip - 1) / self->strip;
    step->prepared = self;
    step->variant = ds_cpu_name(backend->level);
    return DS_OK;
}

static void release(ds_backend *backend, ds_step *step)
{
    ds_release(backend->alloc, &step->prepared);
}

/* Squares the mask and returns 1 / eta of picture n, eta = mean(mask)^2. */
static double square_mask(const job *j, int64_t n)
{
    if (!j->mask)
        return 1;
    const ds_shape s = j->mask->shape;
    const int64_t pixels = s.h * s.w, first = (s.n == 1 ? 0 : n) * pixels;
    const float *mask = (const float *)j->mask->data + first;
    double sum = 0;
    for (int64_t p = 0; p < pixels; p++) {
        sum += (double)mask[p];
        j->weight[first + p] = mask[p] * mask[p];
    }
    const double mean = sum / (double)pixels;
    return 1 / (mean * mean);
}

static const float *weight_at(const job *j, int64_t n, int64_t pixel)
{
    if (!j->mask)
        return NULL;
    const ds_shape s = j->mask->shape;
    return j->weight + (s.n == 1 ? 0 : n) * s.h * s.w + pixel;
}

/* Item: one strip of one picture. */
static void gram_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const plan *p = j->plan;
    const ds_shape s = j->x->shape;
    const int64_t n = item / p->strips, blocks = p->padded / DS_BLOCK, pixels = s.h * s.w;
    const int64_t begin = item % p->strips * p->strip;
    const int64_t end = begin + p->strip < pixels ? begin + p->strip : pixels;
    float *g = j->partial + item * p->padded * p->padded;
    float *own = j->chunks + worker * chunk_floats(p);
    memset(g, 0, (size_t)(p->padded * p->padded) * sizeof *g);
    for (int64_t at = begin; at < end; at += DS_GRAM_CHUNK) {
        const int64_t count = end - at < DS_GRAM_CHUNK ? end - at : DS_GRAM_CHUNK;
        const chunk c = read_chunk(j, n, at, count, own);
        for (int64_t a = 0; a < blocks; a++)
            for (int64_t b = a; b < blocks; b++)
                p->slots->gram_tile(c.data + a * c.plane, c.data + b * c.plane, weight_at(j, n, at),
                                    count, g + (a * p->padded + b) * DS_BLOCK, p->padded);
    }
}

/* Numbers of a matrix that are added up together: the partial ones lie a power of two apart, and
   cache lines one at a time would chase one another out. */
enum { CLOSED = 64 };

/* Item: one row from its diagonal on. */
static void close_task(void *context, int64_t row, int worker)
{
    const ds_gram_parts *parts = context;
    const int64_t c = parts->channels, square = parts->padded * parts->padded;
    (void)worker;
    for (int64_t from = row; from < c; from += CLOSED) {
        const int64_t count = c - from < CLOSED ? c - from : CLOSED;
        double sum[CLOSED] = {0};
        for (int64_t strip = 0; strip < parts->strips; strip++) {
            const float *partial = parts->partial + strip * square + row * parts->padded + from;
            for (int64_t i = 0; i < count; i++)
                sum[i] += (double)partial[i];
        }
        for (int64_t i = 0; i < count; i++)
            parts->g[row * c + from + i] = parts->g[(from + i) * c + row] =
                (float)(sum[i] * parts->factor);
    }
}

void ds_gram_close(ds_pool *pool, const ds_gram_parts *parts)
{
    ds_pool_run(pool, parts->channels, close_task, (void *)parts);
}

static ds_code gram_prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const ds_code code = make_plan(backend, step, status);
    if (code != DS_OK)
        return code;
    const plan *p = step->prepared;
    const size_t floats =
        mask_floats(mask_of(step, 1)) + all_chunks(backend, step, 1) +
        (size_t)(step->in[0]->shape.n * p->strips) * (size_t)(p->padded * p->padded);
    step->workspace_bytes = floats * sizeof(float);
    return DS_OK;
}

static void gram_run(ds_backend *backend, const ds_step *step)
{
    job j = {.plan = step->prepared,
             .x = step->in[0],
             .mask = mask_of(step, 1),
             .out = step->out,
             .weight = step->workspace};
    const double scale = DS_ATTR(gram, step->attr).scale;
    const int64_t pictures = j.x->shape.n;
    j.chunks = j.weight + mask_floats(j.mask);
    j.partial = j.chunks + all_chunks(backend, step, 1);
    for (int64_t n = 0; j.mask && n < j.mask->shape.n; n++)
        square_mask(&j, n);
    ds_pool_run(backend->pool, pictures * j.plan->strips, gram_task, &j);
    for (int64_t n = 0; n < pictures; n++) {
        const int64_t c = j.x->shape.c, square = j.plan->padded * j.plan->padded;
        const ds_gram_parts parts = {.partial = j.partial + n * j.plan->strips * square,
                                     .strips = j.plan->strips,
                                     .padded = j.plan->padded,
                                     .channels = c,
                                     .factor = scale * square_mask(&j, n),
                                     .g = (float *)j.out->data + n * c * c};
        ds_gram_close(backend->pool, &parts);
    }
}

const ds_kernel ds_cpu_gram = {.accepts = accepts,
                               .prepare = gram_prepare,
                               .run = gram_run,
                               .release = release,
                               .takes_half = true};

/* S = factor (dG + dG') of picture n, in strips of output channels, zero beyond C. */
static void make_s(const job *j, const ds_tensor *dg, int64_t n, double factor)
{
    const int64_t c = j->x->shape.c, padded = j->plan->padded, strip = j->plan->slots->strip;
    const float *g = (const float *)dg->data + n * c * c;
    for (int64_t from = 0; from < padded; from += strip) {
        const int64_t width = padded - from < strip ? padded - from : strip;
        float *s = j->s + from * padded;
        for (int64_t in = 0; in < padded; in++)
            for (int64_t lane = 0; lane < width; lane++) {
                const int64_t to = from + lane;
                const bool inside = in < c && to < c;
                s[in * width + lane] = inside ? ds_gram_factor(g, c, in, to, factor) : 0;
            }
    }
}

typedef struct apply {
    const job *job;
    int64_t n;
} apply;

/* Item: one chunk of pixels of picture n. */
static void apply_task(void *context, int64_t item, int worker)
{
    const apply *a = context;
    const job *j = a->job;
    const ds_shape s = j->x->shape;
    const int64_t pixels = s.h * s.w, at = item * DS_GRAM_CHUNK;
    const int64_t count = pixels - at < DS_GRAM_CHUNK ? pixels - at : DS_GRAM_CHUNK;
    float *own = j->chunks + worker * 2 * chunk_floats(j->plan);
    const chunk f = read_chunk(j, a->n, at, count, own);
    const chunk y = chunk_at(j->out, a->n, at, own + chunk_floats(j->plan));
    j->plan->slots->gram_apply(f.data, f.plane, j->s, weight_at(j, a->n, at), y.data, y.plane,
                               j->plan->padded, count);
    write_chunk(j, &y, a->n, at, count);
}

static ds_code backward_prepare(ds_backend *backend, ds_step *step, ds_status *status)
{
    const ds_code code = make_plan(backend, step, status);
    if (code != DS_OK)
        return code;
    const plan *p = step->prepared;
    step->workspace_bytes = (mask_floats(mask_of(step, 2)) + all_chunks(backend, step, 2) +
                             (size_t)(p->padded * p->padded)) *
                            sizeof(float);
    return DS_OK;
}

static void backward_run(ds_backend *backend, const ds_step *step)
{
    job j = {.plan = step->prepared,
             .x = step->in[0],
             .mask = mask_of(step, 2),
             .out = step->out,
             .weight = step->workspace};
    const double scale = DS_ATTR(gram_backward, step->attr).scale;
    const int64_t chunks = (j.x->shape.h * j.x->shape.w + DS_GRAM_CHUNK - 1) / DS_GRAM_CHUNK;
    j.chunks = j.weight + mask_floats(j.mask);
    j.s = j.chunks + all_chunks(backend, step, 2);
    for (int64_t n = 0; n < j.x->shape.n; n++) {
        apply a = {.job = &j, .n = n};
        make_s(&j, step->in[1], n, scale * square_mask(&j, n));
        ds_pool_run(backend->pool, chunks, apply_task, &a);
    }
}

const ds_kernel ds_cpu_gram_backward = {.accepts = accepts,
                                        .prepare = backward_prepare,
                                        .run = backward_run,
                                        .release = release,
                                        .takes_half = true};
