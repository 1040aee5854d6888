/* Packing: planar to blocks of channels and back, blocks of floats to blocks of bf16 and back. */
#include "cpu/half.h"

#include <string.h>

typedef struct change {
    const ds_tensor *blocked;
    float *planar;
} change;

/* One block of channels of one picture. */
typedef struct part {
    int64_t pixels, lanes; /* of the lanes those that hold channels */
    float *planar;         /* its first channel */
    float *block;          /* its first pixel; NULL in a bf16 tensor, */
    ds_bf16 *half;         /* where it is here */
} part;

static part part_of(const change *c, int64_t item)
{
    const ds_shape s = c->blocked->shape;
    const bool half = ds_is_half(c->blocked);
    const int64_t lanes = half ? DS_HALF_BLOCK : DS_BLOCK, blocks = (s.c + lanes - 1) / lanes;
    const int64_t n = item / blocks, b = item % blocks, left = s.c - b * lanes;
    return (part){.pixels = s.h * s.w,
                  .lanes = left < lanes ? left : lanes,
                  .planar = c->planar + (n * s.c + b * lanes) * s.h * s.w,
                  .block = half ? NULL : ds_block(c->blocked, n, b),
                  .half = half ? ds_half_block(c->blocked, n, b) : NULL};
}

static void block_task(void *context, int64_t item, int worker)
{
    const part t = part_of(context, item);
    (void)worker;
    for (int64_t p = 0; t.block && p < t.pixels; p++)
        for (int64_t lane = 0; lane < DS_BLOCK; lane++)
            t.block[p * DS_BLOCK + lane] = lane < t.lanes ? t.planar[lane * t.pixels + p] : 0;
    for (int64_t p = 0; t.half && p < t.pixels; p++)
        for (int64_t lane = 0; lane < DS_HALF_BLOCK; lane++)
            t.half[p * DS_HALF_BLOCK + lane] =
                lane < t.lanes ? ds_narrow(t.planar[lane * t.pixels + p]) : 0;
}

static void unblock_task(void *context, int64_t item, int worker)
{
    const part t = part_of(context, item);
    (void)worker;
    for (int64_t p = 0; t.block && p < t.pixels; p++)
        for (int64_t lane = 0; lane < t.lanes; lane++)
            t.planar[lane * t.pixels + p] = t.block[p * DS_BLOCK + lane];
    for (int64_t p = 0; t.half && p < t.pixels; p++)
        for (int64_t lane = 0; lane < t.lanes; lane++)
            t.planar[lane * t.pixels + p] = ds_widen(t.half[p * DS_HALF_BLOCK + lane]);
}

static int64_t blocks_of(const ds_tensor *t)
{
    return t->shape.n * (ds_is_half(t) ? ds_half_blocks(t->shape.c) : ds_blocks(t->shape.c));
}

void ds_cpu_block(ds_pool *pool, const float *planar, const ds_tensor *blocked)
{
    change c = {.blocked = blocked, .planar = (float *)planar};
    ds_pool_run(pool, blocks_of(blocked), block_task, &c);
}

void ds_cpu_unblock(ds_pool *pool, const ds_tensor *blocked, float *planar)
{
    change c = {.blocked = blocked, .planar = planar};
    ds_pool_run(pool, blocks_of(blocked), unblock_task, &c);
}

typedef struct conversion {
    const ds_slots *slots;
    const ds_tensor *half, *floats;
    ds_pairs pairs;
    int64_t chunks; /* of a block */
    bool widen;
} conversion;

/* Item: one chunk of pixels of a pair of blocks. */
static void convert_task(void *context, int64_t item, int worker)
{
    const conversion *c = context;
    const int64_t pixel = item % c->chunks * DS_HALF_CHUNK;
    const int64_t left = c->half->shape.h * c->half->shape.w - pixel;
    const int64_t count = left < DS_HALF_CHUNK ? left : DS_HALF_CHUNK;
    int64_t end, block = ds_pair_blocks(&c->pairs, item / c->chunks, &end);
    (void)worker;
    for (; block < end; block++) {
        float *floats = ds_pixels_to_write(c->floats, block, pixel, NULL);
        if (c->widen)
            ds_read_pixels(c->slots, c->half, block, pixel, count, floats);
        else
            ds_write_pixels(c->slots, c->half, block, pixel, count, floats);
    }
}

static void convert(ds_backend *backend, const ds_tensor *half, const ds_tensor *floats, bool widen)
{
    const int64_t pixels = half->shape.h * half->shape.w;
    conversion c = {.slots = ds_cpu_slots(backend->level),
                    .half = half,
                    .floats = floats,
                    .pairs = ds_pairs_of(half, true),
                    .chunks = (pixels + DS_HALF_CHUNK - 1) / DS_HALF_CHUNK,
                    .widen = widen};
    ds_pool_run(backend->pool, c.pairs.count * c.chunks, convert_task, &c);
}

void ds_cpu_widen(ds_backend *backend, const ds_tensor *half, const ds_tensor *floats)
{
    convert(backend, half, floats, true);
}

void ds_cpu_narrow(ds_backend *backend, const ds_tensor *floats, const ds_tensor *half)
{
    convert(backend, half, floats, false);
}
