/* The end of a convolution whose inner loops compute floats: what they add to their sums, and where
   they leave them. Where all its maps are of floats that is in place; where one of them is bf16 a
   part of each, a few rows or a tile, lies as floats in scratch meanwhile. */
#ifndef DS_CPU_CONV_END_H
#define DS_CPU_CONV_END_H

#include "cpu/conv.h"
#include "cpu/half.h"

enum { DS_END_MAPS = 3 }; /* output, addend, gate */

typedef struct ds_end {
    const ds_slots *slots;
    const ds_tensor *y, *addend, *gate; /* NULL addend, gate: none */
    ds_finish finish;
    bool apart; /* through scratch */
} ds_end;

/* An area of some blocks (planar: channels) of picture n of the output. */
typedef struct ds_part {
    int64_t n, block, blocks;
    ds_area area;
} ds_part;

/* Where a part begins, how many floats lie between its blocks, rows and columns, and its
   epilogue. */
typedef struct ds_opened {
    float *y;
    int64_t block, row, column;
    ds_finish finish;
} ds_opened;

/* Floats of the scratch for parts of so many pixels, those of all blocks counted. */
int64_t ds_end_floats(const ds_step *step, int64_t pixels);

/* `bias`: as ds_finish has it, of all channels. */
ds_end ds_end_of(const ds_slots *slots, const ds_step *step, const float *bias);

/* The block with which a part begins, counted over all pictures. */
static inline int64_t ds_first_block(const ds_end *end, const ds_part *part)
{
    const int64_t c = end->y->shape.c;
    return part->n * (ds_is_blocked(end->y) ? ds_blocks(c) : c) + part->block;
}

/* A part in scratch, which it fills with what the end reads; and back to the output. */
ds_opened ds_end_read(const ds_end *end, const ds_part *part, float *scratch);
void ds_end_write(const ds_end *end, const ds_part *part, const float *scratch);

/* Inline: of a Winograd tile of floats the calls would show. */
static inline ds_opened ds_end_open(const ds_end *end, const ds_part *part, float *scratch)
{
    if (end->apart)
        return ds_end_read(end, part, scratch);
    const int64_t lanes = ds_block_lanes(end->y), plane = end->y->shape.h * end->y->shape.w;
    const int64_t at = (ds_first_block(end, part) * plane + part->area.pixel) * lanes;
    return (ds_opened){.y = (float *)end->y->data + at,
                       .block = plane * lanes,
                       .row = part->area.row * lanes,
                       .column = part->area.column * lanes,
                       .finish = ds_finish_at(&end->finish, at, part->block * lanes)};
}

/* Has what was left in scratch stored. */
static inline void ds_end_close(const ds_end *end, const ds_part *part, const float *scratch)
{
    if (end->apart)
        ds_end_write(end, part, scratch);
}

#endif
