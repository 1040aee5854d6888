/* Packing: planar to blocks of channels and back, blocks of floats to blocks of bf16 and back. */
#include "cpu/cpu.h"

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

enum { PIECE = 4096 }; /* pixels of a work item */

typedef struct conversion {
    const ds_slots *slots;
    const ds_tensor *half, *floats;
    int64_t pieces; /* of a block */
} conversion;

/* One piece of a block of 32 channels, and its halves among the floats. */
typedef struct piece {
    ds_bf16 *half;
    float *low, *high; /* high: NULL where there are no such channels */
    int64_t pixels;
} piece;

static piece piece_of(const conversion *c, int64_t item)
{
    const ds_shape s = c->half->shape;
    const int64_t block = item / c->pieces, first = item % c->pieces * PIECE;
    const int64_t n = block / ds_half_blocks(s.c), b = block % ds_half_blocks(s.c);
    const int64_t left = s.h * s.w - first;
    float *low = ds_block(c->floats, n, 2 * b) + first * DS_BLOCK;
    return (piece){.half = ds_half_block(c->half, n, b) + first * DS_HALF_BLOCK,
                   .low = low,
                   .high = 2 * b + 1 < ds_blocks(s.c) ? low + s.h * s.w * DS_BLOCK : NULL,
                   .pixels = left < PIECE ? left : PIECE};
}

static void widen_task(void *context, int64_t item, int worker)
{
    const conversion *c = context;
    const piece p = piece_of(c, item);
    (void)worker;
    c->slots->widen(p.half, p.low, p.high, p.pixels);
}

static void narrow_task(void *context, int64_t item, int worker)
{
    const conversion *c = context;
    const piece p = piece_of(c, item);
    (void)worker;
    c->slots->narrow(p.low, p.high, p.half, p.pixels);
}

static void convert(ds_backend *backend, const ds_tensor *half, const ds_tensor *floats,
                    ds_task *task)
{
    const int64_t pixels = half->shape.h * half->shape.w;
    conversion c = {.slots = ds_cpu_slots(backend->level),
                    .half = half,
                    .floats = floats,
                    .pieces = (pixels + PIECE - 1) / PIECE};
    ds_pool_run(backend->pool, blocks_of(half) * c.pieces, task, &c);
}

void ds_cpu_widen(ds_backend *backend, const ds_tensor *half, const ds_tensor *floats)
{
    convert(backend, half, floats, widen_task);
}

void ds_cpu_narrow(ds_backend *backend, const ds_tensor *floats, const ds_tensor *half)
{
    convert(backend, half, floats, narrow_task);
}
