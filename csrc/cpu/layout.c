/* Packing: planar to blocks of channels and back. */
#include "cpu/cpu.h"

#include <string.h>

typedef struct change {
    const ds_tensor *blocked;
    float *planar;
} change;

/* Item: one block of channels of one picture. */
static void block_task(void *context, int64_t item, int worker)
{
    const change *c = context;
    const ds_shape s = c->blocked->shape;
    const int64_t pixels = s.h * s.w, blocks = ds_blocks(s.c);
    const int64_t n = item / blocks, b = item % blocks, first = b * DS_BLOCK;
    const int64_t lanes = s.c - first < DS_BLOCK ? s.c - first : DS_BLOCK;
    const float *from = c->planar + (n * s.c + first) * pixels;
    float *to = ds_block(c->blocked, n, b);
    (void)worker;
    for (int64_t p = 0; p < pixels; p++, to += DS_BLOCK) {
        for (int64_t lane = 0; lane < lanes; lane++)
            to[lane] = from[lane * pixels + p];
        for (int64_t lane = lanes; lane < DS_BLOCK; lane++)
            to[lane] = 0;
    }
}

static void unblock_task(void *context, int64_t item, int worker)
{
    const change *c = context;
    const ds_shape s = c->blocked->shape;
    const int64_t pixels = s.h * s.w, blocks = ds_blocks(s.c);
    const int64_t n = item / blocks, b = item % blocks, first = b * DS_BLOCK;
    const int64_t lanes = s.c - first < DS_BLOCK ? s.c - first : DS_BLOCK;
    const float *from = ds_block(c->blocked, n, b);
    float *to = c->planar + (n * s.c + first) * pixels;
    (void)worker;
    for (int64_t p = 0; p < pixels; p++, from += DS_BLOCK)
        for (int64_t lane = 0; lane < lanes; lane++)
            to[lane * pixels + p] = from[lane];
}

void ds_cpu_block(ds_pool *pool, const float *planar, const ds_tensor *blocked)
{
    change c = {.blocked = blocked, .planar = (float *)planar};
    ds_pool_run(pool, blocked->shape.n * ds_blocks(blocked->shape.c), block_task, &c);
}

void ds_cpu_unblock(ds_pool *pool, const ds_tensor *blocked, float *planar)
{
    change c = {.blocked = blocked, .planar = planar};
    ds_pool_run(pool, blocked->shape.n * ds_blocks(blocked->shape.c), unblock_task, &c);
}
