#include "cpu/channels.h"

#include <string.h>

/* A plane (or block of planes) of a tensor, cut into chunks of pixels of 16 floats. */
typedef struct cut {
    int64_t planes; /* of all pictures */
    int64_t floats; /* of a plane */
    int64_t pixels; /* of 16 floats; the tail of a planar plane is left out */
    int64_t chunks; /* of a plane, at least 1 */
    bool blocked;
} cut;

static cut cut_of(const ds_tensor *x)
{
    const ds_shape s = x->shape;
    const bool blocked = ds_is_blocked(x);
    cut c = {.planes = s.n * (blocked ? ds_blocks(s.c) : s.c),
             .floats = s.h * s.w * (blocked ? DS_BLOCK : 1),
             .blocked = blocked};
    c.pixels = c.floats / DS_BLOCK;
    c.chunks = (c.pixels + DS_CHUNK - 1) / DS_CHUNK;
    c.chunks = c.chunks ? c.chunks : 1;
    return c;
}

/* The range of pixels of a chunk. */
static int64_t chunk_pixels(const cut *c, int64_t chunk)
{
    const int64_t left = c->pixels - chunk * DS_CHUNK;
    return left < DS_CHUNK ? left : DS_CHUNK;
}

static int64_t partial_floats(const cut *c)
{
    return c->planes * c->chunks * 2 * DS_BLOCK;
}

size_t ds_channels_bytes(const ds_tensor *x)
{
    const cut c = cut_of(x);
    const size_t each = sizeof(ds_spread) + sizeof(ds_sums) + DS_CHANNEL_VECTORS * sizeof(float);
    return (size_t)(x->shape.n * ds_lanes(x)) * each + (size_t)partial_floats(&c) * sizeof(float);
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
    const ds_finish *finish;
    float *partial; /* (planes, chunks, 2, 16) */
    ds_spread *spread;
    ds_sums *sums;
} job;

/* The strength of the pixels from `pixel` on, in the picture of `plane`. */
static const float *strength_at(const job *j, int64_t plane, int64_t pixel)
{
    if (!j->strength)
        return NULL;
    const ds_shape s = j->strength->shape;
    const int64_t n = s.n == 1 ? 0 : plane / (j->cut.planes / j->g->shape.n);
    return (const float *)j->strength->data + n * s.h * s.w + pixel;
}

/* Item: one chunk of one plane. */
static void spread_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t plane = item / j->cut.chunks, chunk = item % j->cut.chunks;
    const float *x = (const float *)j->x->data + plane * j->cut.floats;
    float *to = j->partial + item * 2 * DS_BLOCK;
    (void)worker;
    if (j->cut.pixels)
        j->slots->spread_pixels(x + chunk * DS_CHUNK * DS_BLOCK, chunk_pixels(&j->cut, chunk), to,
                                to + DS_BLOCK);
}

/* The spread of lane `lane` of a plane. */
static ds_spread join_lane(const job *j, int64_t plane, int64_t lane)
{
    ds_spread all = {0};
    for (int64_t chunk = 0; j->cut.pixels && chunk < j->cut.chunks; chunk++) {
        const float *part = j->partial + (plane * j->cut.chunks + chunk) * 2 * DS_BLOCK + lane;
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
             .cut = cut_of(x),
             .x = x,
             .partial = channels->partial,
             .spread = channels->spread};
    ds_pool_run(backend->pool, j.cut.planes * j.cut.chunks, spread_task, &j);
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

/* Item: one chunk of one plane. */
static void sum_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t plane = item / j->cut.chunks, from = item % j->cut.chunks * DS_CHUNK;
    const int64_t at = plane * j->cut.floats + from * DS_BLOCK;
    float *to = j->partial + item * 2 * DS_BLOCK, splat[DS_BLOCK];
    (void)worker;
    j->slots->sum_pixels(
        (const float *)j->g->data + at, j->x ? (const float *)j->x->data + at : NULL,
        j->x ? lanes_of(j, j->mean, plane, splat) : NULL, strength_at(j, plane, from),
        chunk_pixels(&j->cut, item % j->cut.chunks), to, to + DS_BLOCK);
}

/* Adds lane `lane` of a plane to the sums. */
static void add_lane(const job *j, int64_t plane, int64_t lane, ds_sums *sums)
{
    for (int64_t chunk = 0; chunk < j->cut.chunks; chunk++) {
        const float *part = j->partial + (plane * j->cut.chunks + chunk) * 2 * DS_BLOCK + lane;
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
             .cut = cut_of(g),
             .g = g,
             .x = x,
             .mean = mean,
             .strength = strength,
             .partial = channels->partial,
             .sums = channels->sums};
    ds_pool_run(backend->pool, j.cut.planes * j.cut.chunks, sum_task, &j);
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

static ds_finish finish_at(const ds_finish *finish, int64_t floats)
{
    ds_finish moved = *finish;
    moved.addend = moved.addend ? moved.addend + floats : NULL;
    moved.gate = moved.gate ? moved.gate + floats : NULL;
    return moved;
}

/* Item: one chunk of one plane; the last one of a plane has its tail. */
static void scale_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t plane = item / j->cut.chunks, chunk = item % j->cut.chunks;
    const int64_t begin = plane * j->cut.floats, at = begin + chunk * DS_CHUNK * DS_BLOCK;
    const float *x = j->x->data;
    float *y = j->y->data, splat[2][DS_BLOCK], tail[4][DS_BLOCK];
    const float *scale = lanes_of(j, j->scale, plane, splat[0]);
    const float *shift = lanes_of(j, j->shift, plane, splat[1]);
    const ds_finish finish = finish_at(j->finish, at);
    (void)worker;
    j->slots->scale_pixels(x + at, scale, shift, &finish, y + at, chunk_pixels(&j->cut, chunk));
    const int64_t left = j->cut.floats % DS_BLOCK, last = begin + j->cut.floats - left;
    if (left == 0 || chunk != j->cut.chunks - 1)
        return;
    ds_finish end = finish_at(j->finish, last);
    end.addend = tail_of(end.addend, left, tail[1]);
    end.gate = tail_of(end.gate, left, tail[2]);
    j->slots->scale_pixels(tail_of(x + last, left, tail[0]), scale, shift, &end, tail[3], 1);
    memcpy(y + last, tail[3], (size_t)left * sizeof *y);
}

void ds_scale_channels(ds_backend *backend, const ds_tensor *x, const float *scale,
                       const float *shift, const ds_finish *finish, const ds_tensor *y)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .cut = cut_of(x),
             .x = x,
             .y = y,
             .scale = scale,
             .shift = shift,
             .finish = finish};
    ds_pool_run(backend->pool, j.cut.planes * j.cut.chunks, scale_task, &j);
}

/* Item: one chunk of one plane, as in scale_task. */
static void combine_task(void *context, int64_t item, int worker)
{
    const job *j = context;
    const int64_t plane = item / j->cut.chunks, chunk = item % j->cut.chunks;
    const int64_t begin = plane * j->cut.floats, at = begin + chunk * DS_CHUNK * DS_BLOCK;
    const float *g = j->g->data, *x = j->x->data;
    float *y = j->y->data, abc[3][DS_BLOCK], tail[3][DS_BLOCK];
    const float *const vectors[] = {j->a, j->b, j->c};
    (void)worker;
    for (int i = 0; i < 3; i++) {
        const float *lanes = lanes_of(j, vectors[i], plane, tail[0]);
        memcpy(abc[i], lanes, sizeof abc[i]);
    }
    j->slots->combine_pixels(g + at, x + at, abc[0], strength_at(j, plane, chunk * DS_CHUNK),
                             y + at, chunk_pixels(&j->cut, chunk));
    const int64_t left = j->cut.floats % DS_BLOCK, last = begin + j->cut.floats - left;
    if (left == 0 || chunk != j->cut.chunks - 1)
        return;
    j->slots->combine_pixels(tail_of(g + last, left, tail[0]), tail_of(x + last, left, tail[1]),
                             abc[0], NULL, tail[2], 1);
    memcpy(y + last, tail[2], (size_t)left * sizeof *y);
}

void ds_combine_channels(ds_backend *backend, const ds_tensor *g, const ds_tensor *x,
                         const float *a, const float *b, const float *c, const ds_tensor *strength,
                         const ds_tensor *y)
{
    job j = {.slots = ds_cpu_slots(backend->level),
             .cut = cut_of(g),
             .g = g,
             .x = x,
             .y = y,
             .a = a,
             .b = b,
             .c = c,
             .strength = strength};
    ds_pool_run(backend->pool, j.cut.planes * j.cut.chunks, combine_task, &j);
}
