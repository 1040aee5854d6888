#include "cpu/channels.h"

#include "cpu/conv.h"
#include "cpu/half.h"

#include <string.h>

/* A plane (or block of planes) of a tensor, cut into chunks of pixels of 16 floats. */
typedef struct cut {
    ds_pairs pairs;
    int64_t planes;  /* of all pictures */
    int64_t floats;  /* of a plane */
    int64_t pixels;  /* of 16 floats; the tail of a planar plane is left out */
    int64_t chunk;   /* pixels of a chunk; the last one of a plane may have fewer */
    int64_t stretch; /* of them, those that are scaled at once */
    int64_t chunks;  /* of a plane, at least 1 */
    bool blocked;
} cut;

static cut cut_of(const ds_tensor *x, bool half)
{
    const ds_shape s = x->shape;
    const bool blocked = ds_is_blocked(x);
    cut c = {.pairs = ds_pairs_of(x, half),
             .floats = s.h * s.w * (blocked ? DS_BLOCK : 1),
             .chunk = half ? DS_HALF_CHUNK : DS_CHUNK,
             .stretch = half ? DS_STRETCH : DS_CHUNK,
             .blocked = blocked};
    c.planes = s.n * c.pairs.blocks;
    c.pixels = c.floats / DS_BLOCK;
    c.chunks = (c.pixels + c.chunk - 1) / c.chunk;
    c.chunks = c.chunks ? c.chunks : 1;
    return c;
}

/* The range of pixels of a chunk. */
static int64_t chunk_pixels(const cut *c, int64_t chunk)
{
    const int64_t left = c->pixels - chunk * c->chunk;
    return left < c->chunk ? left : c->chunk;
}

/* Enough for chunks of either length. */
static int64_t partial_floats(const ds_tensor *x)
{
    const cut c = cut_of(x, true);
    return c.planes * c.chunks * 2 * DS_BLOCK;
}

size_t ds_channels_bytes(const ds_tensor *x)
{
    const size_t each = sizeof(ds_spread) + sizeof(ds_sums) + DS_CHANNEL_VECTORS * sizeof(float);
    return (size_t)(x->shape.n * ds_lanes(x)) * each + (size_t)partial_floats(x) * sizeof(float);
}

ds_channels ds_channels_of(const ds_tensor *x, void *workspace)
{
    ds_channels c = {.count = x->shape.n * ds_lanes(x), .spread = workspace};
    c.sums = (ds_sums *)(c.spread + c.count);
    c.partial = (float *)(c.sums + c.count);
    for (int i = 0; i < DS_CHANNEL_VECTORS; i++, c.partial += c.count)
        c.vector[i] = c.partial;
    return c;
}

ds_spread ds_spread_join(ds_spread a, ds_spread b)
{
    const double count = a.count + b.count, difference = b.mean - a.mean;
    if (b.count == 0)
        return a;
    return (ds_spread){.count = count,
                       .mean = a.mean + difference * b.count / count,
                       .squares = a.squares + b.squares +
                                  difference * difference * a.count * b.count / count};
}

/* All that the tasks below need; which members are set depends on the task. */
typedef struct job {
    const ds_slots *slots;
    cut cut;
    const ds_tensor *x, *g, *y, *strength;
    const float *mean, *scale, *shift;
    const float *a, *b, *c;
    const ds_epilogue *end;
    ds_finish finish;
    float *partial; /* (planes, chunks, 2, 16) */
    ds_spread *spread;
    ds_sums *sums;
    void (*work)(const struct job *job, int64_t plane, int64_t chunk);
} job;

/* Item: one chunk of a pair of planes. */
static void chunk_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    int64_t end, plane = ds_pair_blocks(&j->cut.pairs, item / j->cut.chunks, &end);
    (void)worker;
    for (; plane < end; plane++)
        j->work(j, plane, item % j->cut.chunks);
}

static void run_chunks(ds_backend *backend, job *j,
                       void (*work)(const job *job, int64_t plane, int64_t chunk))
{
    j->work = work;
    ds_pool_run(backend->pool, j->cut.pairs.count * j->cut.chunks, chunk_task, j);
}

/* Pixels of a plane, in `buffer` where they are bf16; x NULL: NULL. */
static const float *read_pixels(const job *j, const ds_tensor *x, int64_t plane, int64_t pixel,
                                int64_t count, float *buffer)
{
    if (!x || ds_is_half(x))
        return ds_read_pixels(j->slots, x, plane, pixel, count, buffer);
    return (const float *)x->data + plane * j->cut.floats + pixel * DS_BLOCK;
}

/* Where pixels of y are to be made. */
static float *pixels_to_write(const job *j, int64_t plane, int64_t pixel, float *buffer)
{
    if (ds_is_half(j->y))
        return buffer;
    return (float *)j->y->data + plane * j->cut.floats + pixel * DS_BLOCK;
}

/* The strength of the pixels from `pixel` on, in the picture of `plane`. */
static const float *strength_at(const job *j, int64_t plane, int64_t pixel)
{
    if (!j->strength)
        return NULL;
    const ds_shape s = j->strength->shape;
    const int64_t n = s.n == 1 ? 0 : plane / j->cut.pairs.blocks;
    return (const float *)j->strength->data + n * s.h * s.w + pixel;
}

static float *partial_at(const job *j, int64_t plane, int64_t chunk)
{
    return j->partial + (plane * j->cut.chunks + chunk) * 2 * DS_BLOCK;
}

static void spread_chunk(const job *j, int64_t plane, int64_t chunk)
{
    const int64_t count = chunk_pixels(&j->cut, chunk);
    float buffer[DS_HALF_CHUNK_FLOATS], *to = partial_at(j, plane, chunk);
    if (j->cut.pixels)
        j->slots->spread_pixels(read_pixels(j, j->x, plane, chunk * j->cut.chunk, count, buffer),
                                count, to, to + DS_BLOCK);
}

/* The spread of lane `lane` of a plane. */
static ds_spread join_lane(const job *j, int64_t plane, int64_t lane)
{
    ds_spread all = {0};
    for (int64_t chunk = 0; j->cut.pixels && chunk < j->cut.chunks; chunk++) {
        const float *part = partial_at(j, plane, chunk) + lane;
        all = ds_spread_join(all, (ds_spread){.count = (double)chunk_pixels(&j->cut, chunk),
                                              .mean = (double)part[0],
                                              .squares = (double)part[DS_BLOCK]});
    }
    return all;
}

/* Item: one plane. */
static void join_task(void *context, int64_t plane, int worker)
{
    const job *j = context;
    (void)worker;
    if (j->cut.blocked) {
        for (int64_t lane = 0; lane < DS_BLOCK; lane++)
            j->spread[plane * DS_BLOCK + lane] = join_lane(j, plane, lane);
        return;
    }
    const float *x = (const float *)j->x->data + plane * j->cut.floats;
    ds_spread all = {0};
    for (int64_t lane = 0; lane < DS_BLOCK; lane++)
        all = ds_spread_join(all, join_lane(j, plane, lane));
    for (int64_t i = j->cut.pixels * DS_BLOCK; i < j->cut.floats; i++)
        all = ds_spread_join(all, (ds_spread){.count = 1, .mean = (double)x[i]});
    j->spread[plane] = all;
}

void ds_channel_spreads(ds_backend *backend, const ds_tensor *x, ds_channels *channels)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .cut = cut_of(x, ds_is_half(x)),
             .x = x,
             .partial = channels->partial,
             .spread = channels->spread};
    if (x->measured) {
        memcpy(j.spread, ds_spreads_behind(x), (size_t)channels->count * sizeof *j.spread);
        return;
    }
    run_chunks(backend, &j, spread_chunk);
    ds_pool_run(backend->pool, j.cut.planes, join_task, &j);
}

/* The factors of 16 lanes: those of a block, or 16 times that of a plane. */
static const float *lanes_of(const job *j, const float *vector, int64_t plane, float *splat)
{
    if (j->cut.blocked)
        return vector + plane * DS_BLOCK;
    for (int i = 0; i < DS_BLOCK; i++)
        splat[i] = vector[plane];
    return splat;
}

static void sum_chunk(const job *j, int64_t plane, int64_t chunk)
{
    const int64_t pixel = chunk * j->cut.chunk, count = chunk_pixels(&j->cut, chunk);
    float *to = partial_at(j, plane, chunk), splat[DS_BLOCK], buffer[2][DS_HALF_CHUNK_FLOATS];
    j->slots->sum_pixels(read_pixels(j, j->g, plane, pixel, count, buffer[0]),
                         read_pixels(j, j->x, plane, pixel, count, buffer[1]),
                         j->x ? lanes_of(j, j->mean, plane, splat) : NULL,
                         strength_at(j, plane, pixel), count, to, to + DS_BLOCK);
}

/* Adds lane `lane` of a plane to the sums. */
static void add_lane(const job *j, int64_t plane, int64_t lane, ds_sums *sums)
{
    for (int64_t chunk = 0; chunk < j->cut.chunks; chunk++) {
        const float *part = partial_at(j, plane, chunk) + lane;
        sums->g += (double)part[0];
        sums->gx += j->x ? (double)part[DS_BLOCK] : 0;
    }
}

/* Item: one plane. */
static void close_task(void *context, int64_t plane, int worker)
{
    const job *j = context;
    (void)worker;
    for (int64_t lane = 0; lane < DS_BLOCK; lane++) {
        ds_sums *to = &j->sums[j->cut.blocked ? plane * DS_BLOCK + lane : plane];
        if (j->cut.blocked || lane == 0)
            *to = (ds_sums){0};
        add_lane(j, plane, lane, to);
    }
    const int64_t from = plane * j->cut.floats;
    for (int64_t i = from + j->cut.pixels * DS_BLOCK; i < from + j->cut.floats; i++) {
        const double g = (double)((const float *)j->g->data)[i];
        j->sums[plane].g += g;
        if (j->x)
            j->sums[plane].gx +=
                g * ((double)((const float *)j->x->data)[i] - (double)j->mean[plane]);
    }
}

void ds_channel_sums(ds_backend *backend, const ds_tensor *g, const ds_tensor *x, const float *mean,
                     const ds_tensor *strength, ds_channels *channels)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .cut = cut_of(g, ds_is_half(g) || (x && ds_is_half(x))),
             .g = g,
             .x = x,
             .mean = mean,
             .strength = strength,
             .partial = channels->partial,
             .sums = channels->sums};
    run_chunks(backend, &j, sum_chunk);
    ds_pool_run(backend->pool, j.cut.planes, close_task, &j);
}

/* Copies the floats behind the last whole pixel of a plane, so that 16 can be read. */
static const float *tail_of(const float *from, int64_t floats, float *tail)
{
    if (!from)
        return NULL;
    memset(tail, 0, DS_BLOCK * sizeof *tail);
    memcpy(tail, from, (size_t)floats * sizeof *tail);
    return tail;
}

static const float *data_at(const ds_tensor *x, int64_t at)
{
    return x ? (const float *)x->data + at : NULL;
}

/* The floats behind the last whole pixel of a planar plane. */
static void scale_tail(const job *j, int64_t plane, const float *scale, const float *shift)
{
    const int64_t left = j->cut.floats % DS_BLOCK, last = (plane + 1) * j->cut.floats - left;
    float tail[4][DS_BLOCK];
    ds_finish finish = j->finish;
    finish.addend = tail_of(data_at(j->end->addend, last), left, tail[1]);
    finish.gate = tail_of(data_at(j->end->gate, last), left, tail[2]);
    j->slots->scale_pixels(tail_of(data_at(j->x, last), left, tail[0]), scale, shift, &finish,
                           tail[3], 1);
    memcpy((float *)j->y->data + last, tail[3], (size_t)left * sizeof(float));
}

static void scale_pixels(const job *j, int64_t plane, int64_t pixel, int64_t count,
                         const float *scale, const float *shift)
{
    float buffer[3][DS_STRETCH_FLOATS], made[DS_STRETCH_FLOATS];
    float *y = pixels_to_write(j, plane, pixel, made);
    ds_finish finish = j->finish;
    finish.addend = read_pixels(j, j->end->addend, plane, pixel, count, buffer[1]);
    finish.gate = read_pixels(j, j->end->gate, plane, pixel, count, buffer[2]);
    j->slots->scale_pixels(read_pixels(j, j->x, plane, pixel, count, buffer[0]), scale, shift,
                           &finish, y, count);
    if (ds_is_half(j->y))
        ds_write_pixels(j->slots, j->y, plane, pixel, count, y);
}

/* The last chunk of a plane has its tail. */
static void scale_chunk(const job *j, int64_t plane, int64_t chunk)
{
    float splat[2][DS_BLOCK];
    const float *scale = lanes_of(j, j->scale, plane, splat[0]);
    const float *shift = lanes_of(j, j->shift, plane, splat[1]);
    const int64_t begin = chunk * j->cut.chunk, end = begin + chunk_pixels(&j->cut, chunk);
    for (int64_t pixel = begin; pixel < end; pixel += j->cut.stretch)
        scale_pixels(j, plane, pixel, ds_minimum(end - pixel, j->cut.stretch), scale, shift);
    if (j->cut.floats % DS_BLOCK != 0 && chunk == j->cut.chunks - 1)
        scale_tail(j, plane, scale, shift);
}

void ds_scale_channels(ds_backend *backend, const ds_step *step, const float *scale,
                       const float *shift)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .cut = cut_of(step->in[0], ds_step_has_half(step)),
             .x = step->in[0],
             .y = step->out,
             .scale = scale,
             .shift = shift,
             .end = &step->epilogue,
             .finish = ds_finish_of(step, NULL)};
    run_chunks(backend, &j, scale_chunk);
}

static void combine_tail(const job *j, int64_t plane, const float *abc)
{
    const int64_t left = j->cut.floats % DS_BLOCK, last = (plane + 1) * j->cut.floats - left;
    float tail[3][DS_BLOCK];
    j->slots->combine_pixels(tail_of(data_at(j->g, last), left, tail[0]),
                             tail_of(data_at(j->x, last), left, tail[1]), abc, NULL, tail[2], 1);
    memcpy((float *)j->y->data + last, tail[2], (size_t)left * sizeof(float));
}

static void combine_pixels(const job *j, int64_t plane, int64_t pixel, int64_t count,
                           const float *abc)
{
    float buffer[2][DS_STRETCH_FLOATS], made[DS_STRETCH_FLOATS];
    float *y = pixels_to_write(j, plane, pixel, made);
    j->slots->combine_pixels(read_pixels(j, j->g, plane, pixel, count, buffer[0]),
                             read_pixels(j, j->x, plane, pixel, count, buffer[1]), abc,
                             strength_at(j, plane, pixel), y, count);
    if (ds_is_half(j->y))
        ds_write_pixels(j->slots, j->y, plane, pixel, count, y);
}

static void combine_chunk(const job *j, int64_t plane, int64_t chunk)
{
    float abc[3][DS_BLOCK], splat[DS_BLOCK];
    const float *const vectors[] = {j->a, j->b, j->c};
    const int64_t begin = chunk * j->cut.chunk, end = begin + chunk_pixels(&j->cut, chunk);
    for (int i = 0; i < 3; i++) {
        const float *lanes = lanes_of(j, vectors[i], plane, splat);
        memcpy(abc[i], lanes, sizeof abc[i]);
    }
    for (int64_t pixel = begin; pixel < end; pixel += j->cut.stretch)
        combine_pixels(j, plane, pixel, ds_minimum(end - pixel, j->cut.stretch), abc[0]);
    if (j->cut.floats % DS_BLOCK != 0 && chunk == j->cut.chunks - 1)
        combine_tail(j, plane, abc[0]);
}

void ds_combine_channels(ds_backend *backend, const ds_tensor *g, const ds_tensor *x,
                         const float *a, const float *b, const float *c, const ds_tensor *strength,
                         const ds_tensor *y)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .cut = cut_of(g, ds_is_half(g) || ds_is_half(x) || ds_is_half(y)),
             .g = g,
             .x = x,
             .y = y,
             .a = a,
             .b = b,
             .c = c,
             .strength = strength};
    run_chunks(backend, &j, combine_chunk);
}
