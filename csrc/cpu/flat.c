#include "cpu/flat.h"

#include "cpu/half.h"

#include <string.h>

/* Floats of one work item: its operands fill a part of the second-level cache. */
enum { PIECE = 1 << 14 };

static const float *data_at(const ds_tensor *x, int64_t at)
{
    return x ? (const float *)x->data + at : NULL;
}

/* The floats behind the last 16, computed on copies of 16. */
static void apply_tail(const ds_flat *flat, int64_t at, size_t count)
{
    float copy[DS_FLAT_INPUTS][DS_BLOCK] = {0}, y[DS_BLOCK];
    const float *in[DS_FLAT_INPUTS] = {NULL};
    for (int i = 0; i < DS_FLAT_INPUTS; i++) {
        if (!flat->in[i])
            continue;
        memcpy(copy[i], data_at(flat->in[i], at), count * sizeof(float));
        in[i] = copy[i];
    }
    flat->apply(flat, in, y, DS_BLOCK);
    memcpy((float *)flat->y->data + at, y, count * sizeof(float));
}

static void task(void *context, int64_t item, int worker)
{
    const ds_flat *flat = context;
    const int64_t at = item * PIECE, left = ds_stored(flat->y) - at;
    const int64_t count = left < PIECE ? left : PIECE, tail = count % DS_BLOCK;
    const float *in[DS_FLAT_INPUTS] = {NULL};
    (void)worker;
    for (int i = 0; i < DS_FLAT_INPUTS; i++)
        in[i] = data_at(flat->in[i], at);
    flat->apply(flat, in, (float *)flat->y->data + at, count - tail);
    if (tail)
        apply_tail(flat, at + count - tail, (size_t)tail);
}

/* Maps of which some are bf16. */
typedef struct maps {
    const ds_flat *flat;
    ds_pairs pairs;
    int64_t chunks; /* of a block */
} maps;

static void apply_stretch(const ds_flat *flat, int64_t block, int64_t pixel, int64_t count)
{
    float buffer[DS_FLAT_INPUTS][DS_STRETCH_FLOATS], made[DS_STRETCH_FLOATS];
    const float *in[DS_FLAT_INPUTS];
    float *y = ds_pixels_to_write(flat->y, block, pixel, made);
    for (int i = 0; i < DS_FLAT_INPUTS; i++)
        in[i] = ds_read_pixels(flat->slots, flat->in[i], block, pixel, count, buffer[i]);
    flat->apply(flat, in, y, count * DS_BLOCK);
    ds_write_pixels(flat->slots, flat->y, block, pixel, count, y);
}

/* Item: one chunk of pixels of a pair of blocks. */
static void maps_task(void *context, int64_t item, int worker)
{
    const maps *m = context;
    const int64_t begin = item % m->chunks * DS_HALF_CHUNK;
    const int64_t pixels = m->flat->y->shape.h * m->flat->y->shape.w;
    int64_t end, first = ds_pair_blocks(&m->pairs, item / m->chunks, &end);
    (void)worker;
    for (int64_t pixel = begin; pixel < begin + DS_HALF_CHUNK && pixel < pixels;
         pixel += DS_STRETCH)
        for (int64_t block = first; block < end; block++)
            apply_stretch(m->flat, block, pixel,
                          pixels - pixel < DS_STRETCH ? pixels - pixel : DS_STRETCH);
}

void ds_flat_run(ds_pool *pool, const ds_flat *flat)
{
    const ds_shape s = flat->y->shape;
    bool half = ds_is_half(flat->y);
    for (int i = 0; i < DS_FLAT_INPUTS; i++)
        half |= flat->in[i] && ds_is_half(flat->in[i]);
    if (!half) {
        ds_pool_run(pool, (ds_stored(flat->y) + PIECE - 1) / PIECE, task, (void *)flat);
        return;
    }
    maps m = {.flat = flat,
              .pairs = ds_pairs_of(flat->y, true),
              .chunks = (s.h * s.w + DS_HALF_CHUNK - 1) / DS_HALF_CHUNK};
    ds_pool_run(pool, m.pairs.count * m.chunks, maps_task, &m);
}
