#include "cpu/flat.h"

#include <string.h>

/* Floats of one work item: its operands fill a part of the second-level cache. */
enum { PIECE = 1 << 14 };

/* The floats behind the last 16, computed on copies of 16. */
static void apply_tail(const ds_flat *flat, int64_t at, size_t count)
{
    float copy[DS_FLAT_INPUTS][DS_BLOCK] = {0}, y[DS_BLOCK];
    const float *in[DS_FLAT_INPUTS] = {NULL};
    for (int i = 0; i < DS_FLAT_INPUTS; i++) {
        if (!flat->in[i])
            continue;
        memcpy(copy[i], flat->in[i] + at, count * sizeof(float));
        in[i] = copy[i];
    }
    flat->apply(flat, in, y, DS_BLOCK);
    memcpy(flat->y + at, y, count * sizeof(float));
}

static void task(void *context, int64_t item, int worker)
{
    const ds_flat *flat = context;
    const int64_t at = item * PIECE, left = flat->count - at;
    const int64_t count = left < PIECE ? left : PIECE, tail = count % DS_BLOCK;
    const float *in[DS_FLAT_INPUTS] = {NULL};
    (void)worker;
    for (int i = 0; i < DS_FLAT_INPUTS; i++)
        in[i] = flat->in[i] ? flat->in[i] + at : NULL;
    flat->apply(flat, in, flat->y + at, count - tail);
    if (tail)
        apply_tail(flat, at + count - tail, (size_t)tail);
}

void ds_flat_run(ds_pool *pool, const ds_flat *flat)
{
    ds_pool_run(pool, (flat->count + PIECE - 1) / PIECE, task, (void *)flat);
}
