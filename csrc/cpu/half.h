/* Maps of either element type, read and written as floats in blocks of 16 channels. Those of bf16
   go through buffers that stay in the nearest caches, and both blocks that share their lines belong
   to one work item. Blocks are counted over all pictures. */
#ifndef DS_CPU_HALF_H
#define DS_CPU_HALF_H

#include "cpu/cpu.h"

enum {
    DS_STRETCH = 32, /* pixels that are converted at once where a loop may stop anywhere: 2 KiB */
    DS_STRETCH_FLOATS = DS_STRETCH * DS_BLOCK,
    DS_HALF_CHUNK = 128, /* pixels that are summed, and handed out, together */
    DS_HALF_CHUNK_FLOATS = DS_HALF_CHUNK * DS_BLOCK,
};

/* How the blocks of a map, or its planes, are handed out. */
typedef struct ds_pairs {
    int64_t blocks; /* of a picture */
    int64_t width;  /* of an item: 2 with bf16, else 1 */
    int64_t count;  /* items, of all pictures */
} ds_pairs;

ds_pairs ds_pairs_of(const ds_tensor *x, bool half);

/* The blocks of an item: the first, and *end behind the last. */
int64_t ds_pair_blocks(const ds_pairs *pairs, int64_t item, int64_t *end);

/* `count` pixels of a block from `pixel` on: where they lie, or in `buffer`. x NULL: NULL. */
const float *ds_read_pixels(const ds_slots *slots, const ds_tensor *x, int64_t block, int64_t pixel,
                            int64_t count, float *buffer);

/* Where such pixels are to be written: where they lie, or `buffer`. */
float *ds_pixels_to_write(const ds_tensor *y, int64_t block, int64_t pixel, float *buffer);

/* Stores what was written there. */
void ds_write_pixels(const ds_slots *slots, const ds_tensor *y, int64_t block, int64_t pixel,
                     int64_t count, const float *from);

/* What a convolution that rounds its operands takes `count` values of one that is of floats for;
   `to` may be `from`. */
void ds_round_operand(const ds_slots *slots, const ds_tensor *operand, const float *from, float *to,
                      int64_t count);

/* The 16 channels of a pixel of a block, where they lie. */
void *ds_pixel_at(const ds_tensor *x, int64_t block, int64_t pixel);

/* rows x columns pixels of a block, the first of which is `pixel`; from one row, and one column, to
   the next so many pixels. */
typedef struct ds_area {
    int64_t pixel, rows, columns, row, column;
} ds_area;

/* Between the pixels of an area and floats (rows, columns, 16). */
void ds_read_area(const ds_slots *slots, const ds_tensor *x, int64_t block, const ds_area *area,
                  float *to);
void ds_write_area(const ds_slots *slots, const ds_tensor *y, int64_t block, const ds_area *area,
                   const float *from);

#endif
