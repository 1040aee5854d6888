#include "cpu/half.h"

#include <string.h>

ds_pairs ds_pairs_of(const ds_tensor *x, bool half)
{
    const ds_shape s = x->shape;
    ds_pairs p = {.blocks = ds_is_blocked(x) ? ds_blocks(s.c) : s.c, .width = half ? 2 : 1};
    p.count = s.n * ((p.blocks + p.width - 1) / p.width);
    return p;
}

int64_t ds_pair_blocks(const ds_pairs *p, int64_t item, int64_t *end)
{
    const int64_t items = (p->blocks + p->width - 1) / p->width; /* of a picture */
    const int64_t picture = item / items * p->blocks, first = item % items * p->width;
    *end = picture + (first + p->width < p->blocks ? first + p->width : p->blocks);
    return picture + first;
}

/* The first of the block's 16 channels among the 32 of a pixel. */
static ds_bf16 *half_at(const ds_tensor *x, int64_t block, int64_t pixel)
{
    const int64_t blocks = ds_blocks(x->shape.c), n = block / blocks, b = block % blocks;
    return ds_half_block(x, n, b / 2) + pixel * DS_HALF_BLOCK + b % 2 * DS_BLOCK;
}

/* Whether the other 16 channels of its pixels are empty lanes. */
static bool is_alone(const ds_tensor *y, int64_t block)
{
    const int64_t blocks = ds_blocks(y->shape.c), b = block % blocks;
    return b % 2 == 0 && b + 1 == blocks;
}

static float *float_at(const ds_tensor *x, int64_t block, int64_t pixel)
{
    return (float *)x->data + (block * x->shape.h * x->shape.w + pixel) * DS_BLOCK;
}

const float *ds_read_pixels(const ds_slots *slots, const ds_tensor *x, int64_t block, int64_t pixel,
                            int64_t count, float *buffer)
{
    if (!x)
        return NULL;
    if (!ds_is_half(x))
        return float_at(x, block, pixel);
    slots->widen(half_at(x, block, pixel), buffer, count);
    return buffer;
}

float *ds_pixels_to_write(const ds_tensor *y, int64_t block, int64_t pixel, float *buffer)
{
    return ds_is_half(y) ? buffer : float_at(y, block, pixel);
}

void ds_write_pixels(const ds_slots *slots, const ds_tensor *y, int64_t block, int64_t pixel,
                     int64_t count, const float *from)
{
    if (ds_is_half(y))
        slots->narrow(from, half_at(y, block, pixel), count, is_alone(y, block));
}

void ds_round_operand(const ds_slots *slots, const ds_tensor *operand, const float *from, float *to,
                      int64_t count)
{
    slots->round(from, ds_is_image(operand), to, count);
}

void *ds_pixel_at(const ds_tensor *x, int64_t block, int64_t pixel)
{
    return ds_is_half(x) ? (void *)half_at(x, block, pixel) : float_at(x, block, pixel);
}

void ds_read_area(const ds_slots *slots, const ds_tensor *x, int64_t block, const ds_area *area,
                  float *to)
{
    const void *map = ds_pixel_at(x, block, area->pixel);
    const int64_t together = area->column == 1 ? area->columns : 1;
    for (int64_t i = 0; i < area->rows; i++)
        for (int64_t j = 0; j < area->columns; j += together, to += together * DS_BLOCK) {
            const int64_t at = i * area->row + j * area->column;
            if (ds_is_half(x))
                slots->widen((const ds_bf16 *)map + at * DS_HALF_BLOCK, to, together);
            else
                memcpy(to, (const float *)map + at * DS_BLOCK,
                       (size_t)(together * DS_BLOCK) * sizeof *to);
        }
}

void ds_write_area(const ds_slots *slots, const ds_tensor *y, int64_t block, const ds_area *area,
                   const float *from)
{
    void *map = ds_pixel_at(y, block, area->pixel);
    const bool alone = is_alone(y, block);
    const int64_t together = area->column == 1 ? area->columns : 1;
    for (int64_t i = 0; i < area->rows; i++)
        for (int64_t j = 0; j < area->columns; j += together, from += together * DS_BLOCK) {
            const int64_t at = i * area->row + j * area->column;
            if (ds_is_half(y))
                slots->narrow(from, (ds_bf16 *)map + at * DS_HALF_BLOCK, together, alone);
            else
                memcpy((float *)map + at * DS_BLOCK, from,
                       (size_t)(together * DS_BLOCK) * sizeof *from);
        }
}
